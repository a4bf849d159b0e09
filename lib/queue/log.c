/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The segments of a log, and what keeps them: see log.h.
 *
 * How it works
 *   - Cell 0 of each segment holds no event. Its first word counts references: the cursors in the
 *     segment, in units of CURSOR, and three flags. So receivers write to a line of their own, and
 *     not to the one that each append reads. Its tag is left alone, since the block may come back
 *     in a queue, where cell 0 is for events.
 *   - PREDECESSOR_GONE: the segment before it is dead. The first segment begins with it.
 *   - TAIL_GONE: the tail has moved on. So the segment has a successor.
 *   - DEAD: set once, by a CAS from "both flags and no cursor". The thread that sets it retires the
 *     segment, and marks the next one PREDECESSOR_GONE.
 *   - A cursor moves by the CAS of its head. The winner counts it in the next segment, and then
 *     takes it off this one.
 *
 * Why it is right
 *  1. Exact where it matters. A segment gets PREDECESSOR_GONE only after the one before it is dead,
 *     which needs that one's cursors to be 0. A mover gives up its count there only after it has
 *     counted itself here. So from PREDECESSOR_GONE on, each cursor that will ever come is counted.
 *     Before that the count may be too low, even negative, and it decides nothing.
 *  2. Every segment from the slowest open cursor to the tail is alive: by 1, along the list.
 *  3. A join counts itself in the tail's segment, and then walks to the end. The segment where it
 *     ends had no successor when it was counted there, so it lacked TAIL_GONE and was not dead. In
 *     a dead segment on the way its count goes up and down without effect: with DEAD set the value
 *     is never PREDECESSOR_GONE | TAIL_GONE.
 *  4. A join sees each event whose publish has returned as filled, and stops at a cell that it read
 *     as empty. An event whose publish begins later goes to that cell or one behind it.
 *  5. The references of a block are changed only in the section in which the segment was reached.
 *     So never in the block's next life. (A callback reaches it by holding PREDECESSOR_GONE back.)
 *  6. A thread that is stopped between two counts pins its segment and those behind it while it is
 *     stopped, as its section pins all other memory.
 *
 * A cursor that was far behind leaves many segments at once. At most LOG_RETIRE_MAX of them are
 * retired in that call, and the rest by a callback.
 */
#include "queue/log.h"

#define PREDECESSOR_GONE ((uint64_t)1)
#define TAIL_GONE ((uint64_t)2)
#define DEAD ((uint64_t)4)
#define CURSOR ((uint64_t)256) /* counts modulo 2^64, so a count may pass through -1 */

#ifndef LOG_RETIRE_MAX
#define LOG_RETIRE_MAX 8
#endif

static inline _Atomic uint64_t *references_of(const struct segment *segment)
{
    return &segment_cell(segment, 0)->words[0];
}

void log_segment_init(struct segment *segment, uint64_t references)
{
    store_relaxed(references_of(segment), references);
    store_relaxed(log_front(segment), 0);
}

/* ----------------------------------------------------------------------------- segments that go */

/*
 * Retire a segment if `references`, which the caller's operation has left there, say that nothing
 * keeps it. Returns the segment behind it, which only it has kept; NULL if there is none, or if it
 * stays.
 */
static struct segment *retire_unused(struct memory *memory, struct segment *segment,
                                     uint64_t references)
{
    if (likely(references != (PREDECESSOR_GONE | TAIL_GONE)))
        return NULL;
    /* Acquire; pairs with each release in here: what others did in the segment is visible, and it
     * has a successor, since TAIL_GONE is set. Of several threads that find this value one wins. */
    if (!cas_acquire(references_of(segment), &references, references | DEAD))
        return NULL;
    probe(PROBE_LOG_SEGMENT_DEAD);
    struct segment *next = load_acquire(&segment->next);
    if (!next) /* of a log that has ended: the event of the open turn may be in it */
        segment->base = BASE_UNKNOWN;
    if (segment->class < SEGMENT_CLASSES)
        memory_retire(memory, segment->class, segment);
    return next;
}

