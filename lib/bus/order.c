/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The total order and helping: see order.h. docs/design.md, "One order", argues what follows.
 *
 *     order->word = { seq of the latest event, slot that describes it, done }
 *
 * How it works
 *   - A publisher writes its events into its slot. While the latest turn is not done, it finishes
 *     that turn (help). Then it opens its own: a CAS from {s, any, …} to {s + count, slot, open}.
 *   - That CAS is the moment of publish. The events have their places in the order from then on,
 *     and are delivered: by this thread, or by the next publisher.
 *   - The publisher delivers its events, and notes in the slot that the turn is done. A helper
 *     delivers them from the slot, and sets the done bit of the word.
 *   - A thread has a slot of its own, by its number (epoch.h). Its epoch record keeps where that
 *     slot is, for one bus at a time. A thread without a number, or without memory for that slot,
 *     claims one of a few shared slots for each publish.
 *   - A turn that lacks memory for some queue stays open, and `stalled` holds its word.
 *
 * Why it is right
 *  1. At most one turn is open, because a turn opens only behind the latest one's end. So all
 *     threads that deliver work on one turn, and all events below it are complete everywhere.
 *  2. A value of the word never comes back, because seq grows and the done bit is only set.
 *  3. A thread that reads the word with acquire sees all events below the open turn in the queues.
 *  4. A copy of a slot is whole if the turn is open after it, because each newer word in it carries
 *     the end of the turn with it.
 *  5. Settling. A receiver announces that it is about to sleep, passes a fence, and settles. A
 *     thread that delivers a turn reads announcements behind the CAS that opened it. So for each
 *     turn, the thread sees the announcement; or the receiver sees the turn, and brings it to its
 *     end before it looks. Sequentially consistent are that CAS, the load of the word right before
 *     help, each load of an announcement, and the receiver's fence. (slot_settle() helps with a
 *     turn whose CAS happens before its load.)
 *  6. The note of a stalled turn stays until that turn is done or a later one is noted. A receiver
 *     that waits for an event of the turn is woken behind the note, and looks. While there is a
 *     note it sleeps for a limited time only, and then tries to finish the turn.
 *
 * It relies on queue_append() for appending an event twice without effect, and on epoch.h for
 * handing on a number together with what its last owner wrote.
 */
#include "bus/order.h"

#include <errno.h>

#define WORD_DONE ((uint64_t)1)
#define WORD_SLOT_SHIFT 1
#define WORD_SLOT_MASK ((uint64_t)0xffff << WORD_SLOT_SHIFT)
#define WORD_SEQ_SHIFT 17
#define SEQ_MAX (((uint64_t)1 << (64 - WORD_SEQ_SHIFT)) - 1)

/*
 * How long to let another publisher finish by itself before we help, in pauses of 10 to 40 ns. That
 * is about what a publish to some tens of subscriptions takes. Helping sooner only moves that
 * publisher's cache lines.
 */
#ifndef HELP_AFTER_PAUSES
#define HELP_AFTER_PAUSES 40
#endif

/*
 * Pauses after a CAS of the order word that another publisher has won: they double from the first
 * number to the second. Publishers that lost then do not all fetch the winner's line at once.
 */
#ifndef BACKOFF_PAUSES_FIRST
#define BACKOFF_PAUSES_FIRST 4
#endif
#define BACKOFF_PAUSES_MAX 128

/*
 * Slots that keep their batch, some 20 KiB each, for the next one. The others give it back with the
 * turn: so what a bus holds does not grow with the threads that it has seen at once.
 */
#ifndef BATCHES_KEPT
#define BATCHES_KEPT 64
#endif

#ifndef ORDER_THREAD_NUMBER
#define ORDER_THREAD_NUMBER epoch_number
#endif

struct slot {
    _Alignas(CACHE_LINE) _Atomic uint32_t claimed; /* of a shared one: 1 during a publish */
    _Atomic uint32_t count;                        /* events in this publish; by the owner */
    _Atomic uint64_t done_seq; /* last seq of the latest turn that was finished by its owner */
    _Atomic(struct batch *) batch; /* for count > 1, or NULL; by the owner */
    struct shared_record single;   /* for count == 1; by the owner */
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
    /* Acquire; pairs with chunk_get(). */
    struct slot *slots = load_acquire(&order->chunks[chunk]);
    return slots + (index - chunk_start(chunk));
}

