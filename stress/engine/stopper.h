/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A process that stops and continues this one. It is started before anything else, as nobody's
 * child, so that no reaper ever meets it, and ends with this process.
 */
#ifndef STRESS_STOPPER_H
#define STRESS_STOPPER_H

void stopper_start(void);
/* Begin, and cease for good. */
void stopper_go(void);
void stopper_end(void);
/* How often this process has been stopped. */
unsigned stopper_stops(void);

#endif
