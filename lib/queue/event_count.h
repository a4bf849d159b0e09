/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The event count, by which blocking receivers sleep and publishers wake them. Receivers use it
 * through wakeup.h. The protocol and the argument: event_count.c.
 */
#ifndef EXITBUS_EVENT_COUNT_H
#define EXITBUS_EVENT_COUNT_H

#include "queue/wakeup.h"

/* Begin with no thread announced. Context: before another thread sees it. */
void event_count_init(struct wake_publisher *publisher, _Atomic uint32_t *epoch);

/* Announce the epoch that *current names, and return it: the first half of wakeup_announce(). */
uint32_t event_count_announce(struct wake_publisher *publisher, const _Atomic uint32_t *current);

/* Wake all sleepers. Context: as wakeup_notify(); lock-free; one system call. */
void event_count_wake(struct wake_publisher *publisher, _Atomic uint32_t *epoch);

/*
 * The same in two parts, for a publisher that has more to do in between: steps 1 and 2, of which
 * the epoch is returned, and step 3. `before`: woken_epoch as it was before step 1. With bits 0 no
 * sleeper is woken. Without step 3 all stay announced.
 */
uint32_t event_count_move(_Atomic uint32_t *epoch, uint32_t bits);
void event_count_woken(struct wake_publisher *publisher, uint32_t before, uint32_t epoch);

#endif
