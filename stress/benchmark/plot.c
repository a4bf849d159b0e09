/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Charts by gnuplot, which reads its commands and the data from a pipe. Two kinds:
 * - curves: a cost over the number that a parameter begins with (N=16, 4+4), a line for each
 *   contender. exitbus is black, some have a colour and a name, the others are grey.
 * - ladders: p50, p99 and p99.9 of a latency, a rung for each contender.
 * The background is white, not transparent, so that a chart can be read on a dark page.
 */
#include "output.h"
#include "results.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAMED_MAX 7
#define OTHERS "others"

struct curves {
    const char *file, *workload, *metric, *title, *x_label, *y_label;
    double unit;                  /* of the y axis, in that of the series */
    const char *named[NAMED_MAX]; /* these have a colour */
};

static const struct curves curves[] = {
    {"fanout",
     "fanout",
     "delivery",
     "One event to N subscriptions: publish to receipt",
     "subscriptions",
     "ns per delivery",
     1,
     {"moodycamel-token", "tokio-broadcast", "crossbeam", "shim", "mutex+deque", "oneTBB"}},
    {"contended",
     "contended",
     "event",
     "Producers and consumers on one subscription",
     "producers (and as many consumers)",
     "ns per event",
     1,
     {"moodycamel-token", "wfcqueue", "crossbeam", "shim", "mutex+deque", "oneTBB"}},
    {"exits-watched",
     "exits",
     "CPU",
     "CPU time of an exit, while other children live on",
     "other children watched",
     "µs per exit",
     1000,
     {"exitbus-polled", "waitid", "sd-event", "waitid-any", "glib", "libuv", "tokio"}},
};

/* Of Okabe and Ito: told apart by colour-blind readers, too. */
static const char *const colours[NAMED_MAX] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                               "#e69f00", "#56b4e9", "#8c564b"};

/* On a logarithmic axis. */
#define TICS "(1,2,5,10,20,50,100,200,500,1000,2000,5000,10000,20000,50000,100000)"
#define X_MARGIN 1.02
#define Y_MARGIN 1.4

static void begin(FILE *gnuplot, const char *directory, const char *file, const char *title)
{
    fprintf(gnuplot,
            "reset\nset terminal svg size 720,400 font 'sans-serif,13' background 'white'\n"
            "set output '%s/%s.svg'\nset title \"%s\"\n"
            "set border 3 lc rgb '#666666'\nset tics nomirror textcolor rgb '#333333'\n"
            "set key outside right center noenhanced invert Left reverse samplen 2\n",
            directory, file, title);
}

/* ------------------------------------------------------------------------------------- curves */

/* The first number in a parameter. */
static double number_in(const char *parameter)
{
    return strtod(parameter + strcspn(parameter, "0123456789"), NULL);
}

static bool in_curves(const struct curves *chart, const struct series *series)
{
    return strcmp(series->workload, chart->workload) == 0 &&
           strcmp(series->metric, chart->metric) == 0 &&
           series->parameter[strcspn(series->parameter, "0123456789")] != '\0';
}

/* The colour of a contender; NULL: it is one of the others. */
static const char *colour_of(const struct curves *chart, const char *peer)
{
    if (strcmp(peer, EXITBUS) == 0)
        return "black";
    for (size_t i = 0; i < NAMED_MAX && chart->named[i]; i++)
        if (strcmp(chart->named[i], peer) == 0)
            return colours[i];
    return NULL;
}

/* Is this the first series of its contender in the chart? */
static bool first_of_peer(const struct curves *chart, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (in_curves(chart, &results.series[i]) &&
            strcmp(results.series[i].peer, results.series[index].peer) == 0)
            return false;
    return in_curves(chart, &results.series[index]);
}

/*
 * One block of data for each contender, by the index of its first series. Returns whether exitbus
 * is among them, without which there is no chart.
 */
static bool curves_data(FILE *gnuplot, const struct curves *chart)
{
    bool has_exitbus = false;
    for (size_t i = 0; i < results.count; i++) {
        if (!first_of_peer(chart, i))
            continue;
        fprintf(gnuplot, "$data%zu << EOD\n", i);
        for (size_t j = i; j < results.count; j++) {
            const struct series *series = &results.series[j];
            if (in_curves(chart, series) && strcmp(series->peer, results.series[i].peer) == 0)
                fprintf(gnuplot, "%g %g\n", number_in(series->parameter),
                        series->median / chart->unit);
        }
        fprintf(gnuplot, "EOD\n");
        has_exitbus |= strcmp(results.series[i].peer, EXITBUS) == 0;
    }
    return has_exitbus;
}

