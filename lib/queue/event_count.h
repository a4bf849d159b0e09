/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The event count, by which blocking receivers sleep and publishers wake them. Receivers use it
 * through wakeup.h. The protocol and the argument: event_count.c.
 */
#ifndef EXITBUS_EVENT_COUNT_H
#define EXITBUS_EVENT_COUNT_H

#include "queue/wakeup.h"

/* Returns whether a receiver may be asleep. Context: behind a barrier_light(). */
bool event_count_may_sleep(const struct wake_publisher *publisher);

/* Wake all sleepers. Context: behind a barrier_light(); lock-free; one system call. */
void event_count_wake(struct wake_publisher *publisher, struct wake_receiver *receiver);

#endif
