/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Distributions of latency, in nanoseconds, collected from all threads. */
#ifndef STRESS_LATENCY_H
#define STRESS_LATENCY_H

#include <jansson.h>
#include <stdint.h>

enum latency {
    LATENCY_PUBLISHED, /* publish begun to event received, by a receiver that was asleep */
    LATENCY_COLLECTED, /* exit collected to event received */
    LATENCY_KILLED,    /* kill() called to event received */
    LATENCIES
};

extern const char *const latency_names[LATENCIES];

struct latency_summary {
    uint64_t count;
    double p50, p99, p999, max; /* microseconds */
};

/* Make room, or begin anew where it was cleared. Context: before the run. */
void latency_init(void);
void latency_add(enum latency which, uint64_t ns);
struct latency_summary latency_summarize(enum latency which);
/* Name, count, quantiles and buckets, of each that has any. */
json_t *latency_json(void);

#endif
