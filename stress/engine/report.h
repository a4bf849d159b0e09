/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a run shows: a status line on a terminal, the summary, JSON, and a page of HTML. */
#ifndef STRESS_REPORT_H
#define STRESS_REPORT_H

#include "../checks/verdict.h"
#include "../scenarios/scenarios.h"
#include "world.h"

#include <jansson.h>

#define SAMPLES_MAX 2400

/* Totals at one moment. */
struct sample {
    double time_s;
    uint64_t published, deliveries, exits;
    long resident;
};

struct result {
    double elapsed; /* seconds */
    struct subject_stats stats;
    long rss_begin, rss_peak, rss_end;
    const char
        *skipped[SCENARIOS_MAX]; /* for each scenario: why; "" if it was not asked for; NULL: run */
    unsigned threads[SCENARIOS_MAX]; /* for each scenario: threads that it started */
    size_t sample_count;
    struct sample samples[SAMPLES_MAX];
    enum verdict verdict;
};

extern struct result *result; /* shared: see shared.h */

/* Make room. Context: before the run. */
void report_init(void);

/* What is resident of this process and of no file, in bytes; without what is shared. */
long resident_bytes(void);

/* Take a sample. A terminal shows each; else a line is printed every now and then (--every). */
void report_sample(void);
void report_progress_end(void);

/* As it was typed, as far as it fits and can be written. */
void report_command_line(char *text, size_t size);

/* What was run: the first lines of all that is printed of a run. */
void report_heading(void);
/* What it has come to: the last lines. */
void report_end(void);
void report_summary(void);

/*
 * The files that were asked for: opened before the first run, written after the last. Return 0, or
 * -1 with a message.
 */
int report_open(void);
int report_write(void);

#endif
