/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The event count. `receiver->epoch` is the futex.
 *
 * How it works:
 * - A sleeper announces the epoch that it is about to sleep in: slept_epoch, a maximum. It passes
 *   a fence, and settles the order of events: the turn that is open has ended then. It looks at its
 *   queue again, and sleeps while `epoch` is unchanged.
 * - A publisher opens its turn, appends, and compares slept_epoch with woken_epoch. Then it ends
 *   the turn. It needs no fence of its own: the CAS that opens a turn, or the load before help, and
 *   the comparison are sequentially consistent.
 * - A thread that closes the queue passes a fence between the close and the comparison.
 * - To wake, a publisher
 *   1. moves `epoch` on to e,
 *   2. wakes all sleepers of the futex,
 *   3. sets woken_epoch to e, unless another thread has changed it since before 1.
 *
 * Why it is right:
 * 1. No lost wake-up. The publisher finds the announcement; or the sleeper finds the turn, waits
 *    for its end or brings it about, and so finds the event (order.c, 5). Of the sleeper and a
 *    thread that closes, one sees the other's store.
 * 2. After step 2 no thread sleeps in an epoch below e. A thread asleep was woken, and a thread
 *    about to sleep can't fall asleep on the old value.
 * 3. A sleeper that has read e finds the event when it looks, because e was written with release
 *    behind the append or the close.
 * 4. So slept_epoch < woken_epoch means that no thread is to be woken. A burst costs one system
 *    call, not one for each event until the sleeper runs.
 * 5. A publisher stopped before step 3 makes the others wake once more, and nothing else.
 * 6. All sleepers are woken, because a single chosen one might be stopped for ever before its take:
 *    docs/design.md, "Why all sleepers are woken".
 */
#include "queue/event_count.h"
#include "base/sys.h"

#include <errno.h>

void event_count_init(struct wake_publisher *publisher, _Atomic uint32_t *epoch)
{
    atomic_init(&publisher->slept_epoch, 0);
    atomic_init(&publisher->woken_epoch, 1);
    atomic_init(epoch, 1);
}

uint32_t event_count_move(_Atomic uint32_t *epoch)
{
    /* Release; pairs with event_count_announce(): the append, or the close, is visible. */
    uint32_t moved = fetch_add_release(epoch, 1) + 1;
    probe(PROBE_WAKE_EPOCH_MOVED);
    return moved;
}

void event_count_wake_sleepers(_Atomic uint32_t *epoch, uint32_t bits)
{
    sys_futex_wake((uint32_t *)epoch, bits);
    probe(PROBE_WAKE_DONE);
}

void event_count_woken(struct wake_publisher *publisher, uint32_t before, uint32_t epoch)
{
    /* Relaxed. It fails if another thread has noted an epoch meanwhile. Then this one is left out:
     * that costs a wake-up too many at most. A publisher that was stopped in here for very long
     * would note an epoch that is long past, and that the numbers may have wrapped around. */
    cas_relaxed(&publisher->woken_epoch, &before, epoch);
}

void event_count_wake(struct wake_publisher *publisher, _Atomic uint32_t *epoch)
{
    uint32_t before = load_relaxed(&publisher->woken_epoch);
    uint32_t moved = event_count_move(epoch);
    event_count_wake_sleepers(epoch, WAKEUP_ALL);
    event_count_woken(publisher, before, moved);
}

uint32_t event_count_announce(struct wake_publisher *publisher, const _Atomic uint32_t *current)
{
    /* Acquire; pairs with event_count_move(). */
    uint32_t epoch = load_acquire(current);
    /* Acquire and release, with each other: an announcement that another thread has made stands in
     * for our own, in front of our fence. */
    uint32_t slept = load_acquire(&publisher->slept_epoch);
    while ((int32_t)(epoch - slept) > 0 &&
           !cas_weak_acq_rel_else_acquire(&publisher->slept_epoch, &slept, epoch))
        continue;
    return epoch;
}

uint32_t wakeup_announce(struct wake_publisher *publisher, const _Atomic uint32_t *current)
{
    uint32_t epoch = event_count_announce(publisher, current);
    /* The announcement is visible before the look; pairs with turn_open(), and with the fence of a
     * thread that closes the queue. */
    fence_seq_cst();
    return epoch;
}

int wakeup_sleep(_Atomic uint32_t *epoch, uint32_t value, uint32_t bits,
                 const struct timespec *deadline)
{
    probe(PROBE_RECEIVE_BEFORE_SLEEP);
    int result = sys_futex_wait((uint32_t *)epoch, value, bits, deadline);
    probe(PROBE_RECEIVE_WOKEN);
    return result == -ETIMEDOUT ? -ETIMEDOUT : 0;
}
