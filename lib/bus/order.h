/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The total order of events (G2), and helping (G4). One 64-bit word is the only point where
 * publishers meet: {seq, slot, done}. The algorithm and the argument stand in order.c.
 * Knows nothing of who gets the events: it calls a deliver function. Uses: event, memory.
 */
#ifndef EXITBUS_ORDER_H
#define EXITBUS_ORDER_H

#include "base/atomic.h"
#include "event/event.h"
#include "memory/memory.h"

/* 16 bits of the order word, less one value that keeps the count itself representable. */
#define ORDER_SLOTS_MAX 65535
#define ORDER_SHARED_SLOTS 16
#define ORDER_CHUNKS 13 /* 16, 16, 32, 64 … */

struct slot;

/*
 * Put event `seq` into every matching queue and wake the receivers. Must be idempotent, and is
 * called by any number of threads at once for one seq, but never for two. 0, or -ENOMEM: some queue
 * still lacks it. For ORDER_WAKE_ONLY append nothing: an event like this lacks memory, and whoever tries
 * to receive one may be able to finish it, and nobody else may come; so wake them.
 */
#define ORDER_WAKE_ONLY 0
typedef int order_deliver(void *context, uint64_t seq, const struct record *record);

struct order {
    _Alignas(CACHE_LINE) _Atomic uint64_t word;
    _Alignas(CACHE_LINE) order_deliver *deliver;
    void *context;
    struct memory *memory;
    _Atomic uint64_t stalled; /* a turn that lacked memory, as the word was then; 0: none */
    _Atomic uint64_t helped;
    _Atomic(struct slot *) chunks[ORDER_CHUNKS];
};

void order_init(struct order *order, struct memory *memory, order_deliver *deliver, void *context);
void order_destroy(struct order *order);

/*
 * Order `count` checked events, consecutively, and deliver them. `first_seq` receives the first
 * one's seq. 0: ordered, and delivered or (no memory) sure to be. -ENOMEM, -EAGAIN, -EOVERFLOW:
 * nothing was ordered. Inside a read-side section. Lock-free.
 */
int order_publish(struct order *order, const struct exitbus_event *events, size_t count,
                  uint64_t *first_seq);

/* seq of the latest event. With a read-modify-write: see "start" in subscription.c. */
uint64_t order_latest(struct order *order);
/* The same for statistics. */
uint64_t order_count(const struct order *order);

/*
 * Was an event left unfinished for lack of memory? Whoever reads that there is none knows of those
 * that have been finished.
 */
static inline bool order_stalled(const struct order *order)
{
    /* Acquire: pairs with the CAS in order_finish_stalled. Also behind a sleeper's barrier_heavy,
     * which pairs with the fence in turn_stall. */
    return unlikely(load_acquire(&order->stalled) != 0);
}

/* Try to finish it. 0: nothing lacks memory any more; -ENOMEM. Inside a read-side section. */
int order_finish_stalled(struct order *order);

#endif
