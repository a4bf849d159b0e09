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
 *
 * Why it is right:
 * 1. No block is free before a grace period has passed that began after it was retired.
 * 2. Blocks never stay in limbo unpolled: limbo_leave() stores `busy`, then loads `poll_scheduled`.
 *    The callback clears `poll_scheduled`, then tries `busy`. All are sequentially consistent, so
 *    either the callback owns limbo or the leaving thread schedules another one.
 * 3. At rest limbo is empty and nothing runs. If limbo's owner was ended by force, polling ends.
 *
 * docs/design.md, "Memory", shows the states of a block.
 */
#include "base/sys.h"
#include "memory/pool.h"

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
    pool_push(pool, chain->first, chain->last, chain->count);
    *chain = (struct chain){0};
}

/* Free a chain on the worker; a callback, which used the head of the chain's first block. */
static void chain_free_deferred(struct rcu_head *rcu)
{
    struct block *first = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct memory *memory = memory_of(first);
    struct chain chain = chain_from(first);
    chain_free(memory, (unsigned)(first->slab->pool - memory->pools), &chain);
    trim_maybe(memory);
    memory_callback_end(memory);
}

static void chain_defer(struct memory *memory, struct chain *chain)
{
    if (!chain->first)
        return;
    store_relaxed(&chain->last->chain, NULL);
    memory_defer(memory, &chain->first->reclaim, chain_free_deferred);
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

/* Returns all that was retired to a pool, as a chain. */
static struct chain retired_chain(struct pool *pool)
{
    /* Acquire; pairs with memory_retire(). */
    return chain_from(exchange_acquire(&pool->retired, NULL));
}

static void retire_batch(struct memory *memory, unsigned class)
{
    struct limbo *limbo = &memory->limbo;
    struct chain chain = retired_chain(&memory->pools[class]);
    if (!chain.first)
        return;
    if (!limbo_enter(limbo)) {
        chain_defer(memory, &chain);
        return;
    }
    struct chain *open = &limbo->open[class];
    if (open->first) {
        store_relaxed(&chain.last->chain, open->first);
        chain.last = open->last;
        chain.count += open->count;
    }
    *open = chain;
    limbo_leave(memory, limbo_advance(memory));
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
    struct block *top = load_relaxed(&pool->retired);
    do
        store_relaxed(&block->chain, top);
    /* Release; pairs with retired_chain(), in the thread that closes the batch. */
    while (!cas_weak_release(&pool->retired, &top, block));
    size_t count = fetch_add_relaxed(&pool->retired_count, 1) + 1;
    if (count % MEMORY_RETIRE_BATCH == 0)
        retire_batch(memory, class);
    else if (!top) /* the first since the last batch: its slab may be part of a surplus */
        trim_maybe(memory);
}

/* ------------------------------------------------------------------------------------ callbacks */

void memory_defer(struct memory *memory, struct reclaim_head *head,
                  void (*callback)(struct rcu_head *))
{
    fetch_add_relaxed(&memory->callbacks, 1);
    reclaim_defer(head, callback);
}

/*
 * `ended` counts callbacks that ended while a thread waited for them, in any bus: a futex.
 * `waiting` counts these threads. Not in struct memory, which may be gone as soon as its count is
 * zero.
 */
static _Atomic uint32_t ended;
static _Atomic uint32_t waiting;

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
