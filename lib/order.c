/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The total order and helping: see order.h.
 *
 *     order->word = { seq of the latest event, slot that describes it, done }
 *
 * Publish: claim a slot, write the events into it, then take a turn:
 *   - while the latest event is not done, finish it (help): distribute it from its slot and CAS its
 *     done bit;
 *   - CAS {s, any, done} to {s + count, own slot, not done}. Success is the moment of publish: the
 *     events now have their places, and will be delivered whatever becomes of this thread;
 *   - distribute them, CAS the done bit, release the slot.
 * So at most one turn is open at a time, everything below it is complete everywhere, and everybody
 * who distributes works on the same seq. Values of the word never repeat.
 *
 * What hands on what: the done CAS is a release after the distribution; the turn CAS acquires it
 * (and is itself a read-modify-write on the word, which continues the release sequence), so whoever
 * reads the word with acquire sees the queues with all events below the open turn in them.
 *
 * Helpers read a slot that its owner may be rewriting for its next publish. The owner does that
 * only after its turn was done, and writes the words with release; a helper reads them with acquire
 * and then reads the order word again: had it read a newer word, it would see a newer turn. So if
 * the word is unchanged the copy is whole.
 *
 * Out of memory. A distribution that lacks memory for one queue goes on with the others, and leaves
 * the turn open. Its events are ordered and will be delivered, so its publish has succeeded; the
 * slot is left behind, to be released by whoever finishes. The next publish tries first, and fails
 * with -ENOMEM, unordered, if it can't; an idle receive tries, too (order->stalled tells it to).
 * Nobody who waits for an event of the turn sleeps while that is set: first it is set, then they
 * are woken, also those whose own queues lack nothing, since their event may stand behind the one
 * that does. It holds the word of the turn, so that who has finished one turn can't wipe out the
 * note of the next.
 */
#include "order.h"

#include <errno.h>

#define WORD_DONE ((uint64_t)1)
#define WORD_SLOT_SHIFT 1
#define WORD_SLOT_MASK ((uint64_t)0xffff << WORD_SLOT_SHIFT)
#define WORD_SEQ_SHIFT 17
#define SEQ_MAX (((uint64_t)1 << (64 - WORD_SEQ_SHIFT)) - 1)

/*
 * How long to let another publisher finish by itself before helping, in pauses of 10 to 40 ns:
 * about what a publish to some tens of subscriptions takes. Helping sooner only moves its cache
 * lines.
 */
#ifndef HELP_AFTER_PAUSES
#define HELP_AFTER_PAUSES 40
#endif

#define RECORD_WORDS (RECORD_CELLS_MAX * CELL_WORDS)

/* A copy of the record that helpers may read while the owner writes. */
struct shared_record {
    _Atomic uint64_t words[RECORD_WORDS];
};

enum { SLOT_FREE, SLOT_CLAIMED, SLOT_ABANDONED }; /* abandoned: the order word is in the rest */

struct slot {
    _Alignas(CACHE_LINE) _Atomic uint64_t state;
    _Atomic uint32_t count;                /* events in this publish */
    _Atomic(struct shared_record *) batch; /* for count > 1; kept for the next batch */
    struct shared_record single;           /* for count == 1 */
};

static inline uint64_t word_seq(uint64_t word)
{
    return word >> WORD_SEQ_SHIFT;
}

static inline uint64_t word_make(uint64_t seq, uint32_t slot)
{
    return seq << WORD_SEQ_SHIFT | (uint64_t)slot << WORD_SLOT_SHIFT;
}

/* ----------------------------------------------------------------------------------- slots */

/* Chunk 0 holds slots 0 to 15; chunk k the 2^(k+3) slots from number 2^(k+3) on. */
static unsigned chunk_of(uint32_t index)
{
    return index < ORDER_FIRST_CHUNK ? 0 : 28u - (unsigned)__builtin_clz(index);
}

static uint32_t chunk_start(unsigned chunk)
{
    return chunk == 0 ? 0 : (uint32_t)ORDER_FIRST_CHUNK << (chunk - 1);
}

static uint32_t chunk_size(unsigned chunk)
{
    return chunk == 0 ? ORDER_FIRST_CHUNK : chunk_start(chunk);
}

static size_t chunk_bytes(unsigned chunk)
{
    return chunk_size(chunk) * sizeof(struct slot);
}

static struct slot *slot_at(struct order *order, uint32_t index)
{
    unsigned chunk = chunk_of(index);
    /* Acquire: pairs with the release in chunk_get. */
    struct slot *slots = atomic_load_explicit(&order->chunks[chunk], memory_order_acquire);
    return slots + (index - chunk_start(chunk));
}

