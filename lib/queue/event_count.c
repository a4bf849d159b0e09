/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The event count. `epoch` is the futex word. A sleeper announces the epoch that it is about to
 * sleep in (slept_epoch, a maximum), passes the heavy barrier, looks at its queue again, and sleeps
 * while epoch is unchanged. A publisher appends, passes the light barrier, and compares slept_epoch
 * with woken_epoch. One of the two sees the other, so either the sleeper finds the event or the
 * publisher finds the announcement. Who closes the queue does the same.
 * To wake, a publisher
 *     1. moves epoch on to e   2. wakes all sleepers of the futex   3. sets woken_epoch to e.
 * After 2 nobody sleeps in an epoch below e: who was asleep was woken, who was about to can't fall
 * asleep on the old value; and who has read e, which was written behind a light barrier, finds what
 * the wake was for when it looks behind its heavy one. So slept_epoch < woken_epoch means that no
 * one is to be woken, and a burst costs one system call, not one for each event until the sleeper
 * gets to run. A publisher stopped before 3 leaves the others to do it all once more. All sleepers
 * are woken, not one: the chosen one might be stopped for ever before it takes the event.
 */
#include "queue/event_count.h"
#include "base/sys.h"

#include <errno.h>

bool event_count_may_sleep(const struct wake_publisher *publisher)
{
    uint32_t slept = load_relaxed(&publisher->slept_epoch);
    uint32_t woken = load_relaxed(&publisher->woken_epoch);
    return (int32_t)(slept - woken) >= 0;
}

void event_count_wake(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    /* Relaxed: behind the caller's light barrier. */
    uint32_t epoch = fetch_add_relaxed(&receiver->epoch, 1) + 1;
    probe(PROBE_WAKE_EPOCH_MOVED);
    sys_futex_wake_all((uint32_t *)&receiver->epoch);
    probe(PROBE_WAKE_DONE);
    /* Relaxed, and may overwrite a higher value: that costs a wake too many, never one too few. */
    store_relaxed(&publisher->woken_epoch, epoch);
}

uint32_t wakeup_announce(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    uint32_t epoch = load_relaxed(&receiver->epoch);
    uint32_t slept = load_relaxed(&publisher->slept_epoch);
    while ((int32_t)(epoch - slept) > 0 &&
           !cas_weak_relaxed(&publisher->slept_epoch, &slept, epoch))
        continue;
    barrier_heavy(); /* the announcement before the look; pairs with each barrier_light here */
    return epoch;
}

int wakeup_sleep(struct wake_receiver *receiver, uint32_t epoch, const struct timespec *deadline)
{
    probe(PROBE_RECEIVE_BEFORE_SLEEP);
    struct timespec slice;
    if (mutant(WAKE_ALWAYS)) {
        int64_t end_ns = sys_clock_ns(CLOCK_MONOTONIC) + 16000000;
        slice = (struct timespec){.tv_sec = end_ns / 1000000000, .tv_nsec = end_ns % 1000000000};
        int64_t due_ns = deadline ? deadline->tv_sec * 1000000000 + deadline->tv_nsec : INT64_MAX;
        if (end_ns < due_ns) {
            sys_futex_wait((uint32_t *)&receiver->epoch, epoch, &slice);
            return 0;
        }
    }
    int result = sys_futex_wait((uint32_t *)&receiver->epoch, epoch, deadline);
    probe(PROBE_RECEIVE_WOKEN);
    return result == -ETIMEDOUT ? -ETIMEDOUT : 0;
}