/* Returns the chunk, which is made if need be; NULL: no memory. */
static struct slot *chunk_get(struct order *order, unsigned chunk)
{
    struct slot *slots = load_acquire(&order->chunks[chunk]);
    if (slots)
        return slots;
    struct slot *fresh = memory_map(order->memory, chunk_bytes(chunk), CACHE_LINE);
    if (!fresh)
        return NULL;
    memset((void *)fresh, 0, chunk_bytes(chunk)); /* not claimed, nothing done, no batch */
    if (cas_release_else_acquire(&order->chunks[chunk], &slots, fresh))
        return fresh;
    memory_unmap(order->memory, fresh, chunk_bytes(chunk));
    return slots;
}

/* Claim one of the shared slots. Returns 0; -EAGAIN: all are in use; or -ENOMEM. */
static int slot_claim(struct order *order, uint32_t *index, struct slot **slot)
{
    struct slot *slots = chunk_get(order, 0);
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < ORDER_SHARED_SLOTS; i++) {
        uint32_t nobody = 0;
        /* Acquire; pairs with slot_release(): the last publish through this slot is over. */
        if (load_relaxed(&slots[i].claimed) == 0 && cas_acquire(&slots[i].claimed, &nobody, 1)) {
            *index = i;
            *slot = &slots[i];
            return 0;
        }
    }
    return -EAGAIN;
}

/* Find the slot of this thread by its number. */
static __attribute__((noinline)) int slot_find(struct order *order, uint32_t *index,
                                               struct slot **slot)
{
    uint32_t number = ORDER_THREAD_NUMBER();
    if (number < ORDER_SLOTS_MAX - ORDER_SHARED_SLOTS) {
        *index = ORDER_SHARED_SLOTS + number;
        unsigned chunk = chunk_of(*index);
        struct slot *slots = chunk_get(order, chunk);
        if (slots) {
            *slot = slots + (*index - chunk_start(chunk));
            epoch_keep(order->id, *slot);
            return 0;
        }
    }
    return slot_claim(order, index, slot);
}

/* Find the slot of this thread for this publish. Returns 0, -EAGAIN or -ENOMEM. */
static inline int slot_get(struct order *order, uint32_t *index, struct slot **slot)
{
    /* The slot of a number is the same for the bus's whole life, and the bus's id is no other's. */
    *slot = epoch_kept(order->id);
    if (unlikely(!*slot))
        return slot_find(order, index, slot);
    *index = ORDER_SHARED_SLOTS + epoch_number();
    return 0;
}

static inline void slot_release(struct slot *slot, uint32_t index)
{
    if (unlikely(index < ORDER_SHARED_SLOTS))
        store_release(&slot->claimed, 0);
}

/* Encode an event into `record`, and store a copy for helpers. */
static inline void record_store(struct shared_record *to, const struct exitbus_event *event,
                                struct record *record)
{
    event_encode(event, record);
    unsigned words = record_cells(record->words[0]) * CELL_WORDS;
    /* Release; pairs with record_load(): a newer word has the end of the turn before with it. */
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
    if (words > RECORD_WORDS) /* a torn copy, which the caller rejects */
        words = RECORD_WORDS;
    for (unsigned w = 1; w < words; w++)
        record->words[w] = load_acquire(&from->words[w]);
}

/* Describe a batch in its slot. Returns 0 or -ENOMEM. */
static __attribute__((noinline)) int slot_fill_batch(struct order *order, struct slot *slot,
                                                     const struct exitbus_event *events,
                                                     size_t count)
{
    struct batch *batch = load_relaxed(&slot->batch);
    if (!batch) {
        batch = memory_alloc(order->memory, order->batch_class);
        if (!batch)
            return -ENOMEM;
        store_relaxed(&slot->batch, batch);
    }
    /* Release; pairs with turn_walk(): `batch`, and the end of the turn before, are visible. */
    store_release(&slot->count, (uint32_t)count);
    struct record record;
    for (size_t i = 0; i < count; i++)
        record_store(&batch->records[i], &events[i], &record);
    return 0;
}

/* Give a batch back whose turn is done. A helper may read it until a grace period is over. */
static __attribute__((noinline)) void slot_drop_batch(struct order *order, struct slot *slot)
{
    struct batch *batch = load_relaxed(&slot->batch);
    /* Release; pairs with turn_walk(): the end of the turn is visible. */
    store_release(&slot->batch, NULL);
    memory_retire(order->memory, order->batch_class, batch);
}

