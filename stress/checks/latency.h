/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Latencies, in nanoseconds, collected by any thread. Histograms by GSL. */
#ifndef STRESS_LATENCY_H
#define STRESS_LATENCY_H

#include <stdint.h>

enum latency { LATENCY_COLLECTED, LATENCY_KILLED, LATENCIES };

extern const char *const latency_names[LATENCIES];

void latency_init(void);
void latency_add(enum latency which, uint64_t ns);

struct latency_summary {
    uint64_t count;
    double p50, p99, p999, max; /* microseconds */
};
struct latency_summary latency_summarize(enum latency which);
void latency_free(void);

#endif
