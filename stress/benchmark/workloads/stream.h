/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A stream: producers publish as fast as they can for some time while consumers receive as fast as
 * they can, every thread pinned. Producers never get further ahead of the slowest consumer than a
 * window: more would measure how fast the kernel hands out pages. No event may be missing at the
 * end, nor be another's.
 */
#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "workloads.h"

/* What a producer may be ahead in any case, however small its share of a window is. */
#define STREAM_LEAST 32u

struct stream_plan {
    unsigned buses;                /* at a time, each with threads of its own */
    unsigned producers, consumers; /* threads of a bus */
    /* With more than one, each consumer drains its share of them in turn. */
    unsigned subscriptions;
    size_t window; /* events that producers may be ahead; below twice that where there are many */
    double slice_ms;
};

/*
 * Nanoseconds for each event of a bus, from the publish to the receive on all subscriptions: the
 * mean of the buses.
 */
double stream_measure(const struct peer *peer, const struct stream_plan *plan);

#endif
