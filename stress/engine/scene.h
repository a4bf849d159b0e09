/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A scene: a handful of threads make some ten random calls each on a bus; then what is left in the
 * queues is taken out one by one, so that a loss shows, too. Each call is noted with its times, for
 * the check of linear.h. Used by --history, where threads run as they like, and by --schedules,
 * where one of them runs at a time.
 */
#ifndef STRESS_SCENE_H
#define STRESS_SCENE_H

#include "../checks/linear.h"
#include "worker.h"

#include <stdio.h>

#define SCENE_THREADS 4
/* States that the check may look at: most histories need less than a thousand. */
#define SCENE_BUDGET 400000

/* The time at which a call begins, or has returned: now_ns(), unless it is set to another one. */
extern uint64_t (*scene_clock)(bool begins);

/* Make the bus anew; step() is called at the subject's steps, if it has any. */
void scene_bus(void (*step)(unsigned place));
/* Destroy it, behind the last scene. */
void scene_bus_end(void);

void scene_prepare(void);
/* The calls of one thread, below SCENE_THREADS. Context: all of them at the same time. */
void scene_play(unsigned thread);
/* Take out what is left, and give back the subscriptions. Context: all threads are at the end. */
void scene_clear(void);
/* The calls, in the order of their begin. Returns how many. */
size_t scene_history(struct linear_operation operations[LINEAR_OPERATIONS_MAX]);

/*
 * Print the fewest calls of a history that is not linearizable, which are all that is left of it.
 * `which`: its name, to begin with.
 */
void scene_explain(FILE *file, const char *which, struct linear_operation *operations,
                   size_t count_);

/* Does the subject claim what makes a history that is not linearizable a fault? */
bool scene_judged(void);

#endif
