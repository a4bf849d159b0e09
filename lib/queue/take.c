/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Taking from a queue, closing it, and its counts: see queue.h. The argument: append.c, 5 and 6. */
#include "queue/append.h"

#include <errno.h>

/* ----------------------------------------------------------------------------------- cells */

static inline uint64_t cell_word(const struct cell *cell, unsigned word)
{
    return load_relaxed(&cell->words[word]);
}

/*
 * Store the last word of a cell again, as it is, so that the cell's line becomes this core's. A
 * line that this core has only read stays shared in the publisher's cache, and each line of that
 * kind makes the publisher's next life of the cell wait for an upgrade.
 *
 * The store changes nothing: the word was final when the tag was acquired, each thread that writes
 * it in this section's time writes the same, and the cell is not used anew before the section ends.
 */
static inline void cell_own(struct cell *cell, uint64_t last)
{
    store_relaxed(&cell->words[CELL_WORDS - 1], last);
}

static void cell_read_ids(struct cell *header, unsigned cells, struct exitbus_event *event,
                          bool own)
{
    uint64_t words[(RECORD_CELLS_MAX - 1) * CELL_WORDS];
    for (unsigned c = 1; c < cells; c++) {
        for (unsigned w = 0; w < CELL_WORDS; w++)
            words[(c - 1) * CELL_WORDS + w] = cell_word(&header[c], w);
        if (own)
            cell_own(&header[c], words[c * CELL_WORDS - 1]);
    }
    event_decode_ids(event, words);
}

/* Copy an event out, and take its lines from the publisher (`own`). Returns its number of cells. */
static inline unsigned cell_read(struct cell *header, uint64_t seq, struct exitbus_event *event,
                                 bool own)
{
    uint64_t first = cell_word(header, 0), last = cell_word(header, CELL_WORDS - 1);
    /* Next to the load: so the line is fetched once, for writing. */
    if (own)
        cell_own(header, last);
    unsigned cells = record_cells(first);
    event->seq = seq;
    memcpy((char *)event + sizeof event->seq, &first, sizeof first);
    UNROLL_WORDS
    for (unsigned w = 1; w < CELL_WORDS - 1; w++) {
        uint64_t word = cell_word(header, w);
        memcpy((char *)event + (1 + w) * sizeof word, &word, sizeof word);
    }
    memcpy((char *)event + CELL_WORDS * sizeof last, &last, sizeof last);
    if (likely(cells == 1)) {
        event->container_id[0] = '\0';
        event->exec_id[0] = '\0';
    } else {
        cell_read_ids(header, cells, event, own);
    }
    return cells;
}

/* ------------------------------------------------------------------------------------ take */

/*
 * Copy up to `capacity` events that lie from cell *index on; *index is moved behind them. Returns
 * how many. Events are copied before the CAS that takes them: a second pass would cost more than
 * copies made in vain.
 */
static size_t copy_run(const struct segment *segment, unsigned *index, struct exitbus_event *events,
                       size_t capacity)
{
    size_t count = 0;
    unsigned i = *index;
    bool is_log = segment->first > 0;
    bool own = !is_log || i >= load_relaxed(log_front(segment));
    while (count < capacity && i < segment->capacity) {
        struct cell *cell = segment_cell(segment, i);
        uint64_t tag = cell_tag(cell);
        if (tag < segment->base)
            break;
        i += cell_read(cell, tag, &events[count++], own);
    }
    if (is_log && own && count > 0)
        store_relaxed(log_front(segment), i);
    *index = i;
    return count;
}

