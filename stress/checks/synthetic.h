/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Synthetic events: everything in one follows from its producer and number, so a checker that has
 * seen number n knows which one of the producer's events comes next on any topic.
 */
#ifndef STRESS_SYNTHETIC_H
#define STRESS_SYNTHETIC_H

#include <exitbus/exitbus.h>
#include <stdbool.h>
#include <stdint.h>

/* Above the kernel's largest pid, so real children are told apart. */
#define SYNTHETIC_PID 5000000
#define SYNTHETIC_PIDS 32
#define CONTAINERS 4
#define EXECS 4

/* Event `number` (1, 2 …) of a producer. */
void synthetic_make(unsigned producer, uint64_t number, struct exitbus_event *event);

/* True for an event of synthetic_make's making, as far as its pid or kind tells. */
bool synthetic_is(const struct exitbus_event *event);
unsigned synthetic_producer(const struct exitbus_event *event);
uint64_t synthetic_number(const struct exitbus_event *event);

/* True if every byte is as synthetic_make made it. */
bool synthetic_whole(const struct exitbus_event *event);

/* A topic of one of the six kinds, chosen by two random numbers. The ids are constant strings. */
struct exitbus_topic synthetic_topic(unsigned kind, unsigned which);

/* Does event `number` of a producer match? */
bool synthetic_matches(const struct exitbus_topic *topic, unsigned producer, uint64_t number);

/* The first event of a producer after `number` that matches. */
uint64_t synthetic_next(const struct exitbus_topic *topic, unsigned producer, uint64_t number);

#endif
