/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Appending to a queue, and why a queue is right. With drawings: docs/design.md, "Queues".
 *
 * How it works:
 * - Cells lie in segments that are linked in the order of events. An event takes one cell. With ids
 *   it takes a header and continuation cells, next to each other in one segment. The event's seq is
 *   the tag of all of them.
 * - A cell is filled once in a segment's life, and read any number of times. A receiver stores one
 *   word of it again, with the same value: cell_own() in take.c.
 * - A tag below the segment's base means empty.
 *
 * Why it is right:
 * 1. Place. All events below s are complete before s begins (order.c), so all threads that append s
 *    find the same first empty cell, and write the same bytes.
 * 2. Late threads. A thread late for s finds a tag >= s at or before its place, or a segment with a
 *    base above s. It looks at the cell before its start too, because the hint may lie behind s.
 *    Else it writes the same bytes again, in a segment that is not reused before a grace period.
 * 3. Empty. Leftover tags in a segment from the pool are below its base. Where that is not certain,
 *    the segment is marked BASE_UNKNOWN, and wiped when it is allocated.
 * 4. Segments. `tail->segment` never goes back. `hint` may, so it serves only as an index into the
 *    tail segment. A thread that moves the tail first writes a hint to the new segment's begin.
 * 5. Take. `position` moves forward by CAS alone, so each event goes to one receiver. A close sets
 *    a bit in the same word, so no CAS that began before succeeds after it (G3).
 * 6. A gap. Cells that are empty in a segment with a successor stay empty: the link came after
 *    everything in this segment was complete. So a receiver that finds a successor looks once more.
 */
#include "queue/append.h"

#include <errno.h>

/* A queue is busy if it gets at least one of this many events of the bus. */
#define BUSY_ONE_IN 16

/* -------------------------------------------------------------------------------- segments */

static const struct {
    uint16_t capacity;
    uint16_t class;
} growth[] = {{4, SEGMENT_CLASS_4}, {16, SEGMENT_CLASS_16}, {126, SEGMENT_CLASS_126}};

/* Returns a segment to follow `last`, for event `seq`, not linked yet; NULL without memory. */
static struct segment *segment_new(const struct segment *last, struct memory *memory, uint64_t seq,
                                   unsigned cells, uint64_t first_ordinal)
{
    /* Only a busy queue gets a larger segment than its last. There are few of those, and many
     * queues that get an event once in a while. */
    bool busy = seq - last->base <= (uint64_t)BUSY_ONE_IN * last->capacity;
    unsigned wanted = busy ? last->capacity + 1u : last->capacity, step = 0;
    while (growth[step].class < SEGMENT_CLASS_126 &&
           (growth[step].capacity < wanted || growth[step].capacity < cells + last->first))
        step++;
    struct segment *segment = memory_alloc(memory, growth[step].class);
    if (!segment)
        return NULL;
    if (unlikely(segment->base == BASE_UNKNOWN))
        for (uint32_t i = 0; i < growth[step].capacity; i++)
            store_relaxed(&segment_cell(segment, i)->tag, 0);
    segment->capacity = growth[step].capacity;
    segment->class = growth[step].class;
    segment->first = last->first;
    segment->first_ordinal = first_ordinal;
    segment->base = seq;
    store_relaxed(&segment->next, NULL);
    store_relaxed(&segment->left, false);
    store_relaxed(&segment->wide, false);
    if (segment->first > 0)
        log_segment_init(segment, 0);
    return segment;
}

/*
 * Returns the segment after a full one, whose cells are filled up to `end`. Links a new one unless
 * another thread has. NULL without memory.
 */
static struct segment *segment_follow(struct segment *full, unsigned end, struct memory *memory,
                                      uint64_t seq, unsigned cells)
{
    /* Acquire; pairs with the CAS below, for the new segment's fields. */
    struct segment *next = load_acquire(&full->next);
    if (next)
        return next;
    /* Relaxed: all events below seq are visible here, and so is the flag that they set. */
    bool wide = load_relaxed(&full->wide);
    uint64_t ordinal = full->first_ordinal + (wide ? segment_events(full, end) : end - full->first);
    struct segment *fresh = segment_new(full, memory, seq, cells, ordinal);
    if (!fresh)
        return NULL;
    if (cas_release_else_acquire(&full->next, &next, fresh)) {
        probe(PROBE_APPEND_SEGMENT_LINKED);
        return fresh;
    }
    /* Never linked. But the pool's stack needs a grace period between pop and push of a block. */
    memory_retire(memory, fresh->class, fresh);
    return next;
}

/* ---------------------------------------------------------------------------------- append */

void queue_tail_init(struct queue_tail *tail, struct segment *segment, unsigned capacity,
                     unsigned first)
{
    segment->base = 1; /* the lowest seq there is */
    segment->first_ordinal = 0;
    segment->capacity = (uint16_t)capacity;
    segment->class = SEGMENT_CLASSES; /* it belongs to its owner */
    segment->first = (uint8_t)first;
    atomic_init(&segment->next, NULL);
    atomic_init(&segment->left, false);
    atomic_init(&segment->wide, false);
    for (unsigned i = 0; i < capacity; i++)
        atomic_init(&segment_cell(segment, i)->tag, 0);
    atomic_init(&tail->segment, segment);
    atomic_init(&tail->hint, position_make(segment, first));
}

void queue_init(struct queue_tail *tail, struct queue_head *head, struct first_segment *first)
{
    queue_tail_init(tail, &first->segment, QUEUE_FIRST_CELLS, 0);
    atomic_init(&head->position, position_make(&first->segment, 0));
}

int queue_append_from(struct queue_tail *tail, struct memory *memory, uint64_t seq,
                      const struct record *record, struct segment *segment, unsigned i)
{
    unsigned cells = record_cells(record->words[0]);
    for (;;) {
        if (segment->base > seq)
            return 0;
        while (i < segment->capacity) {
            struct cell *cell = segment_cell(segment, i);
            uint64_t tag = cell_tag(cell);
            if (tag >= seq)
                return 0;
            if (tag >= segment->base) {
                i += cell_width(cell);
                continue;
            }
            if (i + cells > segment->capacity)
                break;
            if (cells > 1)
                store_relaxed(&segment->wide, true);
            append_at(tail, memory, segment, i, seq, record, cells);
            return 0;
        }
        struct segment *next = segment_follow(segment, i, memory, seq, cells);
        if (!next)
            return -ENOMEM;
        tail_advance(tail, memory, segment, next);
        segment = next;
        i = segment->first;
    }
}