/* The chunk, made if need be; NULL: no memory. */
static struct slot *chunk_get(struct order *order, unsigned chunk)
{
    struct slot *slots = atomic_load_explicit(&order->chunks[chunk], memory_order_acquire);
    if (slots)
        return slots;
    struct slot *fresh = memory_map(order->memory, chunk_bytes(chunk), CACHE_LINE);
    if (!fresh)
        return NULL;
    memset((void *)fresh, 0, chunk_bytes(chunk)); /* zero is SLOT_FREE, count 0, no batch */
    if (atomic_compare_exchange_strong_explicit(&order->chunks[chunk], &slots, fresh,
                                                memory_order_release, memory_order_acquire))
        return fresh;
    memory_unmap(order->memory, fresh, chunk_bytes(chunk));
    return slots;
}

static bool slot_try(struct slot *slot)
{
    if (atomic_load_explicit(&slot->state, memory_order_relaxed) != SLOT_FREE)
        return false;
    uint64_t free = SLOT_FREE;
    /* Acquire: pairs with slot_release; the last publish through it is over. */
    return atomic_compare_exchange_strong_explicit(&slot->state, &free, SLOT_CLAIMED,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void slot_release(struct slot *slot)
{
    atomic_store_explicit(&slot->state, SLOT_FREE, memory_order_release);
}

/* Each thread tries the slot that it had last, so threads do not meet at the same one. */
static _Atomic uint32_t next_hint;
static _Thread_local uint32_t slot_hint __attribute__((tls_model("initial-exec"))) = UINT32_MAX;

static int slot_claim(struct order *order, uint32_t *index)
{
    if (unlikely(slot_hint == UINT32_MAX))
        slot_hint =
            atomic_fetch_add_explicit(&next_hint, 1, memory_order_relaxed) % ORDER_FIRST_CHUNK;
    uint32_t hint = slot_hint;
    if (likely(atomic_load_explicit(&order->chunks[chunk_of(hint)], memory_order_relaxed) &&
               slot_try(slot_at(order, hint)))) {
        *index = hint;
        return 0;
    }
    for (unsigned chunk = 0; chunk < ORDER_CHUNKS; chunk++) {
        struct slot *slots = chunk_get(order, chunk);
        if (!slots)
            return -ENOMEM;
        for (uint32_t i = 0; i < chunk_size(chunk); i++) {
            if (chunk_start(chunk) + i >= ORDER_SLOTS_MAX)
                return -EAGAIN;
            if (slot_try(&slots[i])) {
                *index = slot_hint = chunk_start(chunk) + i;
                return 0;
            }
        }
    }
    return -EAGAIN;
}

static void record_store(struct shared_record *to, const struct exitbus_event *event)
{
    struct record record;
    event_encode(event, &record);
    unsigned words = record_cells(record.words[0]) * CELL_WORDS;
    /* Release: pairs with the acquire in record_load; see "helpers read a slot" above. */
    for (unsigned w = 0; w < words; w++)
        atomic_store_explicit(&to->words[w], record.words[w], memory_order_release);
}

static void record_load(const struct shared_record *from, struct record *record)
{
    record->words[0] = atomic_load_explicit(&from->words[0], memory_order_acquire);
    unsigned words = record_cells(record->words[0]) * CELL_WORDS;
    if (words > RECORD_WORDS) /* a torn copy, which the caller is going to reject */
        words = RECORD_WORDS;
    for (unsigned w = 1; w < words; w++)
        record->words[w] = atomic_load_explicit(&from->words[w], memory_order_acquire);
}

static int slot_fill(struct order *order, struct slot *slot, const struct exitbus_event *events,
                     size_t count)
{
    struct shared_record *records = &slot->single;
    if (count > 1) {
        records = atomic_load_explicit(&slot->batch, memory_order_relaxed);
        if (!records) {
            records = memory_map(order->memory, EXITBUS_BATCH_MAX * sizeof *records, CACHE_LINE);
            if (!records)
                return -ENOMEM;
            atomic_store_explicit(&slot->batch, records, memory_order_release);
        }
    }
    atomic_store_explicit(&slot->count, (uint32_t)count, memory_order_release);
    for (size_t i = 0; i < count; i++)
        record_store(&records[i], &events[i]);
    return 0;
}

/* ------------------------------------------------------------------------- distribute, help */

/*
 * Go through the events of an open turn, as its slot has them: deliver each, or, with `tell`, only
 * wake those it is for. 0: all done, or others have finished them. -ENOMEM: some queue lacks one.
 */
static int walk(struct order *order, uint64_t word, bool tell)
{
    struct slot *slot = slot_at(order, (uint32_t)((word & WORD_SLOT_MASK) >> WORD_SLOT_SHIFT));
    uint32_t count = atomic_load_explicit(&slot->count, memory_order_acquire);
    const struct shared_record *records =
        count > 1 ? atomic_load_explicit(&slot->batch, memory_order_acquire) : &slot->single;
    for (uint32_t i = 0; i < count; i++) {
        struct record record;
        record_load(&records[i], &record);
        /* Unchanged: the slot still describes this turn, and count and record are whole. */
        if (!mutant(ORDER_COPY_UNCHECKED) &&
            atomic_load_explicit(&order->word, memory_order_acquire) != word)
            return 0;
        uint64_t seq = word_seq(word) - (count - 1) + i;
        int result = order->deliver(order->context, tell ? ORDER_TELL : seq, &record);
        if (result < 0) /* the next event may not come before this one */
            return result;
    }
    return 0;
}

static int distribute(struct order *order, uint64_t word)
{
    int result = walk(order, word, false);
    test_step(STEP_PUBLISH_DISTRIBUTED);
    return result;
}

/* Set the done bit of a turn whose distribution has come to its end. True if this call did it. */
static bool turn_close(struct order *order, uint64_t word)
{
    /* Release: hands the filled queues to the next turn. */
    bool closed = atomic_compare_exchange_strong_explicit(
        &order->word, &word, word | WORD_DONE,
        mutant(WEAK_DONE) ? memory_order_relaxed : memory_order_release, memory_order_relaxed);
    test_step(STEP_PUBLISH_DONE);
    return closed;
}

/*
 * Note that a turn lacks memory, and tell those who wait for its events: each time, since whoever
 * was the first to note it may have been stopped before it told them.
 */
static void turn_stall(struct order *order, uint64_t word)
{
    atomic_store_explicit(&order->stalled, word, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst); /* the note before the look for sleepers */
    test_step(STEP_ORDER_STALLED);
    if (!mutant(ORDER_STALL_UNTOLD))
        walk(order, word, true);
}

static uint64_t abandoned_state(uint64_t word)
{
    return (word & ~(uint64_t)3) | SLOT_ABANDONED;
}

/*
 * Leave an open turn of one's own that lacks memory. The slot now belongs to whoever finishes the
 * turn; should that have happened already, it is released here. One of the two sees the other,
 * since each writes (slot->state, order->word) before it reads the other's, with a full fence
 * between.
 */
static void turn_abandon(struct order *order, struct slot *slot, uint64_t word)
{
    uint64_t abandoned = abandoned_state(word);
    atomic_store_explicit(&slot->state, abandoned, memory_order_release);
    turn_stall(order, word);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&order->word, memory_order_seq_cst) != word)
        atomic_compare_exchange_strong_explicit(&slot->state, &abandoned, SLOT_FREE,
                                                memory_order_acq_rel, memory_order_relaxed);
}

