/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The total order of events (G2), and helping (G4). Publishers meet in one 64-bit word only:
 * {seq, slot, done}. The order does not say which subscriptions get an event: it calls a deliver
 * function for that. The algorithm and its invariants are in order.c.
 */
#ifndef EXITBUS_ORDER_H
#define EXITBUS_ORDER_H

#include "base/atomic.h"
#include "event/event.h"
#include "memory/memory.h"

/* Slots that a bus can have: the order word has 16 bits for one, and the count must fit as well. */
#define ORDER_SLOTS_MAX 65535
#define ORDER_SHARED_SLOTS 16
#define ORDER_CHUNKS 13 /* of 16, 16, 32, 64 … slots */

struct slot;

#define RECORD_WORDS (RECORD_CELLS_MAX * CELL_WORDS)

/* A record that helpers may read while its owner writes: a copy of it is checked, not locked. */
struct shared_record {
    _Atomic uint64_t words[RECORD_WORDS];
};

/* The events of a batch, for as long as it is published. A block: its size is whole lines. */
struct batch {
    _Alignas(CACHE_LINE) struct block block;
    struct shared_record records[EXITBUS_BATCH_MAX];
};

/*
 * Put event `seq` into every matching queue, and wake the receivers.
 * With ORDER_WAKE_ONLY for `seq` append nothing, and only wake them: an event like this one lacks
 * memory. A receiver that looks may be able to finish it, and no other thread may come.
 * Returns 0; or -ENOMEM: some queue still lacks the event.
 * It passes a fence before it signals a descriptor: turn_stall() relies on that.
 * Context: any number of threads at once for one seq, never for two; so it must be idempotent.
 */
#define ORDER_WAKE_ONLY 0
typedef int order_deliver(void *context, uint64_t seq, const struct record *record);

struct order {
    _Alignas(CACHE_LINE) _Atomic uint64_t word;
    _Alignas(CACHE_LINE) order_deliver *deliver;
    void *context;
    struct memory *memory;
    unsigned batch_class;     /* of memory, for blocks of sizeof(struct batch); constant */
    uint64_t id;              /* from 1 up; no other order of this process ever has it; constant */
    _Atomic uint64_t stalled; /* word of a turn that lacked memory, 0: none; by the threads in it */
    _Atomic uint64_t woken;   /* word of a stalled turn whose receivers were woken; likewise */
    _Atomic uint64_t helped;  /* turns that helpers have finished; written by helpers */
    _Atomic(struct slot *) chunks[ORDER_CHUNKS];
};

void order_init(struct order *order, struct memory *memory, unsigned batch_class,
                order_deliver *deliver, void *context);
void order_destroy(struct order *order);

/*
 * Order a checked event, or `count` of them, one behind the other, and deliver them.
 * Returns the seq of the first: the events are ordered, and delivered, or sure to be once there is
 * memory; or -ENOMEM, -EAGAIN, -EOVERFLOW: nothing was ordered. Context: in a section; lock-free.
 */
int64_t order_publish(struct order *order, const struct exitbus_event *event);
int64_t order_publish_batch(struct order *order, const struct exitbus_event *events, size_t count);

/*
 * Bring the open turn to its end, if there is one: what was ordered before this call is then in
 * every queue, also if its publisher is stopped, or lacked memory. Behind a fence: so is each event
 * whose publisher has not seen what this thread stored before the fence.
 * Returns 0; or -ENOMEM: some queue still lacks an event. Context: in a section; lock-free.
 */
int order_settle(struct order *order);
/* The same, but leave a turn alone that is noted as lacking memory. */
int order_settle_unless_stalled(struct order *order);

/*
 * Read the seq of the latest event, by a read-modify-write. Context: lock-free.
 */
uint64_t order_latest(struct order *order);

/*
 * Decide the first seq that is for a queue, once for all threads: *first_seq, 0 until then. Returns
 * it. Context: publishers find the queue; lock-free.
 */
uint64_t order_decide_first(struct order *order, _Atomic uint64_t *first_seq);
/* Read the same for statistics, without a read-modify-write. */
uint64_t order_count(const struct order *order);

/*
 * Returns whether some turn was left open for lack of memory. A thread that reads that there is
 * none sees every such turn finished before.
 */
static inline bool order_stalled(const struct order *order)
{
    /* Acquire; pairs with order_finish_stalled(). A receiver that clears its descriptor looks
     * behind a fence, which pairs with the one before each signal. */
    return unlikely(load_acquire(&order->stalled) != 0);
}

/*
 * Try to finish it. Returns 0: nothing lacks memory any more; or -ENOMEM. Context: in a section;
 * lock-free.
 */
int order_finish_stalled(struct order *order);

#endif
