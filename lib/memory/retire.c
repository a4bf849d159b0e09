/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Retired blocks on their way back to their pool (G6), and callbacks.
 *
 * How it works:
 * - Retired blocks gather in their pool. A batch of them goes to limbo: into `open` until a polled
 *   grace period (epoch.h) begins, then into `waiting` until it is over.
 * - The thread that brings a batch, and a thread that finds the pool empty, poll the grace period.
 *   So a segment comes back within microseconds, while it is still in the caches.
 * - Limbo has one owner at a time, by a flag that no thread waits for. A thread that finds it owned
 *   leaves its blocks to the worker, because the owner may be stopped for ever. The blocks also go
 *   to the worker when no polled grace period can begin.
 * - Without traffic no thread polls limbo. So a thread that leaves blocks there schedules a
 *   callback, which polls every 10 ms until limbo is empty.
 * - Objects want the worker's grace period, since the host may look them up in its own sections. A
 *   batch of them is one callback, which moves them to a list of those that are `due`. Each thread
 *   that retires an object destroys two of these, and the worker destroys what is left one grace
 *   period later. So the worker is done quickly, however many threads it shares a processor with,
 *   and threads destroy faster than they retire.
 * - Where threads outnumber processors, a grace period lasts until each thread that was preempted
 *   in a section has run again. So a thread that closes a batch while PENDING_MANY bytes wait
 *   yields the processor once. To yield is not to wait: the thread goes on, whatever the others do.
 *
 * Why it is right:
 * 1. No block is free before a grace period has passed that began after it was retired.
 * 2. Blocks never stay in limbo unpolled: limbo_leave() stores `busy`, then loads `poll_scheduled`.
 *    The callback clears `poll_scheduled`, then tries `busy`. All are sequentially consistent, so
 *    either the callback owns limbo or the leaving thread schedules another one.
 * 3. At rest limbo is empty and nothing runs. If limbo's owner was ended by force, polling ends.
 * 4. An object that does not make up a batch is not forgotten. The thread that found the list empty
 *    schedules a callback that closes the batch, unless one is scheduled. The callback first clears
 *    `flush_scheduled`, and then takes the list. Both change it by a read-modify-write.
 * 5. The list of due objects has no ABA problem: only the worker pushes, behind a grace period, and
 *    threads pop in sections. A thread stopped there keeps one object, and delays no thread.
 * 6. What waits is bounded, unless a thread is stopped in a section: with N threads on a processor,
 *    each of them retires at most a batch above PENDING_MANY until all others have run. Two such
 *    turns, and what the worker needs beside them, end the grace period of every batch.
 *
 * docs/design.md, "Memory", shows the states of a block.
 */
#include "base/sys.h"
#include "memory/pool.h"

#include <sched.h>

/* More than a bus has on its way at once while no thread is preempted in a section. */
#define PENDING_MANY ((size_t)4 << 20)

static struct block *chain_next(const struct block *block)
{
    return load_relaxed(&block->chain);
}

/* Returns all blocks that are chained to `first`; empty for NULL. */
static struct chain chain_from(struct block *first)
{
    struct chain chain = {.first = first};
    for (struct block *block = first; block; block = chain_next(block)) {
        chain.last = block;
        chain.count++;
    }
    return chain;
}

/* Put a chain into its pool. Context: after the grace period. */
static void chain_free(struct memory *memory, unsigned class, struct chain *chain)
{
    struct pool *pool = &memory->pools[class];
    if (POISONS) {
        struct block *next;
        for (struct block *block = chain->first; block; block = next) {
            next = block == chain->last ? NULL : chain_next(block);
            out_of_bounds(block + 1, pool->block_size - sizeof *block);
        }
    }
    fetch_sub_relaxed(&memory->pending, chain->count * pool->block_size);
    pool_push(pool, chain->first, chain->last, chain->count);
    *chain = (struct chain){0};
}

/*
 * Chains go to the worker as rings, by the head of the last block. So it need not walk them, and is
 * done with a chain in a few loads. The first block's head, which is not used, holds the count.
 */
