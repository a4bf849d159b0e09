/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exitbus-stress: real children beside synthetic producers, beside subscribers of every kind, all
 * checked exactly while they run. The end comes in stages, so that nothing that was published can
 * hide: first those stop who come and go, then the producers, then all queues are drained.
 */
#include "../checks/latency.h"
#include "../checks/stream.h"
#include "../checks/verdict.h"
#include "../scenarios/scenarios.h"
#include "options.h"
#include "report.h"
#include "world.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Resident memory after the run may exceed that before it by so much. */
#define LEFT_LIMIT (1L << 20)
#define THREADS_MAX 256
#define SLOTHS 2

/* Sanitizers keep freed memory, and shadows of all memory: the resident set is theirs then. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RESIDENT_IS_OURS false
#else
#define RESIDENT_IS_OURS true
#endif

struct world world;

struct crew {
    pthread_t threads[THREADS_MAX];
    unsigned count;
};

static void start(struct crew *crew, void *(*body)(void *), unsigned how_many)
{
    for (unsigned i = 0; i < how_many; i++) {
        int error = pthread_create(&crew->threads[crew->count++], NULL, body, (void *)(uintptr_t)i);
        if (error) {
            fprintf(stderr, "exitbus-stress: cannot start a thread: %s\n", exitbus_strerror(error));
            exit(EXIT_ENVIRONMENT);
        }
    }
}

static void join(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        pthread_join(crew->threads[i], NULL);
}

static void must(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "exitbus-stress: %s: %s\n", what, exitbus_strerror(result));
        exit(EXIT_ENVIRONMENT);
    }
}

static void watch_over(struct result *result, uint64_t begin)
{
    const struct timespec moment = {.tv_nsec = 100000000};
    double elapsed = 0;
    while (elapsed < world.options.seconds && verdict_good()) {
        nanosleep(&moment, NULL);
        elapsed = (double)(now_ns() - begin) / 1e9;
        long resident = resident_bytes();
        if (resident > result->rss_peak)
            result->rss_peak = resident;
        report_progress(elapsed, resident);
    }
    report_progress_end();
}

/* Everything balances once all has been received. */
static void check_totals(struct result *result)
{
    must(exitbus_stats(world.bus, &result->stats), "stats");
    uint64_t spawned = atomic_load(&world.spawned), delivered = atomic_load(&world.exits_delivered);
    result->reaped =
        result->stats.published - atomic_load(&world.issued) - atomic_load(&world.forked);
    if (spawned != result->reaped || spawned != delivered)
        verdict_violated(G1,
                         "%" PRIu64 " children spawned, %" PRIu64 " reaped, %" PRIu64 " delivered",
                         spawned, result->reaped, delivered);
    if (result->stats.subscriptions != 0)
        verdict_violated(G6, "%" PRIu64 " subscriptions left", result->stats.subscriptions);
    verdict_held(G1, 1);
    verdict_held(G6, 1);
}

static void run(struct result *result)
{
    struct crew visitors = {0}, producers = {0}, residents = {0};
    struct exitbus_reaper *reaper;
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL};
    must(exitbus_create(&world.bus, NULL), "create");
    must(exitbus_reaper_start(world.bus, &all, &reaper), "reaper");

    uint64_t begin = now_ns();
    start(&residents, scenario_steady, world.options.steady);
    start(&residents, scenario_sloth, SLOTHS);
    struct exitbus_stats stats;
    do
        must(exitbus_stats(world.bus, &stats), "stats");
    while (stats.subscriptions < world.options.steady + SLOTHS);
    start(&producers, scenario_producer, world.options.producers);
    start(&visitors, scenario_churn, world.options.churners);
    start(&visitors, scenario_shared, 1);
    start(&visitors, scenario_spawner, world.options.spawners);
    start(&visitors, scenario_faults, 1);

    watch_over(result, begin);
    atomic_store(&world.stop_churn, true);
    join(&visitors);
    atomic_store(&world.stop_producers, true);
    join(&producers);
    atomic_store(&world.drained, true);
    join(&residents);
    result->elapsed = (double)(now_ns() - begin) / 1e9;
    check_totals(result);
    must(exitbus_reaper_stop(reaper), "stop the reaper");
    must(exitbus_destroy(world.bus), "destroy");
}

/* What the first use of everything costs stays: threads' arenas, stacks, standard output. */
static void warm_up(void)
{
    unsigned seconds = world.options.seconds;
    struct result ignored = {0};
    world.options.seconds = 0;
    run(&ignored);
    world.options.seconds = seconds;
    malloc_trim(0);
}

static void reset(void)
{
    struct options options = world.options;
    memset((void *)&world, 0, sizeof world);
    world.options = options;
    stream_forget();
}

int main(int argc, char **argv)
{
    options_parse(argc, argv, &world.options);
    latency_init();
    struct result result = {0};
    warm_up();
    reset();
    result.rss_begin = result.rss_peak = resident_bytes();
    run(&result);
    malloc_trim(0);
    result.rss_end = resident_bytes();
    if (RESIDENT_IS_OURS && result.rss_end > result.rss_begin + LEFT_LIMIT)
        verdict_violated(G7, "%ld KiB resident before, %ld KiB after", result.rss_begin / 1024,
                         result.rss_end / 1024);
    verdict_held(G7, RESIDENT_IS_OURS);
    result.pass = verdict_good();
    int status = result.pass ? EXIT_PASS : EXIT_VIOLATION;
    if (world.options.json && report_json(&result, world.options.json) < 0)
        status = EXIT_ENVIRONMENT;
    report_summary(&result);
    latency_free();
    return status;
}