/* Finish another's turn. 0, or -ENOMEM if it stays open. */
static int turn_help(struct order *order, uint64_t word)
{
    int result = mutant(ORDER_LOST_HELPER) ? 0 : distribute(order, word);
    if (result < 0) {
        turn_stall(order, word);
        return result;
    }
    if (!turn_close(order, word))
        return 0;
    atomic_fetch_add_explicit(&order->helped, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t abandoned = abandoned_state(word);
    struct slot *slot = slot_at(order, (uint32_t)((word & WORD_SLOT_MASK) >> WORD_SLOT_SHIFT));
    atomic_compare_exchange_strong_explicit(&slot->state, &abandoned, SLOT_FREE,
                                            memory_order_acq_rel, memory_order_relaxed);
    return 0;
}

/* Wait a little for the word to change. Returns its latest value. */
static uint64_t spin_while(struct order *order, uint64_t word)
{
    uint64_t now = word;
    for (int i = 0; i < HELP_AFTER_PAUSES && now == word; i++) {
        ck_pr_stall();
        now = atomic_load_explicit(&order->word, memory_order_acquire);
    }
    return now;
}

/* Open a turn for `count` events: *turn is then its word. */
static int turn_open(struct order *order, uint32_t slot, size_t count, uint64_t *turn)
{
    /* Acquire: pairs with turn_close. */
    uint64_t word = atomic_load_explicit(&order->word, memory_order_acquire);
    for (;;) {
        if (!(word & WORD_DONE) && !mutant(ORDER_TURN_TOO_SOON)) {
            uint64_t now = spin_while(order, word);
            if (now == word) {
                int result = turn_help(order, word);
                if (result < 0)
                    return result;
                now = atomic_load_explicit(&order->word, memory_order_acquire);
            }
            word = now;
            continue;
        }
        if (word_seq(word) > SEQ_MAX - count)
            return -EOVERFLOW;
        *turn = word_make(word_seq(word) + (mutant(ORDER_BATCH_ONE_SEQ) ? 1 : count), slot);
        /* Release: hands the slot's content to helpers. Acquire: as above. */
        if (atomic_compare_exchange_strong_explicit(
                &order->word, &word, *turn,
                mutant(WEAK_TURN) ? memory_order_relaxed : memory_order_acq_rel,
                mutant(WEAK_TURN) ? memory_order_relaxed : memory_order_acquire))
            return 0;
    }
}

/* --------------------------------------------------------------------------------- publish */

int order_publish(struct order *order, const struct exitbus_event *events, size_t count,
                  uint64_t *first_seq)
{
    uint32_t index;
    int result = slot_claim(order, &index);
    if (result < 0)
        return result;
    test_step(STEP_PUBLISH_SLOT_CLAIMED);
    struct slot *slot = slot_at(order, index);
    uint64_t turn = 0;
    result = slot_fill(order, slot, events, count);
    test_step(STEP_PUBLISH_SLOT_FILLED);
    if (result == 0)
        result = turn_open(order, index, count, &turn);
    if (result < 0) {
        slot_release(slot);
        return result;
    }
    test_step(STEP_PUBLISH_ORDERED);
    *first_seq = word_seq(turn) - (count - 1);
    if (mutant(ORDER_SLOT_EARLY))
        slot_release(slot);
    if (mutant(ORDER_DONE_FIRST)) {
        turn_close(order, turn);
        turn |= WORD_DONE;
    }
    if (likely(distribute(order, turn) == 0) || mutant(ORDER_OOM_DROPS)) {
        turn_close(order, turn);
        slot_release(slot);
    } else {
        turn_abandon(order, slot, turn);
        if (mutant(ORDER_OOM_TWICE))
            return -ENOMEM;
    }
    return 0;
}

bool order_finish_stalled(struct order *order, int *result)
{
    uint64_t stalled = atomic_load_explicit(&order->stalled, memory_order_seq_cst);
    if (likely(stalled == 0))
        return false;
    uint64_t word = atomic_load_explicit(&order->word, memory_order_acquire);
    *result = 0;
    if (!(word & WORD_DONE))
        *result = turn_help(order, word);
    test_step(STEP_ORDER_UNSTALLING);
    /* Fails if a later turn has been found to lack memory since. */
    if (*result == 0 &&
        atomic_compare_exchange_strong_explicit(&order->stalled, &stalled, 0, memory_order_seq_cst,
                                                memory_order_relaxed)) {
        /* A late note of the same turn may have covered that of a later one: make it again. */
        word = atomic_load_explicit(&order->word, memory_order_seq_cst);
        if (unlikely(!(word & WORD_DONE)))
            turn_stall(order, word);
    }
    return true;
}

uint64_t order_latest(struct order *order)
{
    /*
     * A read-modify-write: it reads the last value there is, and every later turn acquires what
     * this thread has released with it.
     */
    return word_seq(atomic_fetch_add_explicit(&order->word, 0, memory_order_acq_rel));
}

uint64_t order_count(const struct order *order)
{
    return word_seq(atomic_load_explicit(&order->word, memory_order_relaxed));
}

void order_init(struct order *order, struct memory *memory, order_deliver *deliver, void *context)
{
    *order = (struct order){.deliver = deliver, .context = context, .memory = memory};
    atomic_init(&order->word, WORD_DONE);
}

void order_finish(struct order *order)
{
    for (unsigned chunk = 0; chunk < ORDER_CHUNKS; chunk++) {
        struct slot *slots = atomic_load_explicit(&order->chunks[chunk], memory_order_acquire);
        if (!slots)
            continue;
        for (uint32_t i = 0; i < chunk_size(chunk); i++) {
            struct shared_record *batch =
                atomic_load_explicit(&slots[i].batch, memory_order_acquire);
            if (batch)
                memory_unmap(order->memory, batch, EXITBUS_BATCH_MAX * sizeof *batch);
        }
        memory_unmap(order->memory, slots, chunk_bytes(chunk));
    }
}
