/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Scenario reuse: a run of its own in a user and a pid namespace that has so few pids that they
 * come round within seconds. It is nobody's child, so that no reaper here meets it.
 */
#ifndef STRESS_SANDBOX_H
#define STRESS_SANDBOX_H

/* Why there can be no such namespace here, or NULL. */
const char *sandbox_unfit(void);
/* Start it; before any other thread. */
void sandbox_start(void);
/* Take over its verdict if it has failed before its time; what crashes or hangs there does so here,
 * too. */
void sandbox_look(void);
/* Wait for its end, and take over its verdict. */
void sandbox_end(void);

#endif
