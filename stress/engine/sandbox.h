/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Scenario reuse, and the better half of signals-to-handles: a run of its own in a user and a pid
 * namespace that has so few pids that they come round within seconds. It is nobody's child, so that
 * no reaper here meets it.
 */
#ifndef STRESS_SANDBOX_H
#define STRESS_SANDBOX_H

#include <stdbool.h>

/* Why there can be no such namespace here, or NULL. */
const char *sandbox_unfit(void);
/* Start it for one of the two, or both, if that is possible; before any other thread. */
void sandbox_start(bool reuse, bool handles);
/* Take over its verdict if it has failed before its time; what crashes or hangs there does so here,
 * too. */
void sandbox_look(void);
/* Wait for its end, and take over its verdict. */
void sandbox_end(void);

#endif
