/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory that a run shares with the process that watches over it: see supervise.h. So the reports
 * can be written of a run that has crashed.
 */
#ifndef STRESS_SHARED_H
#define STRESS_SHARED_H

#include <stddef.h>

/* Returns zeroed memory; ends the process if there is none. Context: before the run is started. */
void *shared_alloc(size_t size);

/* Zero all of it, for the next run. */
void shared_clear(void);

#endif
