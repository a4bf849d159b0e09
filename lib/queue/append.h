/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Appending to a queue. The usual case is inline, because a publish appends once for each
 * subscription. All else is in append.c, and so is the argument for both.
 */
#ifndef EXITBUS_APPEND_H
#define EXITBUS_APPEND_H

#include "queue/log.h"
#include "queue/queue.h"

/* Far enough for the cores of one machine, and few enough to fit a fan-out. */
#define CELLS_AHEAD 6

/*
 * Fetch the cells of events to come, so that they can be written at once. A receiver has read these
 * lines in their last life. Without the fetch, the publisher waits for each line twice: when it
 * loads the tag, and at its next locked instruction. At a segment's end this fetches the segment's
 * header, which is going to be linked, and the block that will probably be the next segment.
 */
static inline void cells_prefetch(const struct segment *segment, const struct memory *memory,
                                  unsigned next)
{
    unsigned ahead = next + CELLS_AHEAD - 1;
    if (unlikely(next == 1)) /* all of them: what was fetched ahead may be another segment */
        for (unsigned i = 1; i < CELLS_AHEAD && i < segment->capacity; i++)
            prefetch_for_write(segment_cell(segment, i));
    if (likely(ahead < segment->capacity)) {
        prefetch_for_write(segment_cell(segment, ahead));
    } else if (segment->class == SEGMENT_CLASS_126) {
        const struct segment *successor = memory_peek(memory, SEGMENT_CLASS_126);
        prefetch_for_write(segment);
        if (successor)
            prefetch_for_write(segment_cell(successor, ahead - segment->capacity));
    }
}

/*
 * Fill the cells of one event: the continuation cells first, the header's tag last. The tag makes
 * all of them visible.
 */
static inline void cell_fill(struct cell *header, uint64_t seq, const struct record *record,
                             unsigned cells)
{
    for (unsigned c = cells; c-- > 0;) {
        const uint64_t *words = record->words + c * CELL_WORDS;
        UNROLL_WORDS
        for (unsigned w = 0; w < CELL_WORDS; w++)
            store_relaxed(&header[c].words[w], words[w]);
        if (c > 0)
            store_relaxed(&header[c].tag, seq);
    }
    probe(PROBE_APPEND_PAYLOAD_WRITTEN);
    /* Release; pairs with cell_tag(). */
    store_release(&header->tag, seq);
    probe(PROBE_APPEND_TAG_WRITTEN);
}

static inline void append_at(struct queue_tail *tail, const struct memory *memory,
                             struct segment *segment, unsigned index, uint64_t seq,
                             const struct record *record, unsigned cells)
{
    cells_prefetch(segment, memory, index + cells);
    cell_fill(segment_cell(segment, index), seq, record, cells);
    store_release(&tail->hint, position_make(segment, index + cells));
    probe(PROBE_APPEND_HINT_WRITTEN);
}

/* Move the tail from a full segment to the one that follows it. */
static inline void tail_advance(struct queue_tail *tail, struct memory *memory,
                                struct segment *from, struct segment *to)
{
    store_relaxed(&tail->hint, position_make(to, to->first));
    struct segment *last = from;
    /* Release; pairs with queue_append(). A thread that loads it sees the fields of `to`, and
     * that hint. The CAS fails if another thread has moved the tail at least as far. */
    bool moved = cas_release(&tail->segment, &last, to);
    probe(PROBE_APPEND_TAIL_MOVED);
    if (from->first > 0) {
        if (moved)
            log_tail_left(memory, from);
        return;
    }
    /* Release; pairs with segment_leave(). */
    store_release(&from->left, true);
}

/* queue_append() from cell `i` of `segment` on, where the event's place may be. */
int queue_append_from(struct queue_tail *tail, struct memory *memory, uint64_t seq,
                      const struct record *record, struct segment *segment, unsigned i);

/*
 * Append event `seq`, unless it is there already. All threads that append a given seq carry the
 * same record, and all events below it are complete. Returns 0, or -ENOMEM: nothing is appended,
 * and the call may be repeated. Context: inside a section; lock-free.
 */
static inline __attribute__((always_inline)) int queue_append(struct queue_tail *tail,
                                                              struct memory *memory, uint64_t seq,
                                                              const struct record *record)
{
    /* Acquire; pairs with tail_advance(). */
    struct segment *segment = load_acquire(&tail->segment);
    /* Acquire; pairs with append_at(). The cells before the hint are seen as filled. */
    uint64_t hint = load_acquire(&tail->hint);
    unsigned i = segment_hint_index(segment, hint);
    if (i > segment->first && cell_tag(segment_cell(segment, i - 1)) >= seq)
        return 0;
    /* The usual case: the cell is empty, its segment is older, and it takes the whole record. */
    if (likely(i < segment->capacity && segment->base <= seq && record_is_single(record) &&
               cell_tag(segment_cell(segment, i)) < segment->base)) {
        append_at(tail, memory, segment, i, seq, record, 1);
        return 0;
    }
    return queue_append_from(tail, memory, seq, record, segment, i);
}

#endif