/* Describe a publish in its slot. If it has a single event, *only is then the record. */
static inline int slot_fill(struct order *order, struct slot *slot,
                            const struct exitbus_event *events, size_t count, struct record *only)
{
    if (unlikely(count > 1))
        return slot_fill_batch(order, slot, events, count);
    /* Release; as in slot_fill_batch(). */
    store_release(&slot->count, 1);
    record_store(&slot->single, events, only);
    return 0;
}

/* ------------------------------------------------------------------------- distribute, help */

/* Returns whether a turn is done. Context: the word names `slot`. */
static inline bool turn_done_in(const struct slot *slot, uint64_t word)
{
    /* Acquire; pairs with turn_mark_done(). */
    return word & WORD_DONE || load_acquire(&slot->done_seq) >= word_seq(word);
}

static inline bool turn_done(struct order *order, uint64_t word)
{
    return word & WORD_DONE || turn_done_in(slot_at(order, word_slot(word)), word);
}

/*
 * Returns whether this turn is the latest and not done: a copy of its slot from before is whole. If
 * it is not, its events are visible to the caller in every queue.
 */
static inline bool turn_is_open(struct order *order, uint64_t word)
{
    uint64_t latest = load_relaxed(&order->word);
    if (likely(latest == word))
        return !turn_done(order, word);
    /* Acquire; pairs with turn_mark_helped(), and with turn_open() of a later turn. The owner of a
     * batch that was helped returns from here, and must find the events in its own queue. */
    (void)load_acquire(&order->word);
    return false;
}

/*
 * Go through the events of an open turn, as its slot has them: deliver each, or only wake the
 * receivers that it is for.
 * Returns 0: all are delivered, by this thread or by others; or -ENOMEM: some queue lacks one.
 */
static int turn_walk(struct order *order, uint64_t word, bool wake_only)
{
    struct slot *slot = slot_at(order, word_slot(word));
    uint32_t count = load_acquire(&slot->count);
    const struct shared_record *records = &slot->single;
    if (count > 1) {
        /* Acquire; pairs with slot_drop_batch(). */
        const struct batch *batch = load_acquire(&slot->batch);
        if (!batch) {
            bool open = turn_is_open(order, word); /* for what it makes visible */
            invariant(!open);
            return 0;
        }
        records = batch->records;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct record record;
        record_load(&records[i], &record);
        /* Still open: the slot describes this turn, and count and record are whole. */
        if (!turn_is_open(order, word))
            return 0;
        uint64_t seq = word_seq(word) - (count - 1) + i;
        int result = order->deliver(order->context, wake_only ? ORDER_WAKE_ONLY : seq, &record);
        if (result < 0) /* no queue may get the next event before this one */
            return result;
    }
    return 0;
}

/* Deliver a turn as its slot has it. Context: by a helper, or by the owner of a batch. */
static int turn_deliver(struct order *order, uint64_t word)
{
    int result = turn_walk(order, word, false);
    probe(PROBE_PUBLISH_DISTRIBUTED);
    return result;
}

/*
 * Deliver our own turn. A single event is still in our hands, so it is not read back from the slot.
 * We need not check for a faster helper: queue_append() finds an event that is already there.
 */
static inline int turn_deliver_own(struct order *order, uint64_t word, size_t count,
                                   const struct record *only)
{
    if (unlikely(count > 1))
        return turn_deliver(order, word);
    int result = order->deliver(order->context, word_seq(word), only);
    probe(PROBE_PUBLISH_DISTRIBUTED);
    return result;
}

/* End a turn. Context: by its owner, behind the delivery. */
static inline void turn_mark_done(struct slot *slot, uint64_t word)
{
    /* Release; pairs with turn_done(): hands the filled queues to the next turn. */
    store_release(&slot->done_seq, word_seq(word));
    probe(PROBE_PUBLISH_DONE);
}

/* End a turn. Returns true if this call did it. Context: by a helper, behind the delivery. */
static bool turn_mark_helped(struct order *order, uint64_t word)
{
    /* Release; pairs with turn_open() and turn_is_open(), as in turn_mark_done(). */
    bool closed = cas_release(&order->word, &word, word | WORD_DONE);
    probe(PROBE_PUBLISH_DONE);
    return closed;
}

