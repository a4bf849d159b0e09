/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Scenes of two threads and two or three calls each, run very often: what came out, how often, and
 * what must not (--outcomes). As the JDK's jcstress has them.
 */
#ifndef STRESS_OUTCOMES_H
#define STRESS_OUTCOMES_H

#include <stdbool.h>

/* Is there a scene of that name? "all": every one. */
bool outcomes_known(const char *name);

/* Returns the exit status. */
int outcomes_run(void);

#endif
