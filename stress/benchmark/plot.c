/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Curves by gnuplot, which reads its commands and the data from a pipe: time over a number that a
 * parameter ends in (N=16, 4+4), a line for each contender, and distributions of latency.
 */
#include "output.h"
#include "results.h"

#include <errno.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct chart {
    const char *file, *workload, *metric, *title, *x_label, *y_label;
    double unit; /* of the y axis, in that of the series */
};

static const struct chart charts[] = {
    {"fanout", "fanout", "delivery", "One event to N subscriptions", "subscriptions",
     "ns per delivery", 1},
    {"contended", "contended", "event", "Producers and consumers on one queue",
     "producers (and as many consumers)", "ns per event", 1},
    {"exits-watched", "exits", "CPU", "CPU time of an exit, while others live on",
     "other children watched", "µs per exit", 1000},
};

/* The first number in a parameter. */
static double number_in(const char *parameter)
{
    return strtod(parameter + strcspn(parameter, "0123456789"), NULL);
}

static bool in_chart(const struct chart *chart, const struct series *series)
{
    return strcmp(series->workload, chart->workload) == 0 &&
           strcmp(series->metric, chart->metric) == 0 &&
           series->parameter[strcspn(series->parameter, "0123456789")] != '\0';
}

/* Is this the first series of its contender in the chart? */
static bool first_of_peer(const struct chart *chart, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (in_chart(chart, &results.series[i]) &&
            strcmp(results.series[i].peer, results.series[index].peer) == 0)
            return false;
    return in_chart(chart, &results.series[index]);
}

static void style(FILE *gnuplot, const char *directory, const char *file, const char *title,
                  const char *x_label, const char *y_label)
{
    fprintf(gnuplot,
            "reset\nset terminal pngcairo size 1000,600 font 'sans,11'\n"
            "set output '%s/%s.png'\nset title \"%s\"\nset xlabel \"%s\"\nset ylabel \"%s\"\n"
            "set key outside right top noenhanced\nset grid ytics lc rgb '#dddddd'\n"
            "set logscale y\n",
            directory, file, title, x_label, y_label);
}

/* exitbus stands out: thick and black. Floors are grey; peers have a colour, then that colour
 * dashed. */
static void line_style(FILE *gnuplot, const char *peer, const char *title, unsigned number)
{
    static const char *const colours[] = {"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728",
                                          "#9467bd", "#8c564b", "#e377c2", "#17becf"};
    const unsigned count = sizeof colours / sizeof *colours;
    fprintf(gnuplot, "title \"%s\" ", title);
    if (strcmp(peer, EXITBUS) == 0)
        fprintf(gnuplot, "lw 3 lc rgb 'black' dt %u", number / count % 2 + 1);
    else if (result_is_floor(peer))
        fprintf(gnuplot, "lw 2 lc rgb '#999999' dt 3");
    else
        fprintf(gnuplot, "lw 1.5 lc rgb '%s' dt %u", colours[number % count],
                number / count % 2 + 1);
}

static void chart_write(FILE *gnuplot, const char *directory, const struct chart *chart)
{
    unsigned number = 0;
    for (size_t i = 0; i < results.count; i++) {
        if (!first_of_peer(chart, i))
            continue;
        fprintf(gnuplot, "$data%u << EOD\n", number++);
        for (size_t j = i; j < results.count; j++) {
            const struct series *series = &results.series[j];
            if (in_chart(chart, series) && strcmp(series->peer, results.series[i].peer) == 0)
                fprintf(gnuplot, "%g %g\n", number_in(series->parameter),
                        series->median / chart->unit);
        }
        fprintf(gnuplot, "EOD\n");
    }
    if (number == 0)
        return;
    style(gnuplot, directory, chart->file, chart->title, chart->x_label, chart->y_label);
    fprintf(gnuplot, "set logscale x 2\n");
    unsigned line = 0;
    for (size_t i = 0; i < results.count; i++) {
        if (!first_of_peer(chart, i))
            continue;
        const char *peer = results.series[i].peer;
        fprintf(gnuplot, "%s $data%u using 1:2 with linespoints ", line == 0 ? "plot" : ",", line);
        line_style(gnuplot, peer, peer, line);
        fprintf(gnuplot, " pt 7 ps 0.7");
        line++;
    }
    fprintf(gnuplot, "\n");
}

/* ------------------------------------------------------------------------------ distributions */

static double quantile_median(const struct series *series, unsigned place)
{
    double *of_rounds = malloc(series->count * sizeof *of_rounds);
    if (!of_rounds)
        bench_die("out of memory");
    for (size_t round = 0; round < series->count; round++)
        of_rounds[round] = series->quantiles[round * QUANTILES + place];
    double median = gsl_stats_median(of_rounds, 1, series->count);
    free(of_rounds);
    return median;
}

static bool in_distribution(const char *workload, const struct series *series)
{
    return series->quantiles && strcmp(series->workload, workload) == 0;
}

static void distribution_write(FILE *gnuplot, const char *directory, const char *workload)
{
    unsigned number = 0;
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (!in_distribution(workload, series))
            continue;
        fprintf(gnuplot, "$data%u << EOD\n", number++);
        for (unsigned place = 0; place < QUANTILES; place++)
            fprintf(gnuplot, "%g %g\n", 1 / (1 - result_quantile_place(place)),
                    quantile_median(series, place) / 1000);
        fprintf(gnuplot, "EOD\n");
    }
    if (number == 0)
        return;
    char file[64];
    snprintf(file, sizeof file, "%s-latency", workload);
    char heading[96];
    snprintf(heading, sizeof heading, "Latency of %s", workload);
    style(gnuplot, directory, file, heading, "percentile", "µs");
    fprintf(gnuplot, "set logscale x\nset xrange [1:10000]\n"
                     "set xtics ('0' 1, '50' 2, '90' 10, '99' 100, '99.9' 1000, '99.99' 10000)\n");
    unsigned line = 0;
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (!in_distribution(workload, series))
            continue;
        char title[128];
        snprintf(title, sizeof title, "%s %s", series->peer, series->parameter);
        fprintf(gnuplot, "%s $data%u using 1:2 with lines ", line == 0 ? "plot" : ",", line);
        line_style(gnuplot, series->peer, title, line);
        line++;
    }
    fprintf(gnuplot, "\n");
}

bool plot_write(const char *directory)
{
    if (mkdir(directory, 0777) < 0 && errno != EEXIST) {
        fprintf(stderr, "exitbus-bench: cannot make %s: %s\n", directory, strerror(errno));
        return false;
    }
    FILE *gnuplot = popen("gnuplot", "w");
    if (!gnuplot) {
        fprintf(stderr, "exitbus-bench: cannot start gnuplot\n");
        return false;
    }
    for (size_t i = 0; i < sizeof charts / sizeof *charts; i++)
        chart_write(gnuplot, directory, &charts[i]);
    for (size_t i = 0; workloads[i]; i++)
        distribution_write(gnuplot, directory, workloads[i]->name);
    if (pclose(gnuplot) == 0)
        return true;
    fprintf(stderr, "exitbus-bench: gnuplot failed\n");
    return false;
}
