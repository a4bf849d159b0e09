/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The results as JSON: what was run, where, and every number of every round. */
#include "output.h"
#include "results.h"
#include "targets.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/utsname.h>

static json_t *series_json(const struct series *series)
{
    json_t *values = json_array();
    for (size_t i = 0; i < series->count; i++)
        json_array_append_new(values, json_real(series->values[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:f, s:f, s:f}", "workload", series->workload,
                     "parameter", series->parameter, "peer", series->peer, "metric", series->metric,
                     "unit", series->unit, "rounds", values, "median", series->median, "min",
                     series->min, "max", series->max);
}

static json_t *machine_json(void)
{
    struct utsname name;
    uname(&name);
    return json_pack("{s:s, s:s, s:i}", "kernel", name.release, "architecture", name.machine,
                     "cores", (int)machine_cores());
}

bool json_write(const char *file, int argc, char **argv)
{
    json_t *command = json_array(), *series = json_array(), *trips = json_array();
    json_t *remarks = json_array();
    for (int i = 0; i < argc; i++)
        json_array_append_new(command, json_string(argv[i]));
    for (size_t i = 0; i < results.count; i++)
        json_array_append_new(series, series_json(&results.series[i]));
    for (size_t i = 0; i < results.trip_count; i++)
        json_array_append_new(
            trips, json_pack("{s:s, s:f, s:f}", "workload", results.trips[i].workload, "before_ns",
                             results.trips[i].before_ns, "after_ns", results.trips[i].after_ns));
    for (size_t i = 0; i < results.remark_count; i++)
        json_array_append_new(
            remarks, json_pack("{s:s, s:s?, s:s}", "workload", results.remarks[i].workload, "peer",
                               results.remarks[i].peer, "text", results.remarks[i].text));
    json_t *all =
        json_pack("{s:s, s:o, s:o, s:i, s:f, s:o, s:o, s:o}", "version", BENCH_VERSION, "command",
                  command, "machine", machine_json(), "rounds", (int)bench.rounds, "seconds",
                  bench.seconds, "round_trips", trips, "remarks", remarks, "series", series);
    bool written = all && json_dump_file(all, file, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    json_decref(all);
    if (!written)
        fprintf(stderr, "exitbus-bench: cannot write %s\n", file);
    return written;
}
