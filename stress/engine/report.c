/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run shows: see report.h. */
#include "report.h"
#include "../checks/latency.h"
#include "../checks/verdict.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#define MIB (1024.0 * 1024.0)

long resident_bytes(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

void report_progress(double elapsed, long resident)
{
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr,
            "\r\033[K%5.1f s  %" PRIu64 " children  %.1f M events  %.1f M deliveries  %.1f MiB  %s",
            elapsed, atomic_load(&world.exits_delivered), (double)atomic_load(&world.issued) / 1e6,
            (double)atomic_load(&world.deliveries) / 1e6, (double)resident / MIB,
            verdict_good() ? "" : "VIOLATIONS");
}

void report_progress_end(void)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

static void print_command(void)
{
    printf("command      ");
    for (int i = 0; i < world.options.argc; i++)
        printf(" %s", world.options.argv[i]);
    printf("\nseed          %" PRIu64 "\n", world.options.seed);
}

void report_summary(const struct result *result)
{
    print_command();
    printf("time          %.1f s\n", result->elapsed);
    printf("children      %" PRIu64 " spawned = %" PRIu64 " reaped = %" PRIu64 " delivered\n",
           atomic_load(&world.spawned), result->reaped, atomic_load(&world.exits_delivered));
    printf("events        %" PRIu64 " published, %" PRIu64 " of them finished by another thread\n",
           result->stats.published, result->stats.helped);
    printf("deliveries    %" PRIu64 " checked, on %" PRIu64 " subscriptions that came and went\n",
           atomic_load(&world.deliveries), atomic_load(&world.subscriptions));
    printf("checks\n");
    for (int g = 0; g < GUARANTEES; g++)
        printf("  %-34s %14" PRIu64 " held, %" PRIu64 " violated\n", guarantee_names[g],
               verdict_checks((enum guarantee)g) - verdict_violations((enum guarantee)g),
               verdict_violations((enum guarantee)g));
    printf("latency, us                                p50        p99      p99.9        max\n");
    for (int i = 0; i < LATENCIES; i++) {
        struct latency_summary s = latency_summarize((enum latency)i);
        printf("  %-30s %11.1f %10.1f %10.1f %10.1f  (%" PRIu64 ")\n", latency_names[i], s.p50,
               s.p99, s.p999, s.max, s.count);
    }
    printf("resident, MiB %.1f at begin, %.1f at peak, %.1f at end\n",
           (double)result->rss_begin / MIB, (double)result->rss_peak / MIB,
           (double)result->rss_end / MIB);
    printf("%s\n", result->pass ? "PASS" : "FAIL");
}

static json_t *json_checks(void)
{
    json_t *checks = json_object();
    for (int g = 0; g < GUARANTEES; g++)
        json_object_set_new(checks, guarantee_names[g],
                            json_pack("{s:I, s:I}", "checks",
                                      (json_int_t)verdict_checks((enum guarantee)g), "violations",
                                      (json_int_t)verdict_violations((enum guarantee)g)));
    return checks;
}

static json_t *json_latencies(void)
{
    json_t *latencies = json_object();
    for (int i = 0; i < LATENCIES; i++) {
        struct latency_summary s = latency_summarize((enum latency)i);
        json_object_set_new(latencies, latency_names[i],
                            json_pack("{s:I, s:f, s:f, s:f, s:f}", "count", (json_int_t)s.count,
                                      "p50_us", s.p50, "p99_us", s.p99, "p99.9_us", s.p999,
                                      "max_us", s.max));
    }
    return latencies;
}

int report_json(const struct result *result, const char *path)
{
    json_t *command = json_array();
    for (int i = 0; i < world.options.argc; i++)
        json_array_append_new(command, json_string(world.options.argv[i]));
    json_t *root = json_pack(
        "{s:s, s:o, s:s, s:f, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:I, s:o, s:o, s:{s:I, s:I, s:I}}",
        "verdict", result->pass ? "PASS" : "FAIL", "command", command, "version", exitbus_version(),
        "seconds", result->elapsed, "children", "spawned", (json_int_t)atomic_load(&world.spawned),
        "reaped", (json_int_t)result->reaped, "delivered",
        (json_int_t)atomic_load(&world.exits_delivered), "seed", (json_int_t)world.options.seed,
        "published", (json_int_t)result->stats.published, "helped",
        (json_int_t)result->stats.helped, "deliveries", (json_int_t)atomic_load(&world.deliveries),
        "checks", json_checks(), "latency", json_latencies(), "resident_bytes", "begin",
        (json_int_t)result->rss_begin, "peak", (json_int_t)result->rss_peak, "end",
        (json_int_t)result->rss_end);
    int failed = json_dump_file(root, path, JSON_INDENT(2));
    json_decref(root);
    if (failed)
        fprintf(stderr, "exitbus-stress: cannot write %s\n", path);
    return failed ? -1 : 0;
}
