/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The total order and helping: see order.h.
 *
 *     order->word = { seq of the latest event, slot that describes it, done }
 *
 * Publish: write the events into one's slot, then take a turn:
 *   - while the latest event is not done, finish it (help): distribute it from its slot and CAS its
 *     done bit;
 *   - CAS {s, any, …} to {s + count, own slot, not done}. Success is the moment of publish: the
 *     events now have their places, and will be delivered whatever becomes of this thread;
 *   - distribute them, and note in the slot that this turn is finished.
 * A turn is done when its owner has noted it in the slot, or a helper by the done bit. So at most
 * one turn is open at a time, everything below it is complete everywhere, and everybody who
 * distributes works on the same seq. Values of the word never repeat. The CAS is the only locked
 * instruction of a publish; each one waits until the cells written before have reached the cache.
 *
 * What hands on what: `done_seq` is stored, and the done bit set, with release after the
 * distribution; who opens the next turn has read either with acquire, and opens it with release. So
 * whoever reads the word with acquire sees the queues with all events below the open turn in them.
 * That is who opens a turn (by its CAS) and who helps (by the last look before).
 *
 * Helpers read a slot that its owner, or the next one, may be rewriting for the next publish. The
 * writer does that only after the turn was done, as it knows, and writes count and words with
 * release; a helper reads them with acquire and then looks again whether the turn is open: had it
 * read a newer one of them, it would see that it is done. So if the turn is open the copy is whole.
 *
 * Slots. Each thread has one for itself, by its number (epoch.h), in all buses; the next thread
 * with that number takes it over, and with it, as any publish does with its slot, the duty to
 * finish a turn that was left open with it. Threads without a number, or without memory for the
 * slots of their range, share a few, which they claim for the time of a publish.
 *
 * Out of memory. A distribution that lacks memory for one queue goes on with the others, and leaves
 * the turn open. Its events are ordered and will be delivered, so its publish has succeeded. The
 * next publish tries first, and fails with -ENOMEM, unordered, if it can't; an idle receive tries,
 * too (order->stalled tells it to). Nobody who waits for an event of the turn sleeps while that is
 * set: first it is set, then they are woken, also those whose own queues lack nothing, since their
 * event may stand behind the one that does. It holds the word of the turn, and only ever gives way
 * to that of a later one, or to 0 by somebody who has seen that very note and then that its turn is
 * done. So the note of an open turn stays, whoever is late or stopped for ever.
 */
#include "bus/order.h"

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

#ifndef ORDER_THREAD_NUMBER
#define ORDER_THREAD_NUMBER epoch_number
#endif

#define RECORD_WORDS (RECORD_CELLS_MAX * CELL_WORDS)

/* A copy of the record that helpers may read while the owner writes. */
struct shared_record {
    _Atomic uint64_t words[RECORD_WORDS];
};

struct slot {
    _Alignas(CACHE_LINE) _Atomic uint32_t claimed; /* of a shared one: by a publish */
    _Atomic uint32_t count;                        /* events in this publish */
    _Atomic uint64_t done_seq; /* the last seq of the latest turn that its owner has finished */
    _Atomic(struct shared_record *) batch; /* for count > 1; kept for the next batch */
    struct shared_record single;           /* for count == 1 */
};

static inline uint64_t word_seq(uint64_t word)
{
    return word >> WORD_SEQ_SHIFT;
}

static inline uint32_t word_slot(uint64_t word)
{
    return (uint32_t)((word & WORD_SLOT_MASK) >> WORD_SLOT_SHIFT);
}

static inline uint64_t word_make(uint64_t seq, uint32_t slot)
{
    return seq << WORD_SEQ_SHIFT | (uint64_t)slot << WORD_SLOT_SHIFT;
}

/* ----------------------------------------------------------------------------------- slots */

/* Chunk 0 holds slots 0 to 15; chunk k the 2^(k+3) slots from number 2^(k+3) on. */
static unsigned chunk_of(uint32_t index)
{
    return index < ORDER_SHARED_SLOTS ? 0 : 28u - (unsigned)__builtin_clz(index);
}

static uint32_t chunk_start(unsigned chunk)
{
    return chunk == 0 ? 0 : (uint32_t)ORDER_SHARED_SLOTS << (chunk - 1);
}

static uint32_t chunk_size(unsigned chunk)
{
    return chunk == 0 ? ORDER_SHARED_SLOTS : chunk_start(chunk);
}

static size_t chunk_bytes(unsigned chunk)
{
    return chunk_size(chunk) * sizeof(struct slot);
}

