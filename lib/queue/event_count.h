/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The event count, by which blocking receivers sleep and publishers wake them. The protocol and the
 * argument stand in event_count.c; receivers use it through wakeup.h.
 */
#ifndef EXITBUS_EVENT_COUNT_H
#define EXITBUS_EVENT_COUNT_H

#include "queue/wakeup.h"

/* Returns whether a receiver may be asleep. Context: behind a barrier_light(). */
bool event_count_may_sleep(const struct wake_publisher *publisher);

/* Wake all sleepers. Lock-free; one system call. Context: behind a barrier_light(). */
void event_count_wake(struct wake_publisher *publisher, struct wake_receiver *receiver);

#endif
