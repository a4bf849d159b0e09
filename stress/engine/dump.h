/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The last calls of every thread, as they were when the first violation was found. */
#ifndef STRESS_DUMP_H
#define STRESS_DUMP_H

#include <jansson.h>
#include <stdio.h>

/* Make room. Context: before the run. */
void dump_init(void);
/* Copy all rings, if this is the first time. */
void dump_take(void);
/* Write them as a trace, in the format that Chrome began and Perfetto reads. Returns 0, or -1. */
int dump_trace(FILE *file);
/* Print the last few calls of each thread, and what it is in the middle of. */
void dump_print(FILE *file);
/* For the report: an array of lanes, times relative to the moment of dump_take(). */
json_t *dump_json(void);

#endif
