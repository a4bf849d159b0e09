/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The store: see results.h. A run has some hundred series: looking through all is fast enough. */
#include "results.h"

#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct results results;

static void *checked(void *memory)
{
    if (!memory)
        bench_die("out of memory");
    return memory;
}

static char *copy(const char *text)
{
    return text ? checked(strdup(text)) : NULL;
}

/* Room for one more in an array of `count`. */
static void *grown(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return array;
    *room = *room ? 2 * *room : 16;
    return checked(reallocarray(array, *room, size));
}

/* ------------------------------------------------------------------------------------- series */

static struct series *find(const char *workload, const char *parameter, const char *peer,
                           const char *metric)
{
    for (size_t i = 0; i < results.count; i++) {
        struct series *series = &results.series[i];
        if (strcmp(series->workload, workload) == 0 && strcmp(series->peer, peer) == 0 &&
            strcmp(series->parameter, parameter) == 0 && strcmp(series->metric, metric) == 0)
            return series;
    }
    return NULL;
}

const struct series *result_find(const char *workload, const char *parameter, const char *peer,
                                 const char *metric)
{
    return find(workload, parameter, peer, metric);
}

static void summarize(struct series *series)
{
    double *sorted = checked(malloc(series->count * sizeof *sorted));
    memcpy(sorted, series->values, series->count * sizeof *sorted);
    gsl_sort(sorted, 1, series->count);
    series->median = gsl_stats_median_from_sorted_data(sorted, 1, series->count);
    series->min = sorted[0];
    series->max = sorted[series->count - 1];
    free(sorted);
}

void result_add(const char *workload, const char *parameter, const char *peer, const char *metric,
                const char *unit, double value)
{
    struct series *series = find(workload, parameter, peer, metric);
    if (!series) {
        results.series =
            grown(results.series, results.count, &results.room, sizeof *results.series);
        series = &results.series[results.count++];
        *series = (struct series){.workload = copy(workload),
                                  .parameter = copy(parameter),
                                  .peer = copy(peer),
                                  .metric = copy(metric),
                                  .unit = copy(unit)};
    }
    series->values =
        checked(reallocarray(series->values, series->count + 1, sizeof *series->values));
    series->values[series->count++] = value;
    summarize(series);
}

bool series_higher_is_better(const struct series *series)
{
    size_t size = strlen(series->unit);
    return size >= 2 && strcmp(series->unit + size - 2, "/s") == 0;
}

bool result_is_floor(const char *peer)
{
    return strncmp(peer, "bare", strlen("bare")) == 0;
}

static bool is_exitbus(const char *peer)
{
    return strncmp(peer, EXITBUS, strlen(EXITBUS)) == 0;
}

const struct series *result_best_peer(const struct series *of)
{
    const struct series *best = NULL;
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (strcmp(series->workload, of->workload) != 0 || is_exitbus(series->peer) ||
            strcmp(series->parameter, of->parameter) != 0 ||
            strcmp(series->metric, of->metric) != 0 || result_is_floor(series->peer))
            continue;
        bool higher = best && series->median > best->median;
        if (!best || higher == series_higher_is_better(of))
            best = series;
    }
    return best;
}

/* ---------------------------------------------------------------------------------- latencies */

void result_add_latencies(const char *workload, const char *parameter, const char *peer,
                          double *samples, size_t count)
{
    static const struct {
        const char *name;
        double place;
    } shown[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
    gsl_sort(samples, 1, count);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        result_add(workload, parameter, peer, shown[i].name, "ns",
                   gsl_stats_quantile_from_sorted_data(samples, 1, count, shown[i].place));
}

/* ------------------------------------------------------------------------------------ remarks */

static void remark(const char *workload, const char *peer, const char *text)
{
    for (size_t i = 0; i < results.remark_count; i++) {
        const struct remark *known = &results.remarks[i];
        if (strcmp(known->workload, workload) == 0 && strcmp(known->text, text) == 0 &&
            (peer ? known->peer && strcmp(known->peer, peer) == 0 : !known->peer))
            return;
    }
    results.remarks =
        grown(results.remarks, results.remark_count, &results.remark_room, sizeof *results.remarks);
    results.remarks[results.remark_count++] =
        (struct remark){copy(workload), copy(peer), copy(text)};
}

void result_leave_out(const char *workload, const char *peer, const char *why)
{
    remark(workload, peer, why);
}

void result_note(const char *workload, const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        bench_die("out of memory");
    va_end(arguments);
    remark(workload, NULL, text);
    free(text);
}

void result_round_trip(const char *workload, double before_ns, double after_ns)
{
    results.trips =
        grown(results.trips, results.trip_count, &results.trip_room, sizeof *results.trips);
    results.trips[results.trip_count++] = (struct round_trip){copy(workload), before_ns, after_ns};
}

void results_free(void)
{
    for (size_t i = 0; i < results.count; i++) {
        struct series *series = &results.series[i];
        free(series->workload);
        free(series->parameter);
        free(series->peer);
        free(series->metric);
        free(series->unit);
        free(series->values);
    }
    for (size_t i = 0; i < results.remark_count; i++) {
        free(results.remarks[i].workload);
        free(results.remarks[i].peer);
        free(results.remarks[i].text);
    }
    for (size_t i = 0; i < results.trip_count; i++)
        free(results.trips[i].workload);
    free(results.series);
    free(results.remarks);
    free(results.trips);
}
