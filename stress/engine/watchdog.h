/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Hangs and crashes of the subject: named, reported, and the end of the run. */
#ifndef STRESS_WATCHDOG_H
#define STRESS_WATCHDOG_H

#include <stdbool.h>
#include <stddef.h>

/* From now on a crash is reported as a violation, and exits with status 1. */
void watchdog_init(void);

/* A call has not returned in time: says who waits for whom. True if so. */
bool watchdog_hang(void);
/* The text of it, one line each; "" if nothing hangs. */
const char *watchdog_text(void);

#endif
