/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Synthetic events. What event `number` of a producer looks like, and so which topics it belongs
 * to, is a function of the two: a subscriber knows exactly what it must receive, without a table.
 * Producers from PRODUCERS_COMMON on have one pid each, and nobody else publishes it.
 */
#ifndef STRESS_SYNTHETIC_H
#define STRESS_SYNTHETIC_H

#include "../engine/world.h"

/* No real process has such a pid (the kernel's limit is 2^22). */
#define SYNTHETIC_PID (1 << 23)
#define SYNTHETIC_PIDS 48
#define CONTAINERS 4
#define EXECS 4

void synthetic_make(unsigned producer, uint64_t number, struct subject_event *event);

/* From a producer here, rather than of a real child, task or group? */
bool synthetic_is(const struct subject_event *event);

/* The same event once more, which was made at that time. */
void synthetic_remake(unsigned producer, uint64_t number, uint64_t begin_ns,
                      struct subject_event *event);

/* True if every byte is as synthetic_make made it. */
bool synthetic_whole(const struct subject_event *event);

/* A random topic among those that the subject knows. */
struct subject_topic synthetic_topic(struct random *random);
/* The topic of a producer with a pid of its own. */
struct subject_topic synthetic_own_topic(unsigned producer);

/* Does event `number` of a producer match? */
bool synthetic_matches(const struct subject_topic *topic, unsigned producer, uint64_t number);

/* Can any event of a producer match? */
bool synthetic_concerns(const struct subject_topic *topic, unsigned producer);

/* The first event of a producer after `number` that matches; UINT64_MAX: there is none. */
uint64_t synthetic_next(const struct subject_topic *topic, unsigned producer, uint64_t number);

#endif
