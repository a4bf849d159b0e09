/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a run shows: progress on a terminal, the summary, and JSON. */
#ifndef STRESS_REPORT_H
#define STRESS_REPORT_H

#include "world.h"

struct result {
    double elapsed; /* seconds */
    uint64_t reaped;
    struct exitbus_stats stats; /* after the drain, before destroy */
    long rss_begin, rss_peak, rss_end;
    bool pass;
};

/* Resident set of this process, bytes. */
long resident_bytes(void);

/* One line, rewritten in place, if standard error is a terminal. */
void report_progress(double elapsed, long resident);
void report_progress_end(void);

void report_summary(const struct result *result);

/* 0, or -1 with a message. */
int report_json(const struct result *result, const char *path);

#endif
