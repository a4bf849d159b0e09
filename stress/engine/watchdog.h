/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Hangs and crashes of the subject: noted where the process that watches over the run finds them,
 * and told in every report.
 */
#ifndef STRESS_WATCHDOG_H
#define STRESS_WATCHDOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Make room. Context: before the run. */
void watchdog_share(void);

/* From now on a crash is noted. */
void watchdog_init(void);

/* Has a call not returned in time? Notes who waits for what, the first time. */
bool watchdog_hang(void);

/*
 * What the run has ended by, if it has not come to its end: a signal, or an exit status. Context:
 * behind it.
 */
void watchdog_ended(int signal, int status);

/* Make what it has left fit for reports. Context: behind it. */
void watchdog_settle(void);

/* Was a hang noted? */
bool watchdog_hangs(void);

/* What was noted, for people. Nothing, if nothing hangs and nothing has crashed. */
void watchdog_print(FILE *file);
/* In a few words. Context: something hangs, or has crashed. */
void watchdog_describe(char *text, size_t size);
/* The same for the report: NULL, or an object. Returns a new reference. */
json_t *watchdog_hang_json(void);
json_t *watchdog_crash_json(void);

#endif
