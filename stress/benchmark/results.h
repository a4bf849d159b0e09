/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The store behind result_add(): a series for each (workload, parameter, peer, metric), a value for
 * each round. Filled from one thread, by workloads or by csv_read(); read by all of output.h and by
 * targets.c.
 */
#ifndef BENCH_RESULTS_H
#define BENCH_RESULTS_H

#include "bench.h"

struct series {
    char *workload, *parameter, *peer, *metric, *unit;
    double *values; /* one a round */
    size_t count;
    double median, min, max;
};

/*
 * A line below a table: about one peer, or (peer NULL) about the workload. One whose workload is ""
 * is about the run, and stands above all tables.
 */
struct remark {
    char *workload, *peer, *text;
};

/* Cores whose round trip takes no longer are near, others far: docs/performance.md. */
#define NEAR_NS 200

/* How far the cores were from each other when a workload began, and when it had ended. */
struct round_trip {
    char *workload;
    double before_ns, after_ns;
};

extern struct results {
    struct series *series;
    size_t count, room;
    struct remark *remarks;
    size_t remark_count, remark_room;
    struct round_trip *trips;
    size_t trip_count, trip_room;
} results;

void result_round_trip(const char *workload, double before_ns, double after_ns);

bool series_higher_is_better(const struct series *series);

/* NULL if there is none. */
const struct series *result_find(const char *workload, const char *parameter, const char *peer,
                                 const char *metric);

/* A contender that shows what the machine can do at best, and promises too little to be a peer. */
bool result_is_floor(const char *peer);

/*
 * The best peer's series beside `series` (same workload, parameter, metric). Floors are no peers,
 * nor is exitbus, however it is used ("exitbus-polled").
 */
const struct series *result_best_peer(const struct series *series);

void results_free(void);

#endif