/* Where there is a number, a tic. Up and down, as far as exitbus and the named ones reach. */
static void curves_axes(FILE *gnuplot, const struct curves *chart)
{
    double least = 0, most = 0, left = 0, right = 0;
    fprintf(gnuplot, "set logscale xy\nset xlabel \"%s\"\nset ylabel \"%s\"\nset xtics (",
            chart->x_label, chart->y_label);
    bool first = true;
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (!in_curves(chart, series) || !colour_of(chart, series->peer))
            continue;
        double value = series->median / chart->unit;
        least = least == 0 || value < least ? value : least;
        most = value > most ? value : most;
        if (strcmp(series->peer, EXITBUS) != 0)
            continue;
        double place = number_in(series->parameter);
        left = right == 0 || place < left ? place : left;
        right = place > right ? place : right;
        fprintf(gnuplot, "%s%.0f", first ? "" : ",", place);
        first = false;
    }
    fprintf(gnuplot,
            ")\nset ytics " TICS "\nset grid ytics lt 1 lc rgb '#e0e0e0'\n"
            "set xrange [%g:%g]\nset yrange [%g:%g]\n",
            left / X_MARGIN, right * X_MARGIN, least / Y_MARGIN, most * Y_MARGIN);
}

/* The others below, exitbus above all; the key, inverted, begins with exitbus. */
static void curves_lines(FILE *gnuplot, const struct curves *chart)
{
    const char *separator = "plot";
    for (size_t i = 0; i < results.count; i++) {
        if (!first_of_peer(chart, i) || colour_of(chart, results.series[i].peer))
            continue;
        fprintf(gnuplot, "%s $data%zu using 1:2 with lines lw 1 lc rgb '#cccccc' ", separator, i);
        fprintf(gnuplot, *separator == ',' ? "notitle" : "title '%s'", OTHERS);
        separator = ",";
    }
    for (size_t place = NAMED_MAX + 1; place-- > 0;)
        for (size_t i = 0; i < results.count; i++) {
            const char *name = place == 0 ? EXITBUS : chart->named[place - 1];
            const char *peer = results.series[i].peer;
            if (!first_of_peer(chart, i) || !name || strcmp(peer, name) != 0)
                continue;
            fprintf(gnuplot,
                    "%s $data%zu using 1:2 with linespoints lw %d lc rgb '%s' pt 7 ps 0.5 "
                    "title \"%s\"",
                    separator, i, place == 0 ? 4 : 2, colour_of(chart, peer), peer);
            separator = ",";
        }
    fprintf(gnuplot, "\n");
}

static void curves_write(FILE *gnuplot, const char *directory, const struct curves *chart)
{
    if (!curves_data(gnuplot, chart))
        return;
    begin(gnuplot, directory, chart->file, chart->title);
    curves_axes(gnuplot, chart);
    curves_lines(gnuplot, chart);
}

/* ------------------------------------------------------------------------------------ ladders */

static const char *const rungs[] = {"p50", "p99", "p99.9"};
#define RUNGS (sizeof rungs / sizeof *rungs)

static bool in_ladder(const char *workload, const struct series *series)
{
    return strcmp(series->workload, workload) == 0 && strcmp(series->metric, rungs[0]) == 0 &&
           result_find(workload, series->parameter, series->peer, rungs[RUNGS - 1]);
}

/* A line for each contender: its place and its name, and the numbers in µs. Returns how many. */
static unsigned ladder_data(FILE *gnuplot, const char *workload)
{
    unsigned place = 0;
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (!in_ladder(workload, series))
            continue;
        if (place == 0)
            fprintf(gnuplot, "$ladder << EOD\n");
        fprintf(gnuplot, "%u \"%s, %s\"", place++, series->peer, series->parameter);
        for (size_t rung = 0; rung < RUNGS; rung++)
            fprintf(gnuplot, " %g",
                    result_find(workload, series->parameter, series->peer, rungs[rung])->median /
                        1000);
        fprintf(gnuplot, "\n");
    }
    if (place > 0)
        fprintf(gnuplot, "EOD\n");
    return place;
}

static void ladder_write(FILE *gnuplot, const char *directory, const char *workload)
{
    unsigned places = ladder_data(gnuplot, workload);
    if (places == 0)
        return;
    char file[64], title[96];
    snprintf(file, sizeof file, "%s-latency", workload);
    snprintf(title, sizeof title, "Latency of %s: from publish to the receiver's return", workload);
    begin(gnuplot, directory, file, title);
    fprintf(gnuplot,
            "set logscale x\nset xlabel \"µs\"\nset xtics " TICS "\nset yrange [%u.5:-0.5]\n"
            "set ytics scale 0 noenhanced\nset grid xtics lt 1 lc rgb '#e0e0e0'\n"
            "set key noinvert\nset autoscale xfix\nset offsets graph 0.03, graph 0.03, 0, 0\n"
            "plot $ladder using 3:1:($%zu-$3):(0):ytic(2) with vectors nohead lw 2 "
            "lc rgb '#cccccc' notitle",
            places - 1, 2 + RUNGS);
    for (size_t rung = 0; rung < RUNGS; rung++)
        fprintf(gnuplot, ", $ladder using %zu:1 with points pt 7 ps 0.9 lc rgb '%s' title '%s'",
                3 + rung, colours[rung], rungs[rung]);
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
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
        curves_write(gnuplot, directory, &curves[i]);
    for (size_t i = 0; workloads[i]; i++)
        ladder_write(gnuplot, directory, workloads[i]->name);
    if (pclose(gnuplot) == 0)
        return true;
    fprintf(stderr, "exitbus-bench: gnuplot failed\n");
    return false;
}
