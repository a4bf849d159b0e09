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

struct stream_plan {
    unsigned producers, consumers; /* threads */
    /* With more than one, each consumer drains its share of them in turn. */
    unsigned subscriptions;
    size_t window; /* events that producers may be ahead; below twice that where there are many */
    double slice_ms;
};

/* Nanoseconds for each event, from the publish to the receive on all subscriptions. */
double stream_measure(const struct peer *peer, const struct stream_plan *plan);

#endif
