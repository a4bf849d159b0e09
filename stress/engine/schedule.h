/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Scenes in which one thread runs at a time (--schedules, --schedule). Which one, is decided at
 * each step of the subject, and at the begin and end of each call, by priorities and a few points
 * at which the running thread gets the lowest: probabilistic concurrency testing, PCT (Burckhardt,
 * Kothari, Musuvathi, Nagarakatti, 2010). A schedule is a short string, and the same string makes
 * the same schedule again.
 */
#ifndef STRESS_SCHEDULE_H
#define STRESS_SCHEDULE_H

#include <stdbool.h>

/* Could it be a schedule? */
bool schedule_valid(const char *text);

/* Returns the exit status. */
int schedule_run(void);

#endif
