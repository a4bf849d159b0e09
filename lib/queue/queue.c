/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One subscription's queue: see queue.h.
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

/* The base of a segment in the pool whose tags may be of any event. */
#define BASE_UNKNOWN UINT64_MAX

#define POSITION_CLOSED ((uint64_t)1)
#define POSITION_ONE_SHOT ((uint64_t)2) /* constant */

/* ----------------------------------------------------------------------------------- cells */

static inline unsigned cell_width(const struct cell *header)
{
    return record_cells(load_relaxed(&header->words[0]));
}

static inline uint64_t cell_word(const struct cell *cell, unsigned word)
{
    return load_relaxed(&cell->words[word]);
}

static void cell_read_ids(const struct cell *header, unsigned cells, struct exitbus_event *event)
{
    uint64_t words[(RECORD_CELLS_MAX - 1) * CELL_WORDS];
    for (unsigned c = 1; c < cells; c++)
        for (unsigned w = 0; w < CELL_WORDS; w++)
            words[(c - 1) * CELL_WORDS + w] = cell_word(&header[c], w);
    event_decode_ids(event, words);
}

/* Copy an event out; returns its cells. */
static inline unsigned cell_read(const struct cell *header, uint64_t seq,
                                 struct exitbus_event *event)
{
    uint64_t first = cell_word(header, 0);
    unsigned cells = record_cells(first);
    event->seq = seq;
    memcpy((char *)event + sizeof event->seq, &first, sizeof first);
    UNROLL_WORDS
    for (unsigned w = 1; w < CELL_WORDS; w++) {
        uint64_t word = cell_word(header, w);
        memcpy((char *)event + (1 + w) * sizeof word, &word, sizeof word);
    }
    if (likely(cells == 1)) {
        event->container_id[0] = '\0';
        event->exec_id[0] = '\0';
    } else {
        cell_read_ids(header, cells, event);
    }
    return cells;
}

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
    struct segment *segment = memory_take(memory, growth[step].class);
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
 * Events in cells 0 to end of a segment, as far as they are filled. Looks at each: not for a
 * segment of which it is known that each cell is an event (segment->wide).
 */
