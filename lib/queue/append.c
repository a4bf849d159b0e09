/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Appending to a queue, and why a queue is right: see queue.h.
 *
 * Cells lie in segments that are linked in the order of events. An event takes one cell, or, with
 * ids, a header and continuation cells next to each other in one segment; every one of them has the
 * event's seq as its tag. A cell is filled once, in the life of a segment, and read any number of
 * times; receivers never write to it.
 *
 * Append (idempotent). Threads that append seq s may run side by side, or long after s is complete.
 * They rely on this: all events below s are complete everywhere before s can begin, so their cells
 * are visible to whoever works on s (order.c hands that on). Hence the place of s is a function of
 * what is visible: the first empty cell behind them, or, where the record does not fit, the first
 * cell of the next segment. So all threads that find a place find the same one and write the same
 * bytes. A thread that comes late must notice it, by one of:
 *   - a filled cell with a tag >= s at or before the place where it looks;
 *   - a segment whose base is above s: it was linked for a later event.
 * It looks at the cell *before* its starting point too, since the hint may already lie behind s.
 * A thread so late that it sees s's own cell as still empty writes the same bytes there again. That
 * is harmless, since a segment is not used for other events before a grace period.
 *
 * Empty. A segment from the pool keeps its leftover tags. Those of its last life are below the
 * event for which it is linked next, its base, and a tag below the base means empty: it was left
 * because a later event had been put into the next segment, and only an event as late or later can
 * link it again. Not so where a queue has ended, with the event in it that is being distributed
 * just now: if that lacked memory for another queue, such a segment may come round for that very
 * event. It is marked when the queue ends, and wiped. (Fresh memory is zero.)
 *
 * Segments. `tail->segment` moves along `next` by CAS and so never goes back; `hint` is written
 * plainly and may go back, so it is used only if it names the tail segment, and only as an index.
 * A hint from a segment's last life may still be there when the segment comes back to this very
 * queue: so whoever moves the tail to a segment first writes a hint to its begin. All hints of the
 * last life were written before the grace period, so before that; who reads the new tail reads that
 * hint or a later one. (A slow mover may write a begin again, which is right in any life.)
 *
 * Take. `position` moves forward by CAS alone, so each event goes to one receiver; closing sets a
 * bit in the same word, so that no CAS from before can succeed after (G3). Events are copied before
 * that: to go over them twice costs more than copies made in vain. The winner of the CAS
 * that leaves a segment behind retires it, after making sure that `tail->segment` has left it too.
 *
 * A gap. If a record does not fit, the rest of the segment stays empty for good. A receiver that
 * meets an empty cell in a segment with a successor looks at the cell once more: the successor was
 * linked after everything in this segment was complete, so what is empty now stays so.
 */
#include "queue/append.h"

#include <errno.h>

/* A queue is busy that gets one of so many events. */
#define BUSY_ONE_IN 16

/* -------------------------------------------------------------------------------- segments */

static const struct {
    uint16_t capacity;
    uint16_t class;
} growth[] = {{4, SEGMENT_CLASS_4}, {16, SEGMENT_CLASS_16}, {126, SEGMENT_CLASS_126}};

/* A segment to follow `last`, for event `seq`; not linked yet. */
static struct segment *segment_new(const struct segment *last, struct memory *memory, uint64_t seq,
                                   unsigned cells, uint64_t first_ordinal)
{
    /* Larger than the last one only for a queue that gets a good part of all events: there are few
     * of those, and many that get one in a while. */
    bool busy = seq - last->base <= (uint64_t)BUSY_ONE_IN * last->capacity;
    unsigned wanted = busy ? last->capacity + 1u : last->capacity, step = 0;
    while (growth[step].class < SEGMENT_CLASS_126 &&
           (growth[step].capacity < wanted || growth[step].capacity < cells))
        step++;
    struct segment *segment = memory_alloc(memory, growth[step].class);
    if (!segment)
        return NULL;
    if (unlikely(segment->base == BASE_UNKNOWN))
        for (uint32_t i = 0; i < growth[step].capacity; i++)
            store_relaxed(&segment_cell(segment, i)->tag, 0);
    segment->capacity = growth[step].capacity;
    segment->class = growth[step].class;
    segment->first_ordinal = first_ordinal;
    segment->base = seq;
    store_relaxed(&segment->next, NULL);
    store_relaxed(&segment->left, false);
    store_relaxed(&segment->wide, false);
    return segment;
}

/*
 * The segment after a full one, whose cells are filled up to `end`, linked by whoever comes first.
 * NULL: no memory.
 */
static struct segment *segment_follow(struct segment *full, unsigned end, struct memory *memory,
                                      uint64_t seq, unsigned cells)
{
    /* Acquire: pairs with the release CAS below, for the new segment's fields. */
    struct segment *next = load_acquire(&full->next);
    if (next)
        return next;
    /* Relaxed: all below seq is known here, and so what it has noted. */
    bool wide = load_relaxed(&full->wide);
    uint64_t ordinal = full->first_ordinal + (wide ? segment_events(full, end) : end);
    struct segment *fresh = segment_new(full, memory, seq, cells, ordinal);
    if (!fresh)
        return NULL;
    if (cas_release_else_acquire(&full->next, &next, fresh)) {
        probe(PROBE_APPEND_SEGMENT_LINKED);
        return fresh;
    }
    /* Never linked, but the pool's stack wants a grace period between take and give. */
    memory_retire(memory, fresh->class, fresh);
    return next;
}

/* ---------------------------------------------------------------------------------- append */

void queue_init(struct queue_tail *tail, struct queue_head *head, struct first_segment *first)
{
    struct segment *segment = &first->segment;
    segment->base = 1; /* the lowest seq there is */
    segment->first_ordinal = 0;
    segment->capacity = QUEUE_FIRST_CELLS;
    segment->class = SEGMENT_CLASSES; /* belongs to its owner */
    atomic_init(&segment->next, NULL);
    atomic_init(&segment->left, false);
    atomic_init(&segment->wide, false);
    for (unsigned i = 0; i < QUEUE_FIRST_CELLS; i++)
        atomic_init(&first->cells[i].tag, 0);
    atomic_init(&tail->segment, segment);
    atomic_init(&tail->hint, position_make(segment, 0));
    atomic_init(&head->position, position_make(segment, 0));
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
        tail_advance(tail, segment, next);
        segment = next;
        i = 0;
    }
}
