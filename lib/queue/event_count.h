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
 * The same in its three steps, for a caller that has more to do in between. `before`: woken_epoch
 * as it was before step 1. Step 2 wakes the sleepers that `bits` names. It may be left out if a
 * look behind step 1 and a fence has found that no thread sleeps. Without step 3 all stay
 * announced.
 */
uint32_t event_count_move(_Atomic uint32_t *epoch);
void event_count_wake_sleepers(_Atomic uint32_t *epoch, uint32_t bits);
void event_count_woken(struct wake_publisher *publisher, uint32_t before, uint32_t epoch);

#endif