static uint64_t segment_events(const struct segment *segment, unsigned end)
{
    uint64_t events = 0;
    unsigned i = 0;
    while (i < end && cell_tag(segment_cell(segment, i)) >= segment->base) {
        i += cell_width(segment_cell(segment, i));
        events++;
    }
    return events;
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

static inline void tail_advance(struct queue_tail *tail, struct segment *from, struct segment *to)
{
    if (mutant(QUEUE_TAIL_STAYS) && from->class < SEGMENT_CLASSES)
        return;
    if (!mutant(QUEUE_HINT_STAYS))
        store_relaxed(&tail->hint, position_make(to, 0));
    struct segment *last = from;
    /* Release: whoever loads it sees the fields of `to`, and that hint. Fails if another was
     * faster, who has then moved it at least as far. */
    cas_release(&tail->segment, &last, to);
    /* Release: pairs with segment_leave. */
    store_release(&from->left, true);
    probe(PROBE_APPEND_TAIL_MOVED);
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

void queue_set_one_shot(struct queue_head *head)
{
    uint64_t position = load_relaxed(&head->position);
    store_relaxed(&head->position, position | POSITION_ONE_SHOT);
}

bool queue_one_shot(const struct queue_head *head)
{
    return load_relaxed(&head->position) & POSITION_ONE_SHOT;
}

int queue_append_from(struct queue_tail *tail, struct memory *memory, uint64_t seq,
                      const struct record *record, struct segment *segment, unsigned i)
{
    unsigned cells = record_cells(record->words[0]);
    for (;;) {
        if (segment->base > seq && !mutant(QUEUE_NO_BASE))
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

/* ------------------------------------------------------------------------------------ take */

/* Copy up to `capacity` events that lie from cell *index on; moves *index behind them. */
static size_t copy_run(const struct segment *segment, unsigned *index, struct exitbus_event *events,
                       size_t capacity)
{
    size_t count = 0;
    unsigned i = *index;
    while (count < capacity && i < segment->capacity) {
        const struct cell *cell = segment_cell(segment, i);
        uint64_t tag = cell_tag(cell);
        if (tag < segment->base && !(mutant(QUEUE_LEFTOVERS) && tag > 0))
            break;
        i += cell_read(cell, tag, &events[count++]);
    }
    if (mutant(QUEUE_BATCH_PAST_END) && count > 1 && i < segment->capacity)
        i++;
    *index = i;
    return count;
}

/* Give a segment back that both ends have left. */
static void segment_leave(struct queue_tail *tail, struct memory *memory, struct segment *segment,
                          struct segment *next)
{
    /*
     * The tail may lag; once it has moved on it never comes back. Its line is the publishers', so
     * it is looked at only if they have not left a note: with acquire, so that who begins after the
     * grace period knows of the tail, too. Relaxed for the tail itself: to have read that it has
     * moved is enough for who begins later to read no older value.
     */
    if (!load_acquire(&segment->left) && load_relaxed(&tail->segment) == segment)
        tail_advance(tail, segment, next);
    if (mutant(QUEUE_NEVER_RETIRED))
        return;
    if (segment->class < SEGMENT_CLASSES && mutant(QUEUE_NO_GRACE))
        memory_give(memory, segment->class, segment);
    else if (segment->class < SEGMENT_CLASSES)
        memory_retire(memory, segment->class, segment);
}

ssize_t queue_take(struct queue_tail *tail, struct queue_head *head, struct memory *memory,
                   struct exitbus_event *events, size_t capacity)
{
    /* Acquire: pairs with the CAS below, by which another receiver moved into a new segment. */
    uint64_t position = load_acquire(&head->position);
    bool one_shot = position & POSITION_ONE_SHOT;
    uint64_t kept = one_shot ? POSITION_ONE_SHOT : 0;
    if (one_shot)
        capacity = 1;
    for (;;) {
        if (position & POSITION_CLOSED)
            return -ESHUTDOWN;
        struct segment *segment = position_segment(position);
        unsigned index = position_index(position);
        size_t count = copy_run(segment, &index, events, capacity);
        if (count > 0) {
            probe(PROBE_RECEIVE_COPIED);
            uint64_t after = position_make(segment, index) | kept;
            if (one_shot && !mutant(ONE_SHOT_TWICE))
                after |= POSITION_CLOSED;
            /* The moment of receive. Release: who reads the new position knows of the cells before
             * it, which queue_taken counts. No acquire: this value was acquired when it was read,
             * and no value comes twice within a section. */
            if (mutant(QUEUE_TAKE_BY_STORE))
                store_release(&head->position, after);
            if (mutant(QUEUE_TAKE_BY_STORE) ||
                cas_release_else_acquire(&head->position, &position, after)) {
                probe(PROBE_RECEIVE_TAKEN);
                return (ssize_t)count;
            }
            continue;
        }
        probe(PROBE_RECEIVE_FOUND_NONE);
        /* Acquire: pairs with the link in segment_follow. */
        struct segment *next = load_acquire(&segment->next);
        if (!next)
            return -EAGAIN;
        /* A gap, or an event that came between the two loads: look once more. */
        if (index < segment->capacity && cell_tag(segment_cell(segment, index)) >= segment->base &&
            !mutant(QUEUE_NO_SECOND_LOOK))
            continue;
        uint64_t after = position_make(next, 0) | kept;
        /* Release: hands on the fields of `next`. No acquire, as above. */
        if (cas_release_else_acquire(&head->position, &position, after)) {
            probe(PROBE_RECEIVE_HEAD_MOVED);
            segment_leave(tail, memory, segment, next);
            position = after;
        }
    }
}

bool queue_close(struct queue_head *head)
{
    if (mutant(QUEUE_CLOSE_NOT))
        return true;
    /* Release: pairs with the loads in queue_take; who is told knows what was done before. */
    return !(fetch_or_release(&head->position, POSITION_CLOSED) & POSITION_CLOSED);
}

bool queue_closed(const struct queue_head *head)
{
    return load_relaxed(&head->position) & POSITION_CLOSED;
}

bool queue_empty(const struct queue_head *head)
{
    uint64_t position = load_acquire(&head->position);
    if (position & POSITION_CLOSED)
        return false;
    const struct segment *segment = position_segment(position);
    unsigned index = position_index(position);
    for (;;) {
        if (index < segment->capacity && cell_tag(segment_cell(segment, index)) >= segment->base)
            return false;
        const struct segment *next = load_acquire(&segment->next);
        if (!next)
            return true;
        if (index < segment->capacity && cell_tag(segment_cell(segment, index)) >= segment->base)
            return false;
        segment = next;
        index = 0;
    }
}

/* ---------------------------------------------------------------------------- counts, end */

uint64_t queue_taken(const struct queue_head *head)
{
    uint64_t position = load_acquire(&head->position);
    const struct segment *segment = position_segment(position);
    return segment->first_ordinal + segment_events(segment, position_index(position));
}

uint64_t queue_appended(const struct queue_tail *tail)
{
    const struct segment *segment = load_acquire(&tail->segment);
    const struct segment *next;
    while ((next = load_acquire(&segment->next)))
        segment = next;
    return segment->first_ordinal + segment_events(segment, segment->capacity);
}

void queue_finish(struct queue_head *head, struct memory *memory)
{
    struct segment *segment = position_segment(load_relaxed(&head->position));
    while (segment) {
        struct segment *next = load_relaxed(&segment->next);
        if (segment->class < SEGMENT_CLASSES) {
            segment->base = BASE_UNKNOWN;
            memory_give(memory, segment->class, segment);
        }
        segment = next;
    }
}
