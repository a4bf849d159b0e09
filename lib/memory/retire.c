/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Blocks on their way through a grace period back to their pool (G6), and callbacks.
 *
 * Retired blocks are gathered to batches, and a batch goes to limbo: `open`, until a polled grace
 * period (epoch.h) begins, `waiting` until it is over. Whoever brings a batch, and whoever finds
 * the pool empty, looks whether it is. So a segment comes back within microseconds, while it is
 * still in the caches. Limbo is guarded by a flag that nobody waits for: who finds it taken (its
 * holder may be stopped for ever) leaves its blocks to the worker. So does everything where too
 * many threads are inside to be noted.
 *
 * Without traffic nobody looks any more: so a thread that leaves something in limbo schedules a
 * callback, which looks every 10 ms until limbo is empty. At rest limbo is
 * empty and nothing runs; and if its holder was ended by force, nothing goes on looking.
 */
#include "base/sys.h"
#include "memory/pool.h"

static struct block *chain_next(const struct block *block)
{
    return load_relaxed(&block->chain);
}

/* All that hangs on a block; empty for NULL. */
static struct chain chain_from(struct block *first)
{
    struct chain chain = {.first = first};
    for (struct block *block = first; block; block = chain_next(block)) {
        chain.last = block;
        chain.count++;
    }
    return chain;
}

/* Into its pool, after the grace period. */
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

/* A chain of its own comes back by the worker, too: its first block's head is for that. */
static void chain_free_deferred(struct rcu_head *rcu)
{
    struct block *first = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct memory *memory = first->slab->memory;
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
    /* Acquire: pairs with limbo_leave, for what the flag guards. Sequentially consistent: if
     * limbo_scheduled_poll can't enter, whoever leaves after that sees that there is no look. */
    return !load_seq_cst(&limbo->busy) && !exchange_seq_cst(&limbo->busy, 1);
}

static void limbo_schedule_poll(struct memory *memory);

/* Leave, and see to it that somebody looks again if there is something to come back. */
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

/* Inside limbo: free what has come through. */
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

/* And begin a grace period for what has come since. True if there is still something to come. */
static bool limbo_advance(struct memory *memory)
{
    limbo_free(memory);
    if (!memory->limbo.grace_begun)
        memory->limbo.grace_begun = limbo_open_grace(memory);
    return memory->limbo.grace_begun;
}

/* Begins none: publishers call this, and should not pay for a membarrier. */
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
    /* First, so that whoever leaves limbo from here on sees to it that there is another look. */
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

/* All that was retired to a pool, as a chain. */
static struct chain retired_chain(struct pool *pool)
{
    /* Acquire: pairs with the release in memory_retire. */
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
    /* Release: pairs with the acquire in retired_chain, in whichever thread closes the batch. */
    while (!cas_weak_release(&pool->retired, &top, block));
    size_t count = fetch_add_relaxed(&pool->retired_count, 1) + 1;
    if (count % MEMORY_RETIRE_BATCH == 0)
        retire_batch(memory, class);
    else if (!top) /* the first since the last batch: is there a surplus whose slabs it holds? */
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
 * Callbacks that have ended while somebody waits for that, in any bus: a futex. Not in struct
 * memory, which may be gone as soon as its count is zero.
 */
static _Atomic uint32_t ended;
static _Atomic uint32_t waiting;

void memory_callback_end(struct memory *memory)
{
    /* Release: pairs with the acquire in memory_wait_callbacks. */
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
    /* A thread that pushed a callback may be stopped before it wakes the worker. */
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
