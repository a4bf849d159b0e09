/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One subscription's queue: lock-free and unbounded, with any number of receivers. Or a log
 * (log.h): one tail, and a head of its own for each of its subscriptions.
 *
 * - The threads that distribute an event append it. Any number of them may append the same event at
 *   once (helping).
 * - It carries its part of G1, G2 (exactly once, in the order of seq), G3 (queue_close) and G7.
 * - The publishers' half and the receivers' half are two structs. So the owner can put each on a
 *   cache line with the other fields of that side.
 * - All calls are made inside a read-side section.
 *
 * The argument: append.c. To append: append.h.
 */
#ifndef EXITBUS_QUEUE_H
#define EXITBUS_QUEUE_H

#include "queue/cell.h"

/* Written by threads that append. */
struct queue_tail {
    _Atomic(struct segment *) segment; /* the last segment, or one before it */
    _Atomic uint64_t hint;             /* segment and first cell that may be empty; may lag */
};

/* Written by receivers: segment and cell of the next event, the closed bit and others. */
struct queue_head {
    _Atomic uint64_t position;
};

void queue_init(struct queue_tail *tail, struct queue_head *head, struct first_segment *first);

/*
 * Make a tail with an empty first segment that its owner has: `capacity` cells, of which those
 * before `first` are not for events.
 */
void queue_tail_init(struct queue_tail *tail, struct segment *segment, unsigned capacity,
                     unsigned first);

/*
 * Make the queue one-shot: the first take closes it. Context: before another thread sees the queue.
 */
void queue_set_one_shot(struct queue_head *head);
bool queue_one_shot(const struct queue_head *head);

/* Make a one-shot queue sticky: its event is read, and never taken. Context: likewise. */
void queue_set_sticky(struct queue_head *head);
bool queue_sticky(const struct queue_head *head);

/* Returns whether the head is a cursor of a log. */
bool queue_is_cursor(const struct queue_head *head);

/* Fetch what an append is going to write. Only a hint. */
static inline void queue_prefetch(const struct queue_tail *tail)
{
    uint64_t hint = load_relaxed(&tail->hint);
    prefetch_for_write(segment_cell(position_segment(hint), position_index(hint)));
}

/* Fetch also what an append is going to read: all of it at once, not one line after the other. */
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
 * Take up to `capacity` events, oldest first. A one-shot queue gives one event, and closes. Returns
 * the number taken, -EAGAIN if there is none, or -ESHUTDOWN if the queue is closed. Context:
 * lock-free.
 */
ssize_t queue_take(struct queue_tail *tail, struct queue_head *head, struct memory *memory,
                   struct exitbus_event *events, size_t capacity);

/*
 * Copy the event of a sticky queue, which stays. It is received by queue_see() alone. Returns 1;
 * -EAGAIN: there is none yet; -ESHUTDOWN. Context: lock-free.
 */
ssize_t queue_read(const struct queue_head *head, struct exitbus_event *event);

/*
 * Receive what queue_read() has copied. Returns 1 for the first receipt, 0 for later ones, or
 * -ESHUTDOWN: the queue was closed before. Context: lock-free.
 */
int queue_see(struct queue_head *head);

/* Returns whether it was received. */
bool queue_seen(const struct queue_head *head);

/* Close: no take succeeds from here on (G3). Returns true for the first caller. */
bool queue_close(struct queue_head *head);
bool queue_closed(const struct queue_head *head);

/* Returns whether a take would return -EAGAIN. */
bool queue_empty(const struct queue_head *head);

/* Return the events taken, and put in, so far. Exact while no thread takes or appends. */
uint64_t queue_taken(const struct queue_head *head);
uint64_t queue_appended(const struct queue_tail *tail);

/*
 * Free the segments at once. Context: no thread uses the queue, because a grace period has passed
 * since it left the registry.
 */
void queue_destroy(struct queue_head *head, struct memory *memory);

#endif