/*
 * Note that a turn lacks memory, and wake the receivers that wait for its events. Each thread that
 * finds the turn so wakes them, because the first one may be stopped between the note and the wake.
 * Once a thread has woken them all, no thread does so again: a receiver that goes to sleep later
 * finds the turn when it settles (5), and tries again by itself. A receiver that clears its
 * descriptor later finds the note, because it looks behind a fence, and so did the signal. (An
 * older word in `woken` costs another wake-up.)
 */
static __attribute__((noinline)) void turn_stall(struct order *order, uint64_t word)
{
    uint64_t noted = load_relaxed(&order->stalled);
    /* Release; pairs with order_finish_stalled(). */
    while (word_seq(noted) <= word_seq(word) && !cas_weak_release(&order->stalled, &noted, word))
        continue;
    /* Relaxed: nothing is read that the thread which has stored it wrote. */
    if (load_relaxed(&order->woken) == word)
        return;
    probe(PROBE_ORDER_STALLED);
    (void)turn_walk(order, word, true);
    store_relaxed(&order->woken, word);
}

/* Finish a turn that was left open. Returns 0; or -ENOMEM: it stays open. */
static __attribute__((noinline)) int turn_help(struct order *order, uint64_t word)
{
    int result = turn_deliver(order, word);
    if (result < 0)
        turn_stall(order, word);
    else if (turn_mark_helped(order, word))
        fetch_add_relaxed(&order->helped, 1);
    return result;
}

_Static_assert(HELP_AFTER_PAUSES > 0, "a helper acquires the turn while it waits");

/*
 * Wait a little for an open turn to end, then help. *word is then the latest. Returns 0 or -ENOMEM.
 */
static __attribute__((noinline)) int turn_await(struct order *order, uint64_t *word)
{
    uint64_t open = *word;
    for (int i = 0; i < HELP_AFTER_PAUSES; i++) {
        ck_pr_stall();
        /* Acquire; pairs with turn_open(): the slot, and all events below the turn, are visible.
         * Sequentially consistent, because help may come next: 5. */
        *word = load_seq_cst(&order->word);
        if (*word != open || turn_done(order, open))
            return 0;
    }
    int result = turn_help(order, open);
    *word = load_acquire(&order->word);
    return result;
}

/* Leave the order word to others for some pauses. Returns for how many to do so the next time. */
static __attribute__((noinline)) unsigned turn_back_off(unsigned pauses)
{
    for (unsigned i = 0; i < pauses; i++)
        ck_pr_stall();
    return pauses < BACKOFF_PAUSES_MAX ? pauses * 2 : pauses;
}

/*
 * Open a turn for `count` events, which `slot` has; *turn is then its word. Returns 0, -ENOMEM or
 * -EOVERFLOW.
 */
static inline __attribute__((always_inline)) int turn_open(struct order *order,
                                                           const struct slot *slot, uint32_t index,
                                                           size_t count, uint64_t *turn)
{
    /* Acquire, also where the CAS fails; pairs with turn_open(): the slot it names is there. */
    uint64_t word = load_acquire(&order->word);
    unsigned pauses = BACKOFF_PAUSES_FIRST;
    for (;;) {
        /* The latest turn is often our own. Then we need not look up its slot. */
        if (!(word_slot(word) == index ? turn_done_in(slot, word) : turn_done(order, word))) {
            int result = turn_await(order, &word);
            if (result < 0)
                return result;
            continue;
        }
        if (word_seq(word) > SEQ_MAX - count)
            return -EOVERFLOW;
        *turn = word_make(word_seq(word) + count, index);
        /* Release; pairs with turn_await(): hands the slot's content to helpers.
         * Acquire; pairs with turn_mark_helped(). Sequentially consistent: 5. */
        if (likely(cas_seq_cst_else_acquire(&order->word, &word, *turn)))
            return 0;
        pauses = turn_back_off(pauses);
        word = load_acquire(&order->word);
    }
}

/* --------------------------------------------------------------------------------- publish */

/*
 * Finish a turn that is still open with this slot, before the slot is written. Returns 0, -ENOMEM.
 */
static inline int slot_settle(struct order *order, const struct slot *slot, uint32_t index)
{
    /* Relaxed: the turns of this slot happen before this publish, so none of them is missed. */
    uint64_t word = load_relaxed(&order->word);
    if (likely(word_slot(word) != index || turn_done_in(slot, word)))
        return 0;
    return turn_help(order, word);
}