static struct reclaim_head *chain_close(struct chain *chain)
{
    store_relaxed(&chain->last->chain, chain->first);
    if (chain->first != chain->last)
        chain->first->reclaim.rcu.next.next = (void *)(uintptr_t)chain->count;
    return &chain->last->reclaim;
}

/* Returns the chain again. Context: in the callback. */
static struct chain chain_open(struct rcu_head *rcu)
{
    struct block *last = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct block *first = chain_next(last);
    size_t count = first == last ? 1 : (uintptr_t)(void *)first->reclaim.rcu.next.next;
    return (struct chain){.first = first, .last = last, .count = count};
}

/* Free a chain; a callback. */
static void chain_free_deferred(struct rcu_head *rcu)
{
    struct chain chain = chain_open(rcu);
    struct memory *memory = memory_of(chain.first);
    chain_free(memory, (unsigned)(chain.first->slab->pool - memory->pools), &chain);
    trim_maybe(memory);
    memory_callback_end(memory);
}

static void chain_defer(struct memory *memory, struct chain *chain)
{
    if (!chain->first)
        return;
    memory_defer(memory, chain_close(chain), chain_free_deferred);
    *chain = (struct chain){0};
}

/* ---------------------------------------------------------------------------------------- limbo */

static bool limbo_enter(struct limbo *limbo)
{
    /* Acquire; pairs with limbo_leave(), for the plain fields. Sequentially consistent: if
     * limbo_scheduled_poll() can't enter, the thread that leaves later sees that no poll is
     * scheduled. */
    return !load_seq_cst(&limbo->busy) && !exchange_seq_cst(&limbo->busy, 1);
}

static void limbo_schedule_poll(struct memory *memory);

/* Leave limbo, and schedule a poll if blocks are still there. */
static void limbo_leave(struct memory *memory, bool occupied)
{
    store_relaxed(&memory->limbo.occupied, occupied);
    store_seq_cst(&memory->limbo.busy, 0);
    if (occupied)
        limbo_schedule_poll(memory);
}

static bool limbo_has_open(const struct limbo *limbo)
{
    for (unsigned i = 0; i < MEMORY_CLASSES_MAX; i++)
        if (limbo->open[i].first)
            return true;
    return false;
}

static bool limbo_open_grace(struct memory *memory)
{
    struct limbo *limbo = &memory->limbo;
    if (!limbo_has_open(limbo))
        return false;
    bool begun = epoch_grace_begin(&limbo->grace);
    for (unsigned i = 0; i < MEMORY_CLASSES_MAX; i++) {
        if (!begun) {
            chain_defer(memory, &limbo->open[i]);
            continue;
        }
        limbo->waiting[i] = limbo->open[i];
        limbo->open[i] = (struct chain){0};
    }
    return begun;
}

/*
 * Free the blocks whose grace period is over. Returns whether there were any. Context: limbo's
 * owner.
 */
static bool limbo_free(struct memory *memory)
{
    struct limbo *limbo = &memory->limbo;
    if (!limbo->grace_begun || !epoch_grace_over(&limbo->grace))
        return false;
    for (unsigned i = 0; i < MEMORY_CLASSES_MAX; i++)
        if (limbo->waiting[i].first)
            chain_free(memory, i, &limbo->waiting[i]);
    limbo->grace_begun = false;
    return true;
}

/*
 * Free those blocks, and begin a grace period for newer ones. Returns whether blocks still wait for
 * one. Context: limbo's owner.
 */
static bool limbo_advance(struct memory *memory)
{
    limbo_free(memory);
    if (!memory->limbo.grace_begun)
        memory->limbo.grace_begun = limbo_open_grace(memory);
    return memory->limbo.grace_begun;
}

bool limbo_poll(struct memory *memory)
{
    struct limbo *limbo = &memory->limbo;
    if (!load_relaxed(&limbo->occupied) || !limbo_enter(limbo))
        return false;
    bool freed = limbo_free(memory);
    limbo_leave(memory, limbo->grace_begun || limbo_has_open(limbo));
    return freed;
}