static struct slot *slot_at(struct order *order, uint32_t index)
{
    unsigned chunk = chunk_of(index);
    /* Acquire: pairs with the release in chunk_get. */
    struct slot *slots = load_acquire(&order->chunks[chunk]);
    return slots + (index - chunk_start(chunk));
}

/* The chunk, made if need be; NULL: no memory. */
static struct slot *chunk_get(struct order *order, unsigned chunk)
{
    struct slot *slots = load_acquire(&order->chunks[chunk]);
    if (slots)
        return slots;
    struct slot *fresh = memory_map(order->memory, chunk_bytes(chunk), CACHE_LINE);
    if (!fresh)
        return NULL;
    memset((void *)fresh, 0, chunk_bytes(chunk)); /* not claimed, nothing finished, no batch */
    if (cas_release_else_acquire(&order->chunks[chunk], &slots, fresh))
        return fresh;
    memory_unmap(order->memory, fresh, chunk_bytes(chunk));
    return slots;
}

/* One of the shared slots. */
static int slot_claim(struct order *order, uint32_t *index, struct slot **slot)
{
    struct slot *slots = chunk_get(order, 0);
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < ORDER_SHARED_SLOTS; i++) {
        uint32_t nobody = 0;
        /* Acquire: pairs with slot_release; the last publish through it is over. */
        if (load_relaxed(&slots[i].claimed) == 0 && cas_acquire(&slots[i].claimed, &nobody, 1)) {
            *index = i;
            *slot = &slots[i];
            return 0;
        }
    }
    return -EAGAIN;
}

/* The slot of this thread for this publish. */
static inline int slot_get(struct order *order, uint32_t *index, struct slot **slot)
{
    uint32_t number = ORDER_THREAD_NUMBER();
    if (likely(number < ORDER_SLOTS_MAX - ORDER_SHARED_SLOTS)) {
        *index = ORDER_SHARED_SLOTS + number;
        unsigned chunk = chunk_of(*index);
        struct slot *slots = chunk_get(order, chunk);
        if (likely(slots)) {
            *slot = slots + (*index - chunk_start(chunk));
            return 0;
        }
    }
    return slot_claim(order, index, slot);
}

static inline void slot_release(struct slot *slot, uint32_t index)
{
    if (unlikely(index < ORDER_SHARED_SLOTS))
        store_release(&slot->claimed, 0);
}

/* Encode an event, and note it for helpers. */
static inline void record_store(struct shared_record *to, const struct exitbus_event *event,
                                struct record *record)
{
    event_encode(event, record);
    unsigned words = record_cells(record->words[0]) * CELL_WORDS;
    /* Release: pairs with the acquire in record_load; see "helpers read a slot" above. */
    UNROLL_WORDS
    for (unsigned w = 0; w < CELL_WORDS; w++)
        store_release(&to->words[w], record->words[w]);
    for (unsigned w = CELL_WORDS; w < words; w++)
        store_release(&to->words[w], record->words[w]);
}

static void record_load(const struct shared_record *from, struct record *record)
{
    record->words[0] = load_acquire(&from->words[0]);
    unsigned words = record_cells(record->words[0]) * CELL_WORDS;
    if (words > RECORD_WORDS) /* a torn copy, which the caller is going to reject */
        words = RECORD_WORDS;
    for (unsigned w = 1; w < words; w++)
        record->words[w] = load_acquire(&from->words[w]);
}