/* Retire a segment that the head has left, after the tail has left it, too. */
static void segment_leave(struct queue_tail *tail, struct memory *memory, struct segment *segment,
                          struct segment *next)
{
    /* Acquire; pairs with tail_advance(). A thread that begins after the grace period then loads
     * the new tail, too. The tail may lag, but once it has moved on it never comes back. Its
     * line is the publishers', so it is loaded only without their note in `left`. Relaxed for
     * the tail: this load has read that it moved, so no thread that begins later reads an older
     * value. */
    if (!load_acquire(&segment->left) && load_relaxed(&tail->segment) == segment)
        tail_advance(tail, memory, segment, next);
    if (segment->class < SEGMENT_CLASSES)
        memory_retire(memory, segment->class, segment);
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

void queue_set_sticky(struct queue_head *head)
{
    uint64_t position = load_relaxed(&head->position);
    store_relaxed(&head->position, position | POSITION_STICKY);
}

bool queue_sticky(const struct queue_head *head)
{
    return load_relaxed(&head->position) & POSITION_STICKY;
}

int queue_see(struct queue_head *head)
{
    /* This load, or the CAS, is the moment of receive, and lies behind the load of the event's tag.
     * So if the close happens before the append (G3), the close is what is read here.
     * Acquire, and so where the CAS fails; pairs with queue_close(). */
    uint64_t position = load_acquire(&head->position);
    while (!(position & (POSITION_CLOSED | POSITION_SEEN)))
        if (cas_acquire_else_acquire(&head->position, &position, position | POSITION_SEEN))
            return 1;
    return position & POSITION_CLOSED ? -ESHUTDOWN : 0;
}

bool queue_seen(const struct queue_head *head)
{
    return load_relaxed(&head->position) & POSITION_SEEN;
}

ssize_t queue_read(const struct queue_head *head, struct exitbus_event *event)
{
    uint64_t position = load_acquire(&head->position);
    const struct segment *segment = position_segment(position);
    unsigned index = position_index(position);
    while (!(position & POSITION_CLOSED)) {
        if (copy_run(segment, &index, event, 1) == 1) {
            probe(PROBE_RECEIVE_COPIED);
            return 1;
        }
        probe(PROBE_RECEIVE_FOUND_NONE);
        /* As in queue_take(); a wide event may lie behind a gap. */
        const struct segment *next = load_acquire(&segment->next);
        if (!next)
            return -EAGAIN;
        if (index < segment->capacity && cell_tag(segment_cell(segment, index)) >= segment->base)
            continue;
        segment = next;
        index = next->first;
    }
    return -ESHUTDOWN;
}

ssize_t queue_take(struct queue_tail *tail, struct queue_head *head, struct memory *memory,
                   struct exitbus_event *events, size_t capacity)
{
    /* Acquire; pairs with the CAS below, by which another receiver moved into a new segment. */
    uint64_t position = load_acquire(&head->position);
    uint64_t kept = position & (POSITION_ONE_SHOT | POSITION_CURSOR);
    bool one_shot = kept & POSITION_ONE_SHOT;
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
            if (one_shot)
                after |= POSITION_CLOSED;
            /* Release; pairs with queue_taken(): a thread that reads the new position sees the
             * cells before it. This is the moment of receive. No acquire: the expected value was
             * acquired when it was loaded, and no value comes twice within a section. */
            if (cas_release_else_acquire(&head->position, &position, after)) {
                probe(PROBE_RECEIVE_TAKEN);
                return (ssize_t)count;
            }
            continue;
        }
        probe(PROBE_RECEIVE_FOUND_NONE);
        /* Acquire; pairs with the CAS in segment_follow(). */
        struct segment *next = load_acquire(&segment->next);
        if (!next)
            return -EAGAIN;
        /* A gap, or an event that was appended between the two loads: look once more. */
        if (index < segment->capacity && cell_tag(segment_cell(segment, index)) >= segment->base)
            continue;
        uint64_t after = position_make(next, next->first) | kept;
        /* Release; pairs with queue_take(), for the fields of `next`. No acquire, as above. */
        if (cas_release_else_acquire(&head->position, &position, after)) {
            probe(PROBE_RECEIVE_HEAD_MOVED);
            if (kept & POSITION_CURSOR)
                log_cross(memory, segment, next);
            else
                segment_leave(tail, memory, segment, next);
            position = after;
        }
    }
}

bool queue_close(struct queue_head *head)
{
    /* Release; pairs with queue_take(). A receiver that finds the queue closed sees all that the
     * closing thread did before. */
    return !(fetch_or_release(&head->position, POSITION_CLOSED) & POSITION_CLOSED);
}

bool queue_is_cursor(const struct queue_head *head)
{
    return load_relaxed(&head->position) & POSITION_CURSOR;
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
        index = segment->first;
    }
}

/* ---------------------------------------------------------------------------- counts, end */

uint64_t queue_taken(const struct queue_head *head)
{
    uint64_t position = load_acquire(&head->position);
    return segment_ordinal(position_segment(position), position_index(position));
}

uint64_t queue_appended(const struct queue_tail *tail)
{
    const struct segment *segment = load_acquire(&tail->segment);
    const struct segment *next;
    while ((next = load_acquire(&segment->next)))
        segment = next;
    /* Acquire; pairs with append_at(). */
    unsigned index = segment_hint_index(segment, load_acquire(&tail->hint));
    return segment_ordinal(segment, segment_filled_end(segment, index));
}

void queue_destroy(struct queue_head *head, struct memory *memory)
{
    struct segment *segment = position_segment(load_relaxed(&head->position));
    while (segment) {
        struct segment *next = load_relaxed(&segment->next);
        if (segment->class < SEGMENT_CLASSES) {
            segment->base = BASE_UNKNOWN;
            memory_free(memory, segment->class, segment);
        }
        segment = next;
    }
}