static void limbo_scheduled_poll(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, limbo.reclaim);
    /* First, so that a thread that leaves limbo from here on schedules another poll. */
    store_seq_cst(&memory->limbo.poll_scheduled, 0);
    if (limbo_enter(&memory->limbo))
        limbo_leave(memory, limbo_advance(memory));
    trim_maybe(memory);
    memory_callback_end(memory);
}

static void limbo_schedule_poll(struct memory *memory)
{
    if (!load_seq_cst(&memory->limbo.poll_scheduled) &&
        !exchange_seq_cst(&memory->limbo.poll_scheduled, 1))
        memory_defer(memory, &memory->limbo.reclaim, limbo_scheduled_poll);
}

/* -------------------------------------------------------------------------------------- retire */

/* Add a block to a list of retired ones. Returns the block that was added before. */
static struct block *retired_push(_Atomic(struct block *) *retired, struct block *block)
{
    struct block *top = load_relaxed(retired);
    do
        store_relaxed(&block->chain, top);
    /* Release; pairs with retired_chain(), in the thread that closes the batch. */
    while (!cas_weak_release(retired, &top, block));
    return top;
}

/* Returns all that was retired to a list, as a chain. */
static struct chain retired_chain(_Atomic(struct block *) *retired)
{
    /* Acquire; pairs with retired_push(). */
    return chain_from(exchange_acquire(retired, NULL));
}

/*
 * Count a batch that goes to a grace period. Returns whether much is waiting. Callers then call
 * make_way() once they hold nothing.
 */
static bool pending_add(struct memory *memory, const struct chain *chain)
{
    size_t bytes = chain->count * chain->first->slab->pool->block_size;
    return fetch_add_relaxed(&memory->pending, bytes) + bytes >= PENDING_MANY;
}

/* Let those threads run that keep a grace period from ending, and the worker. */
static void make_way(void)
{
    reclaim_hurry();
    sched_yield();
}

static void retire_batch(struct memory *memory, unsigned class)
{
    struct limbo *limbo = &memory->limbo;
    struct chain chain = retired_chain(&memory->pools[class].retired);
    if (!chain.first)
        return;
    bool many = pending_add(memory, &chain);
    if (limbo_enter(limbo)) {
        struct chain *open = &limbo->open[class];
        if (open->first) {
            store_relaxed(&chain.last->chain, open->first);
            chain.last = open->last;
            chain.count += open->count;
        }
        *open = chain;
        limbo_leave(memory, limbo_advance(memory));
    } else {
        chain_defer(memory, &chain);
    }
    if (many)
        make_way();
}

void retire_rest(struct memory *memory)
{
    for (unsigned i = 0; i < MEMORY_CLASSES_MAX; i++)
        retire_batch(memory, i);
}

void memory_retire(struct memory *memory, unsigned class, void *address)
{
    struct pool *pool = &memory->pools[class];
    struct block *block = address;
    invariant(block->slab->pool == pool);
    struct block *top = retired_push(&pool->retired, block);
    size_t count = fetch_add_relaxed(&pool->retired_count, 1) + 1;
    if (count % MEMORY_RETIRE_BATCH == 0)
        retire_batch(memory, class);
    else if (!top) /* the first since the last batch: its slab may be part of a surplus */
        trim_maybe(memory);
}

/* -------------------------------------------------------------------------------------- objects */

/* Objects that share a callback: as many as make up half a slab. */
#define OBJECTS_BATCH 128
/* Due objects that a thread destroys for each one that it retires: two, so that the list drains. */
#define OBJECTS_AT_ONCE 2

/* Destroy one. Returns false if none is due. */
static bool object_destroy_due(struct memory *memory)
{
    struct block *block = list_pop(&memory->objects.due);
    if (!block)
        return false;
    memory->destroy_object(block);
    return true;
}