/* `only` is then the record, if there is but one. */
static int slot_fill(struct order *order, struct slot *slot, const struct exitbus_event *events,
                     size_t count, struct record *only)
{
    struct shared_record *records = &slot->single;
    if (count > 1) {
        records = load_relaxed(&slot->batch);
        if (!records) {
            records = memory_map(order->memory, EXITBUS_BATCH_MAX * sizeof *records, CACHE_LINE);
            if (!records)
                return -ENOMEM;
            store_relaxed(&slot->batch, records);
        }
    }
    /* Release: who reads this count sees `batch`, and that the turn before was done. */
    store_release(&slot->count, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        record_store(&records[i], &events[i], only);
    return 0;
}

/* ------------------------------------------------------------------------- distribute, help */

static inline bool turn_done(struct order *order, uint64_t word)
{
    /* Acquire: pairs with turn_mark_done. */
    return word & WORD_DONE ||
           load_acquire(&slot_at(order, word_slot(word))->done_seq) >= word_seq(word);
}

/* Is this turn the latest, and not done? If not, its distribution is known to the caller. */
static inline bool turn_is_open(struct order *order, uint64_t word)
{
    uint64_t latest = load_relaxed(&order->word);
    if (likely(latest == word))
        return !turn_done(order, word);
    /* Acquire: pairs with turn_mark_helped, or with whoever opened a later turn. The owner of a batch
     * that was helped returns from here, and is to find the events in its own queue. */
    (void)load_acquire(&order->word);
    return false;
}

/*
 * Go through the events of an open turn, as its slot has them: deliver each, or only wake the
 * receivers that it is for. Returns 0 if all were delivered, by this thread or by others; -ENOMEM if
 * some queue lacks one.
 */
static int turn_walk(struct order *order, uint64_t word, bool wake_only)
{
    struct slot *slot = slot_at(order, word_slot(word));
    uint32_t count = load_acquire(&slot->count);
    const struct shared_record *records = count > 1 ? load_relaxed(&slot->batch) : &slot->single;
    for (uint32_t i = 0; i < count; i++) {
        struct record record;
        record_load(&records[i], &record);
        /* Open: the slot still describes this turn, and count and record are whole. */
        if (!mutant(ORDER_COPY_UNCHECKED) && !mutant(ORDER_DONE_FIRST) &&
            !turn_is_open(order, word))
            return 0;
        uint64_t seq = word_seq(word) - (count - 1) + i;
        int result = order->deliver(order->context, wake_only ? ORDER_WAKE_ONLY : seq, &record);
        if (result < 0) /* the next event may not come before this one */
            return result;
    }
    return 0;
}

/* Deliver a turn as its slot has it: by a helper, or by the owner of a batch. */
static int turn_deliver(struct order *order, uint64_t word)
{
    int result = turn_walk(order, word, false);
    probe(PROBE_PUBLISH_DISTRIBUTED);
    return result;
}

/* Deliver our own turn. A single event is still in our hands, so it is not read back from the slot.
 * We need not check for a faster helper: queue_append() finds an event that is already there. */
static inline int turn_deliver_own(struct order *order, uint64_t word, size_t count,
                                 const struct record *only)
{
    if (unlikely(count > 1))
        return turn_deliver(order, word);
    int result = order->deliver(order->context, word_seq(word), only);
    probe(PROBE_PUBLISH_DISTRIBUTED);
    return result;
}

/* By a turn's owner: its distribution has come to its end. */
static inline void turn_mark_done(struct slot *slot, uint64_t word)
{
    /* Release: hands the filled queues to the next turn. */
    atomic_store_explicit(&slot->done_seq, word_seq(word),
                          mutant(WEAK_DONE) ? memory_order_relaxed : memory_order_release);
    probe(PROBE_PUBLISH_DONE);
}

/* By a helper. True if this call did it. */
static bool turn_mark_helped(struct order *order, uint64_t word)
{
    /* Release: as in turn_mark_done. */
    bool closed = cas_release(&order->word, &word, word | WORD_DONE);
    probe(PROBE_PUBLISH_DONE);
    return closed;
}

/*
 * Note that a turn lacks memory, and tell those who wait for its events: each time, since whoever
 * was the first to note it may have been stopped before it told them.
 */
static void turn_stall(struct order *order, uint64_t word)
{
    uint64_t noted = load_relaxed(&order->stalled);
    /* Release: pairs with the acquire in order_finish_stalled. */
    while ((word_seq(noted) <= word_seq(word) || mutant(ORDER_STALL_COVERED)) &&
           !cas_weak_release(&order->stalled, &noted, word))
        continue;
    /* The note before the look for sleepers; pairs with barrier_heavy in wakeup.c. */
    fence_seq_cst();
    probe(PROBE_ORDER_STALLED);
    if (!mutant(ORDER_STALL_UNTOLD))
        (void)turn_walk(order, word, true);
}

/* Finish a turn that was left open. 0, or -ENOMEM if it stays open. */
static int turn_help(struct order *order, uint64_t word)
{
    int result = mutant(ORDER_LOST_HELPER) ? 0 : turn_deliver(order, word);
    if (result < 0)
        turn_stall(order, word);
    else if (turn_mark_helped(order, word))
        fetch_add_relaxed(&order->helped, 1);
    return result;
}

_Static_assert(HELP_AFTER_PAUSES > 0, "a helper acquires the turn while it waits");

/* Wait a little for an open turn to be done, and then help. *word is then the latest. */
static int turn_await(struct order *order, uint64_t *word)
{
    uint64_t open = *word;
    for (int i = 0; i < HELP_AFTER_PAUSES; i++) {
        ck_pr_stall();
        /* Acquire: pairs with the turn CAS, for the slot, and with what it acquired itself. */
        *word = load_acquire(&order->word);
        if (*word != open || turn_done(order, open))
            return 0;
    }
    int result = turn_help(order, open);
    *word = load_acquire(&order->word);
    return result;
}

/* Open a turn for `count` events: *turn is then its word. */
static int turn_open(struct order *order, uint32_t slot, size_t count, uint64_t *turn)
{
    /* Acquire, here and where the CAS fails: the slot that the word names must be there. */
    uint64_t word = load_acquire(&order->word);
    for (;;) {
        if (!turn_done(order, word) && !mutant(ORDER_TURN_TOO_SOON)) {
            int result = turn_await(order, &word);
            if (result < 0)
                return result;
            continue;
        }
        if (word_seq(word) > SEQ_MAX - count)
            return -EOVERFLOW;
        *turn = word_make(word_seq(word) + (mutant(ORDER_BATCH_ONE_SEQ) ? 1 : count), slot);
        /* Release: hands the slot's content to helpers. Acquire: pairs with turn_mark_helped. */
        if (atomic_compare_exchange_strong_explicit(
                &order->word, &word, *turn,
                mutant(WEAK_TURN) ? memory_order_relaxed : memory_order_acq_rel,
                mutant(WEAK_TURN) ? memory_order_relaxed : memory_order_acquire))
            return 0;
    }
}

/* --------------------------------------------------------------------------------- publish */

/* A turn that is still open with this slot: finish it, before the slot is written. */
static inline int slot_settle(struct order *order, uint32_t index)
{
    /* Relaxed: what a turn of one's own slot needs is known. */
    uint64_t word = load_relaxed(&order->word);
    if (likely(word_slot(word) != index || turn_done(order, word)) || mutant(ORDER_SLOT_UNSETTLED))
        return 0;
    return turn_help(order, word);
}

int order_publish(struct order *order, const struct exitbus_event *events, size_t count,
                  uint64_t *first_seq)
{
    uint32_t index;
    struct slot *slot;
    int result = slot_get(order, &index, &slot);
    if (result < 0)
        return result;
    probe(PROBE_PUBLISH_SLOT_CLAIMED);
    uint64_t turn = 0;
    struct record only;
    result = slot_settle(order, index);
    if (result == 0)
        result = slot_fill(order, slot, events, count, &only);
    probe(PROBE_PUBLISH_SLOT_FILLED);
    if (result == 0)
        result = turn_open(order, index, count, &turn);
    if (result < 0) {
        slot_release(slot, index);
        return result;
    }
    probe(PROBE_PUBLISH_ORDERED);
    *first_seq = word_seq(turn) - (count - 1);
    if (mutant(ORDER_DONE_FIRST))
        turn_mark_done(slot, turn);
    if (likely(turn_deliver_own(order, turn, count, &only) == 0) || mutant(ORDER_OOM_DROPS)) {
        turn_mark_done(slot, turn);
    } else {
        turn_stall(order, turn);
        if (mutant(ORDER_OOM_TWICE))
            result = -ENOMEM;
    }
    slot_release(slot, index);
    return result;
}

int order_finish_stalled(struct order *order)
{
    /* Acquire: pairs with turn_stall, for the word, which is then that of this turn or later. */
    uint64_t stalled = load_acquire(&order->stalled);
    if (stalled == 0)
        return 0;
    /* Acquire: as in turn_await. */
    uint64_t word = load_acquire(&order->word);
    int result = turn_done(order, word) ? 0 : turn_help(order, word);
    probe(PROBE_ORDER_UNSTALLING);
    /* Release: pairs with order_stalled. Fails if a later turn has been found to lack memory. */
    if (result == 0)
        cas_release(&order->stalled, &stalled, 0);
    return result;
}

uint64_t order_latest(struct order *order)
{
    /*
     * A read-modify-write: it reads the last value there is, and every later turn acquires what
     * this thread has released with it. It takes nothing over itself.
     */
    return word_seq(fetch_add_release(&order->word, 0));
}

uint64_t order_count(const struct order *order)
{
    return word_seq(load_relaxed(&order->word));
}

void order_init(struct order *order, struct memory *memory, order_deliver *deliver, void *context)
{
    *order = (struct order){.deliver = deliver, .context = context, .memory = memory};
    atomic_init(&order->word, WORD_DONE);
}

void order_destroy(struct order *order)
{
    /* Relaxed, all of it: nobody else is there any more, and the caller knows that. */
    for (unsigned chunk = 0; chunk < ORDER_CHUNKS; chunk++) {
        struct slot *slots = load_relaxed(&order->chunks[chunk]);
        if (!slots)
            continue;
        for (uint32_t i = 0; i < chunk_size(chunk); i++) {
            struct shared_record *batch = load_relaxed(&slots[i].batch);
            if (batch)
                memory_unmap(order->memory, batch, EXITBUS_BATCH_MAX * sizeof *batch);
        }
        memory_unmap(order->memory, slots, chunk_bytes(chunk));
    }
}