static inline __attribute__((always_inline)) int64_t
publish(struct order *order, const struct exitbus_event *events, size_t count)
{
    uint32_t index;
    struct slot *slot;
    int result = slot_get(order, &index, &slot);
    if (result < 0)
        return result;
    probe(PROBE_PUBLISH_SLOT_CLAIMED);
    uint64_t turn = 0;
    struct record only;
    result = slot_settle(order, slot, index);
    if (result == 0)
        result = slot_fill(order, slot, events, count, &only);
    probe(PROBE_PUBLISH_SLOT_FILLED);
    if (result == 0)
        result = turn_open(order, slot, index, count, &turn);
    if (unlikely(result < 0)) {
        slot_release(slot, index);
        return result;
    }
    probe(PROBE_PUBLISH_ORDERED);
    if (likely(turn_deliver_own(order, turn, count, &only) == 0)) {
        turn_mark_done(slot, turn);
        if (unlikely(count > 1 && index >= ORDER_SHARED_SLOTS + BATCHES_KEPT))
            slot_drop_batch(order, slot);
    } else {
        turn_stall(order, turn);
    }
    slot_release(slot, index);
    return (int64_t)(word_seq(turn) - (count - 1));
}

int64_t order_publish(struct order *order, const struct exitbus_event *event)
{
    return publish(order, event, 1);
}

int64_t order_publish_batch(struct order *order, const struct exitbus_event *events, size_t count)
{
    return publish(order, events, count);
}

int order_finish_stalled(struct order *order)
{
    /* Acquire; pairs with turn_stall(): the word read below is of this turn or a later one. */
    uint64_t stalled = load_acquire(&order->stalled);
    if (stalled == 0)
        return 0;
    /* Acquire, and sequentially consistent, as in turn_await(). */
    uint64_t word = load_seq_cst(&order->word);
    int result = turn_done(order, word) ? 0 : turn_help(order, word);
    probe(PROBE_ORDER_UNSTALLING);
    /* Release; pairs with order_stalled(). Fails if a later turn was noted meanwhile. */
    if (result == 0)
        cas_release(&order->stalled, &stalled, 0);
    return result;
}

int order_settle(struct order *order)
{
    /* Acquire; pairs with turn_open(), as in turn_await(). Sequentially consistent for callers
     * without a fence: a subscribe begins behind each event that was published before it. */
    uint64_t word = load_seq_cst(&order->word);
    return turn_done(order, word) ? 0 : turn_await(order, &word);
}

int order_settle_unless_stalled(struct order *order)
{
    /* Acquire, as in order_settle(). The caller's fence is in front of it. */
    uint64_t word = load_acquire(&order->word);
    if (turn_done(order, word))
        return 0;
    /* Relaxed: nothing is read that the thread which noted the turn wrote. */
    return load_relaxed(&order->stalled) == word ? -ENOMEM : turn_await(order, &word);
}

uint64_t order_latest(struct order *order)
{
    /*
     * Release; pairs with turn_open(). A read-modify-write rather than a load: it returns the
     * newest value, and every later turn sees what this thread wrote before. It acquires nothing.
     */
    return word_seq(fetch_add_release(&order->word, 0));
}

uint64_t order_decide_first(struct order *order, _Atomic uint64_t *first_seq)
{
    uint64_t next = order_latest(order) + 1;
    probe(PROBE_SUBSCRIBE_ORDER_READ);
    uint64_t undecided = 0;
    /* Release, and acquire where it fails; pairs with itself. So subscribe returns behind the read
     * of the order word that decided, and what is published from then on is above it. */
    if (cas_release_else_acquire(first_seq, &undecided, next))
        return next;
    return undecided;
}

uint64_t order_count(const struct order *order)
{
    return word_seq(load_relaxed(&order->word));
}

static _Atomic uint64_t orders; /* made so far */

void order_init(struct order *order, struct memory *memory, unsigned batch_class,
                order_deliver *deliver, void *context)
{
    *order = (struct order){.deliver = deliver,
                            .context = context,
                            .memory = memory,
                            .batch_class = batch_class,
                            .id = fetch_add_relaxed(&orders, 1) + 1};
    atomic_init(&order->word, WORD_DONE);
}

void order_destroy(struct order *order)
{
    /* Relaxed throughout: no other thread uses the order any more, and their uses happen before. */
    for (unsigned chunk = 0; chunk < ORDER_CHUNKS; chunk++) {
        struct slot *slots = load_relaxed(&order->chunks[chunk]);
        if (slots)
            memory_unmap(order->memory, slots, chunk_bytes(chunk));
    }
}
