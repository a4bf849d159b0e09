/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Append to a queue. What is usual is inline, since a publish does it once for each subscription;
 * all else, and the argument for both, is in append.c.
 */
#ifndef EXITBUS_APPEND_H
#define EXITBUS_APPEND_H

#include "queue/queue.h"

/* Enough for the cores of one machine to be far apart, and few enough to fit a fan-out. */
#define CELLS_AHEAD 6

/*
 * Fetch what the next events need for writing, some events ahead. Otherwise the publisher waits for
 * each line until it has come from the receiver, who has read it in its last life: when it reads
 * the tag, and again in its next locked instruction. At the end of a segment that is its header,
 * which is going to be linked, and what will probably be the next one.
 */
static inline void cells_prefetch(const struct segment *segment, const struct memory *memory,
                                  unsigned next)
{
    unsigned ahead = next + CELLS_AHEAD - 1;
    if (unlikely(next == 1)) /* all of them, or they may still be another segment's */
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

/* Continuation cells first, the header's tag last: it makes all of them visible. */
static inline void cell_fill(struct cell *header, uint64_t seq, const struct record *record,
                             unsigned cells)
{
    if (mutant(QUEUE_TAG_FIRST)) {
        store_release(&header->tag, seq);
        probe(PROBE_APPEND_TAG_WRITTEN);
    }
    for (unsigned c = cells; c-- > 0;) {
        const uint64_t *words = record->words + c * CELL_WORDS;
        UNROLL_WORDS
        for (unsigned w = 0; w < CELL_WORDS; w++)
            store_relaxed(&header[c].words[w], words[w]);
        if (c > 0)
            store_relaxed(&header[c].tag, seq);
    }
    probe(PROBE_APPEND_PAYLOAD_WRITTEN);
    if (mutant(QUEUE_TAG_FIRST))
        return;
    /* Pairs with the acquire in cell_tag. */
    atomic_store_explicit(&header->tag, seq,
                          mutant(WEAK_TAG) ? memory_order_relaxed : memory_order_release);
    probe(PROBE_APPEND_TAG_WRITTEN);
}

static inline void append_at(struct queue_tail *tail, const struct memory *memory,
                             struct segment *segment, unsigned index, uint64_t seq,
                             const struct record *record, unsigned cells)
{
    cells_prefetch(segment, memory, index + cells);
    cell_fill(segment_cell(segment, index), seq, record, cells);
    atomic_store_explicit(&tail->hint, position_make(segment, index + cells),
                          mutant(WEAK_HINT) ? memory_order_relaxed : memory_order_release);
    probe(PROBE_APPEND_HINT_WRITTEN);
}

/* Move the tail from a full segment to the one that follows it. */
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

/* The same as queue_append, from cell `i` of `segment` on, where its place may be. */
int queue_append_from(struct queue_tail *tail, struct memory *memory, uint64_t seq,
                      const struct record *record, struct segment *segment, unsigned i);

/*
 * Append event `seq`, unless it is there already. All threads that append a given seq must carry
 * the same record, and all lower ones must be complete. 0, or -ENOMEM (nothing appended; may be
 * repeated). Lock-free.
 */
static inline __attribute__((always_inline)) int queue_append(struct queue_tail *tail,
                                                              struct memory *memory, uint64_t seq,
                                                              const struct record *record)
{
    /* Acquire: pairs with tail_advance. */
    struct segment *segment = load_acquire(&tail->segment);
    /* Acquire: pairs with the release in append_at; the cells before it are seen as filled. */
    uint64_t hint = load_acquire(&tail->hint);
    unsigned i = position_segment(hint) == segment ? position_index(hint) : 0;
    if (i > 0 && cell_tag(segment_cell(segment, i - 1)) >= seq && !mutant(QUEUE_NO_LOOK_BACK))
        return 0;
    /* Nearly always: the cell is empty, in a segment from before, and takes the whole record. */
    if (likely(i < segment->capacity && segment->base <= seq && record_is_single(record) &&
               cell_tag(segment_cell(segment, i)) < segment->base)) {
        append_at(tail, memory, segment, i, seq, record, 1);
        return 0;
    }
    return queue_append_from(tail, memory, seq, record, segment, i);
}

#endif
