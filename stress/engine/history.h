/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Short complete histories, each decided by the linearizability check (--history). */
#ifndef STRESS_HISTORY_H
#define STRESS_HISTORY_H

/* Returns the exit status. */
int history_run(void);

#endif
