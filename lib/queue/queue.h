/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One subscription's queue: lock-free, unbounded, any number of receivers; appended to by the
 * threads that distribute one event, any number of which may be at it at once (helping).
 * Guarantees its part of G1, G2 (exactly once, in the order of seq), G3 (queue_close) and G7.
 * The algorithm and the argument for it stand in append.c; to append: append.h.
 *
 * The publishers' half and the receivers' half are two structs, so that the owner can put each on a
 * cache line with what else that side touches. All calls must be made inside a read-side section.
 */
#ifndef EXITBUS_QUEUE_H
#define EXITBUS_QUEUE_H

#include "queue/cell.h"

/* Written by publishers. */
struct queue_tail {
    _Atomic(struct segment *) segment; /* the last one, or one that is followed by it */
    _Atomic uint64_t hint;             /* segment and first cell that may be empty; may lag */
};

/* Written by receivers: segment and cell of the next event, closed and one-shot bit, packed. */
struct queue_head {
    _Atomic uint64_t position;
};

void queue_init(struct queue_tail *tail, struct queue_head *head, struct first_segment *first);

/* Before anybody else sees it: the first take closes. */
void queue_set_one_shot(struct queue_head *head);
bool queue_one_shot(const struct queue_head *head);

/* Begin to fetch what an append is going to write. Only a hint. */
static inline void queue_prefetch(const struct queue_tail *tail)
{
    uint64_t hint = load_relaxed(&tail->hint);
    prefetch_for_write(segment_cell(position_segment(hint), position_index(hint)));
}

/* The same, with all that it is going to read: from memory at once, not one after the other. */
static inline void queue_prefetch_all(const struct queue_tail *tail)
{
    uint64_t hint = load_relaxed(&tail->hint);
    const struct segment *segment = position_segment(hint);
    __builtin_prefetch(segment);
    const struct cell *next = segment_cell(segment, position_index(hint));
    __builtin_prefetch(next - 1);
    prefetch_for_write(next);
}

/*
 * Take up to `capacity` events, oldest first; if one-shot, take one and close. Returns how many,
 * -EAGAIN if there is none, -ESHUTDOWN if closed. Lock-free.
 */
ssize_t queue_take(struct queue_tail *tail, struct queue_head *head, struct memory *memory,
                   struct exitbus_event *events, size_t capacity);

/* No take succeeds from here on (G3). True for the first caller. */
bool queue_close(struct queue_head *head);
bool queue_closed(const struct queue_head *head);

/* True if a take would say -EAGAIN. */
bool queue_empty(const struct queue_head *head);

/* Events taken so far, and events put in so far. Exact while nobody takes or appends. */
uint64_t queue_taken(const struct queue_head *head);
uint64_t queue_appended(const struct queue_tail *tail);

/*
 * Give the segments back at once: nobody may be using the queue (a grace period after it has left
 * the registry).
 */
void queue_destroy(struct queue_head *head, struct memory *memory);

#endif
