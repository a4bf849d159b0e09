/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus-bench: exitbus and its peers in one run. Runs the workloads one after the other, each
 * between two looks at the distance of the cores, and shows what came out. With --from it shows
 * what came out of an earlier run.
 */
#include "options.h"
#include "output.h"
#include "peers.h"
#include "results.h"
#include "targets.h"
#include "workloads/backlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

/* The workloads that --threads is for. */
#define THREADED "burst,pair,fanout,fanout2,contended"

/* A misspelt name must not pass for a run. */
static void check_workloads(void)
{
    if (!bench.workloads && bench.threads)
        bench.workloads = THREADED;
    if (!bench.workloads)
        return;
    char *copy = strdup(bench.workloads), *rest = copy, *name;
    while (copy && (name = strsep(&rest, ","))) {
        size_t i = 0;
        while (workloads[i] && strcmp(workloads[i]->name, name) != 0)
            i++;
        if (workloads[i] && (!bench.threads || options_named(THREADED, name)))
            continue;
        if (workloads[i])
            fprintf(stderr, "exitbus-bench: --threads is not for '%s', only for " THREADED "\n",
                    name);
        else
            fprintf(stderr,
                    "exitbus-bench: there is no workload '%s'; --list shows those there are\n",
                    name);
        exit(EXIT_USAGE);
    }
    free(copy);
}

static int list(void)
{
    printf("workloads\n");
    for (size_t i = 0; workloads[i]; i++)
        printf("  %-10s %s\n", workloads[i]->name, workloads[i]->what);
    printf("peers\n");
    for (size_t i = 0; i < peer_count; i++)
        printf("  %-18s %s\n", peers[i]->name, peers[i]->what);
    return EXIT_PASS;
}

static void run(const struct workload *workload)
{
    double before_ns = machine_round_trip_ns();
    uint64_t begin = now_ns();
    workload->run();
    double seconds = (double)(now_ns() - begin) / 1e9;
    result_round_trip(workload->name, before_ns, machine_round_trip_ns());
    fprintf(stderr, "exitbus-bench: %s took %.1f s\n", workload->name, seconds);
}

/* What a reader of the numbers must know of the whole run. */
static void note_run(void)
{
    struct utsname name;
    uname(&name);
    char date[64], model[128];
    time_t now = time(NULL);
    struct tm day;
    strftime(date, sizeof date, "%Y-%m-%d", localtime_r(&now, &day));
    machine_model(model, sizeof model);
    result_note("", "exitbus %s, measured on %s: %u rounds in about %.0f s", BENCH_VERSION, date,
                bench.rounds, bench.seconds);
    result_note("", "%u cores of %s, Linux %s, %s", machine_cores(), model, name.release,
                name.machine);
    if (bench.threads > machine_cores())
        result_note("", "%u threads are more than the cores", bench.threads);
}

static bool has_results(const char *workload)
{
    for (size_t i = 0; i < results.count; i++)
        if (strcmp(results.series[i].workload, workload) == 0)
            return true;
    return false;
}

static void run_all(void)
{
    if (bench.from)
        csv_read(bench.from);
    else
        note_run();
    table_begin();
    for (size_t i = 0; workloads[i]; i++) {
        const char *name = workloads[i]->name;
        bool measured = !bench.from && (!bench.workloads || options_named(bench.workloads, name));
        if (measured)
            run(workloads[i]);
        if (measured || has_results(name))
            table_print(workloads[i]);
    }
    summary_print();
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    if (bench.list)
        return list();
    if (bench.backlog)
        return backlog_alone(bench.backlog);
    check_workloads();
    run_all();
    unsigned missed = targets_print();
    bool written = (!bench.csv || csv_write(bench.csv)) &&
                   (!bench.json || json_write(bench.json, argc, argv)) &&
                   (!bench.plots || plot_write(bench.plots));
    results_free();
    if (!written)
        return EXIT_ENVIRONMENT;
    return bench.check && missed > 0 ? EXIT_MISSED : EXIT_PASS;
}
