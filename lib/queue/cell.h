/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Cells, the segments that they lie in, and positions in them: what append.h and take.c share. The
 * invariants: append.c.
 */
#ifndef EXITBUS_CELL_H
#define EXITBUS_CELL_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "event/event.h"
#include "memory/memory.h"

/*
 * One cache line. `tag` is the seq of the cell's event. A tag below the segment's base means empty.
 */
struct cell {
    _Alignas(CACHE_LINE) _Atomic uint64_t tag;
    _Atomic uint64_t words[CELL_WORDS];
};

/* A run of cells. Plain fields are written before the segment is linked, then constant. */
struct segment {
    struct block block;             /* unused in a queue's first segment */
    _Atomic(struct segment *) next; /* written once, by a CAS */
    uint64_t base;                  /* the event that the segment was linked for */
    uint64_t first_ordinal;         /* events put into the queue before this segment */
    uint16_t capacity;              /* cells */
    uint16_t class;                 /* memory class */
    _Atomic bool left;              /* the tail has moved on; written by appending threads */
    _Atomic bool wide;              /* an event here takes more than one cell */
    uint8_t first;                  /* the first cell for events: 1 in a log (log.h), else 0 */
};

_Static_assert(sizeof(struct segment) == CACHE_LINE, "cells begin on the second line");

/* Returns cell `index`. The cells lie behind the segment, in the same block. */
static inline struct cell *segment_cell(const struct segment *segment, unsigned index)
{
    return (struct cell *)(uintptr_t)(segment + 1) + index;
}

/* The first segment lies in its owner, because most subscriptions wait for one exit. */
#define QUEUE_FIRST_CELLS 1
struct first_segment {
    struct segment segment;
    struct cell cells[QUEUE_FIRST_CELLS];
};

/* Memory classes of the segments that follow. */
enum { SEGMENT_CLASS_4, SEGMENT_CLASS_16, SEGMENT_CLASS_126, SEGMENT_CLASSES };
#define SEGMENT_BYTES(cells) (sizeof(struct segment) + (cells) * sizeof(struct cell))

/* The base of a free segment whose tags may belong to any event. */
#define BASE_UNKNOWN UINT64_MAX

/* A position in a queue, packed: the cell's index, the segment's address, and flags. */
#define POSITION_INDEX_SHIFT 48
#define POSITION_SEGMENT ((((uint64_t)1 << POSITION_INDEX_SHIFT) - 1) & ~(uint64_t)(CACHE_LINE - 1))

static inline struct segment *position_segment(uint64_t position)
{
    return (struct segment *)(uintptr_t)(position & POSITION_SEGMENT);
}

static inline unsigned position_index(uint64_t position)
{
    return (unsigned)(position >> POSITION_INDEX_SHIFT);
}

/* Returns where to look for the end of a segment: as `hint` says if it names the segment. */
static inline unsigned segment_hint_index(const struct segment *segment, uint64_t hint)
{
    return position_segment(hint) == segment ? position_index(hint) : segment->first;
}

#define POSITION_CLOSED ((uint64_t)1)
#define POSITION_ONE_SHOT ((uint64_t)2) /* constant, like the next two */
#define POSITION_CURSOR ((uint64_t)4)   /* into a log, which has other cursors */
#define POSITION_STICKY ((uint64_t)8)   /* a one-shot whose event stays */
#define POSITION_SEEN ((uint64_t)16)    /* sticky: its event was received */

static inline uint64_t position_make(const struct segment *segment, unsigned index)
{
    return (uint64_t)(uintptr_t)segment | (uint64_t)index << POSITION_INDEX_SHIFT;
}

static inline uint64_t cell_tag(const struct cell *cell)
{
    /* Acquire; pairs with cell_fill(), for the words and the continuation cells. */
    return load_acquire(&cell->tag);
}

static inline unsigned cell_width(const struct cell *header)
{
    return record_cells(load_relaxed(&header->words[0]));
}

/*
 * Returns the number of events in the cells of a segment before `end`, as far as they are filled.
 * It loads each tag, so callers skip it where each cell is one event (segment->wide is false).
 */
static inline uint64_t segment_events(const struct segment *segment, unsigned end)
{
    uint64_t events = 0;
    unsigned i = segment->first;
    while (i < end && cell_tag(segment_cell(segment, i)) >= segment->base) {
        i += cell_width(segment_cell(segment, i));
        events++;
    }
    return events;
}

/* Returns the number of events in front of a cell, whose cells are visible to this thread. */
static inline uint64_t segment_ordinal(const struct segment *segment, unsigned index)
{
    /* Relaxed: the flag is set before the event that needs it is appended. */
    bool wide = load_relaxed(&segment->wide);
    return segment->first_ordinal +
           (wide ? segment_events(segment, index) : index - segment->first);
}

/* Returns the first empty cell from `index` on, where an event begins. */
static inline unsigned segment_filled_end(const struct segment *segment, unsigned index)
{
    while (index < segment->capacity && cell_tag(segment_cell(segment, index)) >= segment->base)
        index += cell_width(segment_cell(segment, index));
    return index;
}

#endif
