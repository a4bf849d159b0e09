/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * For tests of the order alone (lib/bus/order.h), with something far smaller than a bus behind it:
 * an array in which each event must be the one that it has been from the first, and in which those
 * before it must be seen. So far more of the executions of order.c are within reach.
 */
#ifndef ORDER_TEST_H
#define ORDER_TEST_H

#include "bus/order.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { EVENTS_MAX = 8 };

static struct memory memory;
static struct order order;
static _Atomic int given[EVENTS_MAX + 1];   /* by seq: the pid; 0: not delivered yet */
static _Atomic int lacking[EVENTS_MAX + 1]; /* by seq: so many more attempts find no memory */
static _Atomic int asked;                   /* something that somebody does before order_latest() */
static _Atomic int known[EVENTS_MAX + 1];   /* by seq: whether who delivered it saw that */

static inline int deliver(void *context, uint64_t seq, const struct record *record)
{
    (void)context;
    struct exitbus_event event;
    memcpy((char *)&event + offsetof(struct exitbus_event, pid), record->words, CELL_PAYLOAD);
    assert(event.exit_code == event.pid); /* whole */
    if (seq == ORDER_WAKE_ONLY)
        return 0;
    for (uint64_t lower = 1; lower < seq; lower++)
        assert(atomic_load_explicit(&given[lower], memory_order_relaxed) != 0);
    int left = atomic_load_explicit(&lacking[seq], memory_order_relaxed);
    if (left > 0 && atomic_compare_exchange_strong_explicit(
                        &lacking[seq], &left, left - 1, memory_order_relaxed, memory_order_relaxed))
        return -ENOMEM;
    if (atomic_load_explicit(&asked, memory_order_relaxed))
        atomic_store_explicit(&known[seq], 1, memory_order_relaxed);
    int before = atomic_exchange_explicit(&given[seq], event.pid, memory_order_relaxed);
    assert(before == 0 || before == event.pid);
    return 0;
}

static inline void order_new(void)
{
    const size_t size = sizeof(struct batch);
    memory_init(&memory, NULL, &size, 1);
    order_init(&order, &memory, 0, deliver, NULL);
}

/* Of `count` events, with pids from `pid` on. */
static inline int put_batch(int pid, size_t count)
{
    struct exitbus_event events[EVENTS_MAX];
    memset(events, 0, sizeof events);
    for (size_t i = 0; i < count; i++) {
        events[i].kind = EXITBUS_EVENT_PID;
        events[i].pid = events[i].exit_code = pid + (int)i;
    }
    reclaim_enter();
    int64_t first =
        count == 1 ? order_publish(&order, events) : order_publish_batch(&order, events, count);
    reclaim_leave();
    /* On return all of them are there, whoever has put them there, or a note says that they lack
     * memory. */
    if (first > 0 && !order_stalled(&order))
        for (size_t i = 0; i < count; i++)
            assert(atomic_load_explicit(&given[(size_t)first + i], memory_order_relaxed) != 0);
    return first < 0 ? (int)first : 0;
}

static inline int put(int pid)
{
    return put_batch(pid, 1);
}

/* As a receiver that finds nothing. */
static inline void look(void)
{
    reclaim_enter();
    int result = order_finish_stalled(&order);
    assert(result == 0 || result == -ENOMEM);
    reclaim_leave();
}

/* When all threads have ended: so many events are there, each once. */
static inline void order_end(uint64_t count)
{
    assert(order_count(&order) == count);
    for (uint64_t seq = 1; seq <= count; seq++) {
        int pid = atomic_load_explicit(&given[seq], memory_order_relaxed);
        assert(pid != 0);
        for (uint64_t lower = 1; lower < seq; lower++)
            assert(atomic_load_explicit(&given[lower], memory_order_relaxed) != pid);
    }
    order_destroy(&order);
}

#endif