static void objects_drain(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, objects.drain);
    memory->objects.drain_scheduled = false;
    while (object_destroy_due(memory))
        continue;
    memory_callback_end(memory);
}

/* Let a batch be destroyed; a callback. The worker itself does so behind one more grace period. */
static void objects_due(struct rcu_head *rcu)
{
    struct chain chain = chain_open(rcu);
    struct memory *memory = memory_of(chain.first);
    /* Before the push, because the memory may go with the last object unless a callback is left. */
    if (!memory->objects.drain_scheduled) {
        memory->objects.drain_scheduled = true;
        memory_defer(memory, &memory->objects.drain, objects_drain);
    }
    size_t bytes = chain.count * chain.first->slab->pool->block_size;
    fetch_sub_relaxed(&memory->pending, bytes);
    list_push(&memory->objects.due, chain.first, chain.last);
}

/* Send the retired objects to a grace period. */
static void objects_close(struct memory *memory)
{
    struct chain chain = retired_chain(&memory->objects.retired);
    if (!chain.first)
        return;
    bool many = pending_add(memory, &chain);
    reclaim_defer(chain_close(&chain), objects_due); /* each object is counted as a callback */
    if (many)
        make_way();
}

static void objects_flush(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, objects.flush);
    /* Acquire; pairs with objects_schedule_flush(), for the list. Release; for the head. */
    exchange_acq_rel(&memory->objects.flush_scheduled, 0);
    objects_close(memory);
    memory_callback_end(memory);
}

static void objects_schedule_flush(struct memory *memory)
{
    /* Release and acquire; pairs with objects_flush(). */
    if (!exchange_acq_rel(&memory->objects.flush_scheduled, 1))
        memory_defer(memory, &memory->objects.flush, objects_flush);
}

void memory_retire_object(struct memory *memory, struct block *block)
{
    struct objects *objects = &memory->objects;
    fetch_add_relaxed(&memory->callbacks, 1);
    bool first = !retired_push(&objects->retired, block);
    if ((fetch_add_relaxed(&objects->retired_count, 1) + 1) % OBJECTS_BATCH == 0)
        objects_close(memory);
    else if (first)
        objects_schedule_flush(memory);
    for (unsigned i = 0; i < OBJECTS_AT_ONCE && object_destroy_due(memory); i++)
        continue;
}

/* ------------------------------------------------------------------------------------ callbacks */

/*
 * `ended` counts callbacks that ended while a thread waited for them, in any bus: a futex.
 * `waiting` counts these threads. Not in struct memory, which may be gone as soon as its count is
 * zero.
 */
static _Atomic uint32_t ended;
static _Atomic uint32_t waiting;

void memory_defer(struct memory *memory, struct reclaim_head *head,
                  void (*callback)(struct rcu_head *))
{
    fetch_add_relaxed(&memory->callbacks, 1);
    reclaim_defer(head, callback);
    if (unlikely(load_relaxed(&waiting) > 0))
        reclaim_hurry();
}

void memory_callback_end(struct memory *memory)
{
    /* Release; pairs with memory_wait_callbacks(). Sequentially consistent, because `waiting` is
     * loaded after it. */
    if (fetch_sub_seq_cst(&memory->callbacks, 1) > 1)
        return;
    if (load_seq_cst(&waiting) > 0) {
        fetch_add_seq_cst(&ended, 1);
        sys_futex_wake_all((uint32_t *)&ended);
    }
}

void memory_wait_callbacks(struct memory *memory)
{
    fetch_add_seq_cst(&waiting, 1);
    objects_close(memory);
    /* The thread that pushed a callback may be stopped before it wakes the worker. */
    if (memory_callbacks(memory) > 0)
        reclaim_hurry();
    for (;;) {
        uint32_t before = load_seq_cst(&ended);
        if (memory_callbacks(memory) == 0)
            break;
        sys_sleep_on((uint32_t *)&ended, before, -1);
    }
    fetch_sub_relaxed(&waiting, 1);
}
