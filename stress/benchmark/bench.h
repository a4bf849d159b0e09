/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a workload of exitbus-bench is written against. A workload is one function: it measures all
 * contenders, one after the other within each round, and hands over each number with result_add().
 * Tables, CSV, JSON, plots and targets are made of those numbers; a workload prints nothing.
 *
 *     static void run(void)
 *     {
 *         for (unsigned round = 0; round < bench.rounds; round++)
 *             for (unsigned i = 0; i < peers; i++)
 *                 if (bench_wants(name[i]))
 *                     result_add("mine", "N=1", name[i], "publish", "ns", measure(i));
 *     }
 *     const struct workload mine_workload = {"mine", "what it measures, in a line", run};
 *
 * and a line in workloads.c. How long one measurement takes is a share of the whole run that the
 * workload asks for with bench_slice(): nothing is sized by a fixed number of events.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exit codes, as exitbus-stress has them. */
enum { EXIT_PASS = 0, EXIT_MISSED = 1, EXIT_USAGE = 2, EXIT_ENVIRONMENT = 3 };

#define CACHE_LINE 64

/* The library itself, by the name that every table and target uses. */
#define EXITBUS "exitbus"

/* ------------------------------------------------------------------------------------ options */

struct bench_options {
    unsigned rounds;       /* measurements of every number */
    double seconds;        /* about how long the whole of the workloads takes */
    unsigned threads;      /* of each measurement, an even number; 0: what the workload has */
    const char *workloads; /* NAME,…; NULL: all */
    const char *peers;     /* NAME,…: exitbus and only these; NULL: all */
    const char *from;      /* CSV to read instead of measuring, or NULL */
    const char *csv;       /* file to write, or NULL */
    const char *json;      /* likewise */
    const char *plots;     /* directory to write, or NULL */
    bool check;            /* a missed target is a failure */
    const char *backlog;   /* PEER:EVENTS:SUBSCRIPTIONS: be the process of workload backlog */
    bool list;             /* name workloads and peers, and end */
};

extern struct bench_options bench;

/* Does the user want this contender? exitbus always runs: it is what all are compared with. */
bool bench_wants(const char *peer);

/*
 * Nanoseconds for one measurement that takes `milliseconds` in a run of the default length
 * (BENCH_SECONDS): less in a --quick one.
 */
#define BENCH_SECONDS 480
uint64_t bench_slice(double milliseconds);

/* A line to standard error, and out with EXIT_ENVIRONMENT: a measurement cannot be made at all. */
void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---------------------------------------------------------------------------------- workloads */

struct workload {
    const char *name;
    const char *what; /* one line: stands above the table */
    void (*run)(void);
};

extern const struct workload *const workloads[]; /* in the order of a run; ends with NULL */

/* ------------------------------------------------------------------------------------ results */

/*
 * One number of one round. `parameter` is the variant ("N=16", "4+4"; "" if there is but one),
 * `metric` what was measured ("publish", "p99"). A unit that ends in "/s" is better when higher,
 * every other when lower. The n-th call with the same names is the n-th round. Strings are copied.
 * A contender whose name begins with "bare" is a floor: it is shown, but is nobody's best peer.
 */
void result_add(const char *workload, const char *parameter, const char *peer, const char *metric,
                const char *unit, double value);

/*
 * Every sample of a distribution, in nanoseconds, of one round: stored as p50, p99 and p99.9. Sorts
 * `samples`.
 */
void result_add_latencies(const char *workload, const char *parameter, const char *peer,
                          double *samples, size_t count);

/* A contender that cannot do this workload, and why: a line below the table. */
void result_leave_out(const char *workload, const char *peer, const char *why);

/*
 * A line below the table: what the reader must know of how it was measured. If `workload` is "", a
 * line above all tables.
 */
void result_note(const char *workload, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------------------------------------ machine */

uint64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Cores that this process may use, and pinning of the calling thread to the n-th (modulo). */
unsigned machine_cores(void);
void machine_pin(unsigned core);
void machine_unpin(void);

/*
 * Nanoseconds in which a cache line goes to another core and comes back. Cores of a virtual machine
 * are near at one time and far at another, and results between them go with it.
 */
double machine_round_trip_ns(void);

/* Resident set of this process, bytes. */
size_t machine_resident(void);

/* The model of its processors, as the kernel names it. Cuts the name to `size` - 1 bytes. */
void machine_model(char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