/* Mark a segment whose predecessor is dead. Returns its references. */
static uint64_t predecessor_gone(struct segment *segment)
{
    return fetch_or_release(references_of(segment), PREDECESSOR_GONE) | PREDECESSOR_GONE;
}

/* Go on with a chain of dead segments; a callback. In a section, by 5. */
static void retire_rest_of_chain(struct rcu_head *rcu)
{
    struct block *block = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct memory *memory = memory_of(block);
    reclaim_enter();
    struct segment *segment = (struct segment *)(void *)block;
    while (segment)
        segment = retire_unused(memory, segment, predecessor_gone(segment));
    reclaim_leave();
    memory_callback_end(memory);
}

/* Retire a segment if nothing keeps it, and those behind it that only it has kept. */
static void retire(struct memory *memory, struct segment *segment, uint64_t references)
{
    unsigned retired = 0;
    while ((segment = retire_unused(memory, segment, references))) {
        if (++retired == LOG_RETIRE_MAX) {
            memory_defer(memory, &segment->block.reclaim, retire_rest_of_chain);
            return;
        }
        references = predecessor_gone(segment);
    }
}

void log_tail_left(struct memory *memory, struct segment *segment)
{
    uint64_t before = fetch_or_release(references_of(segment), TAIL_GONE);
    retire(memory, segment, before | TAIL_GONE);
}

/* -------------------------------------------------------------------------------------- cursors */

static void cursor_enter(struct segment *segment)
{
    /* Acquire; pairs with log_tail_left(): a joining thread that finds TAIL_GONE here finds the
     * successor, too. */
    fetch_add_acquire(references_of(segment), CURSOR);
}

static void cursor_exit(struct memory *memory, struct segment *segment)
{
    /* Release; pairs with retire_unused(): the segment is retired behind our reads of it, and
     * behind our count in the next one. */
    uint64_t before = fetch_sub_release(references_of(segment), CURSOR);
    retire(memory, segment, before - CURSOR);
}

void log_cross(struct memory *memory, struct segment *from, struct segment *to)
{
    cursor_enter(to); /* first: until then `from` keeps `to`, by 1 */
    probe(PROBE_LOG_CURSOR_COUNTED);
    cursor_exit(memory, from);
}

uint64_t log_join(struct queue_tail *tail, struct queue_head *head, struct memory *memory)
{
    /* Acquire; pairs with tail_advance(). */
    struct segment *segment = load_acquire(&tail->segment);
    probe(PROBE_LOG_TAIL_READ);
    cursor_enter(segment);
    /* Acquire; pairs with append_at(). */
    uint64_t hint = load_acquire(&tail->hint);
    unsigned index = segment_hint_index(segment, hint);
    for (;;) {
        index = segment_filled_end(segment, index);
        /* Acquire; pairs with the CAS in segment_follow(). Cells behind `index` are a gap, or of
         * events whose publish has not returned before this call. */
        struct segment *next = load_acquire(&segment->next);
        if (!next)
            break;
        log_cross(memory, segment, next);
        segment = next;
        index = segment->first;
    }
    /* Relaxed: other threads get the subscription behind this. */
    store_relaxed(&head->position, position_make(segment, index) | POSITION_CURSOR);
    return segment_ordinal(segment, index);
}

void log_leave(struct queue_head *head, struct memory *memory)
{
    /* Acquire; pairs with the CAS in queue_take(). The cursor is closed, so it moves no more. */
    cursor_exit(memory, position_segment(load_acquire(&head->position)));
}

/* ----------------------------------------------------------------------------------- begin, end */

void log_init(struct queue_tail *tail, struct log_first_segment *first)
{
    queue_tail_init(tail, &first->segment, LOG_FIRST_CELLS, 1);
    log_segment_init(&first->segment, PREDECESSOR_GONE);
}

void log_destroy(struct queue_tail *tail, struct memory *memory)
{
    /* Relaxed: behind the grace period. */
    struct segment *segment = load_relaxed(&tail->segment), *next;
    do {
        next = load_relaxed(&segment->next);
        log_tail_left(memory, segment);
        segment = next;
    } while (next);
}
