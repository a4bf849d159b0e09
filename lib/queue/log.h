/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A log: one queue for all subscriptions of a topic. An event is appended once. Each subscription
 * has a cursor, a head of its own, and takes from the log as from a queue of its own.
 *
 * - The segments of a log count the cursors that are in them. A segment is retired when the slowest
 *   cursor and the tail have left it, and so have all segments before it.
 * - Appending, taking and closing are the queue's: append.h, queue.h.
 * - All calls are made inside a read-side section, or in a reclaim callback.
 *
 * The argument: log.c.
 */
#ifndef EXITBUS_LOG_H
#define EXITBUS_LOG_H

#include "queue/queue.h"

/* The first segment lies in its owner: a cell for the counts, and one for an event. */
#define LOG_FIRST_CELLS 2
struct log_first_segment {
    struct segment segment;
    struct cell cells[LOG_FIRST_CELLS];
};

/* Make an empty log, without a cursor. Context: before another thread sees it. */
void log_init(struct queue_tail *tail, struct log_first_segment *first);

/*
 * Make a cursor at the log's end: it gets each event whose publish begins after the return, and no
 * event whose publish returned before the call. Returns the number of events in front of it.
 * Context: lock-free.
 */
uint64_t log_join(struct queue_tail *tail, struct queue_head *head, struct memory *memory);

/* Give up a closed cursor's place. Context: once for each cursor; lock-free. */
void log_leave(struct queue_head *head, struct memory *memory);

/*
 * Let the log's last segments go. Context: behind a grace period after the last cursor has left,
 * and after publishers can't find the log any more.
 */
void log_destroy(struct queue_tail *tail, struct memory *memory);

/* ------------------------------------------------------------ for append.h, append.c and take.c */

/* Prepare the counts of a segment. `references`: what log_init() and others begin with. */
void log_segment_init(struct segment *segment, uint64_t references);

/* Note that the tail has left a segment. Context: by the thread that has moved it. */
void log_tail_left(struct memory *memory, struct segment *segment);

/* Move a cursor's count. Context: by the thread that has moved the cursor, once. */
void log_cross(struct memory *memory, struct segment *from, struct segment *to);

/*
 * About how far the foremost cursor of the segment has read: a hint. Only that cursor takes cells'
 * lines from the publisher (cell_own() in take.c). Else receivers on different cores would take
 * each line from one another.
 */
static inline _Atomic uint64_t *log_front(const struct segment *segment)
{
    return &segment_cell(segment, 0)->words[1];
}

#endif
