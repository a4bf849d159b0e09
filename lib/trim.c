/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that a pool has not needed for some time goes back to the allocator (G7), in callbacks of
 * liburcu's, so that nobody waits for it, and as long as there is a surplus only, so that nothing
 * runs at rest. Called by whoever gives blocks back. Uses: pool.
 */
#include "pool.h"

/* Free memory that a pool keeps when it trims, to start the next burst warm. */
#define TRIM_KEEP ((size_t)128 << 10)
#define TRIM_FROM (2 * TRIM_KEEP)
/* What was free all the time for this many grace periods (of about 10 ms) is not needed. */
#define TRIM_EVERY_LOOKS 8
/* Looks without anything having come back meanwhile, before they end: at rest nothing runs. */
#define TRIM_LOOKS 32

/*
 * While a pool has a surplus of free blocks, one look follows the other; every few of them, what
 * has been free throughout is given back. At rest that comes to its end by itself.
 *
 * A trim has three stages with a grace period between each: take the whole free list out (a popper
 * may still be looking at its old top); sort it, put back what stays and take the rest out of
 * memory->slabs and pool->current (somebody may still be about to cut from it); unmap.
 */

static void trim_go_on(struct memory *memory);

/* Only the trim in progress removes, so every `next` but the top's is its own to change. */
static void slab_unlist(struct memory *memory, struct slab *slab)
{
    struct slab *top = slab;
    if (atomic_compare_exchange_strong_explicit(&memory->slabs, &top, slab->next,
                                                memory_order_acquire, memory_order_acquire))
        return;
    struct slab *before = top;
    while (before->next != slab)
        before = before->next;
    before->next = slab->next;
}

static void trim_unmap(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, trim_reclaim);
    struct slab *slab = memory->trim_slabs;
    while (slab) {
        struct slab *next = slab->next;
        memory_unmap(memory, slab, slab->size);
        slab = next;
    }
    if (memory->trim_slabs)
        memory->trim_idle_looks = 0;
    memory->trim_slabs = NULL;
    trim_go_on(memory);
    memory_callback_end(memory);
}

/* Every block of the slab is in trim_blocks, so nobody uses it. */
static void trim_take_slab(struct memory *memory, struct slab *slab)
{
    struct pool *pool = memory->trim_pool;
    struct slab *current = slab; /* fully cut, and others may still be reading that */
    atomic_compare_exchange_strong_explicit(&pool->current, &current, NULL, memory_order_relaxed,
                                            memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool->slab_bytes, slab->size, memory_order_relaxed);
    slab_unlist(memory, slab);
    slab->next = memory->trim_slabs;
    memory->trim_slabs = slab;
}

/* Does a slab, of whose blocks `found` are free, go back? Then it is taken out of the pool. */
static bool trim_decide(struct memory *memory, struct slab *slab, size_t *kept)
{
    struct pool *pool = memory->trim_pool;
    uint32_t cut = atomic_load_explicit(&slab->cut, memory_order_relaxed);
    if (slab->found < (cut < slab->capacity ? cut : slab->capacity))
        return mutant(MEMORY_TRIMS_IN_USE) && slab->found > slab->capacity / 2
                   ? (trim_take_slab(memory, slab), true)
                   : false; /* partly in use */
    if (*kept + slab->size <= memory->trim_keep) {
        *kept += slab->size;
        return false;
    }
    struct slab *current = slab;
    if (cut < slab->capacity &&
        atomic_compare_exchange_strong_explicit(&pool->current, &current, NULL,
                                                memory_order_relaxed, memory_order_relaxed))
        return false; /* somebody may be about to cut from it: next time */
    trim_take_slab(memory, slab);
    return true;
}

static void trim_sort(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, trim_reclaim);
    for (struct block *b = memory->trim_blocks; b;
         b = atomic_load_explicit(&b->chain, memory_order_relaxed))
        b->slab->found++;

    size_t kept = 0;
    struct block *next;
    for (struct block *b = memory->trim_blocks; b; b = next) {
        next = atomic_load_explicit(&b->chain, memory_order_relaxed);
        struct slab *slab = b->slab;
        if (slab->found > 0 && slab->found != SLAB_GOES) /* its first block */
            slab->found = trim_decide(memory, slab, &kept) ? SLAB_GOES : 0;
        if (slab->found != SLAB_GOES)
            pool_push(memory->trim_pool, b, b, 1);
    }
    memory->trim_blocks = NULL;
    memory_later(memory, &memory->trim_reclaim, trim_unmap);
    memory_callback_end(memory);
}

/* Take the free list out, if this pool has kept more than it needed since the last look. */
static bool trim_begin(struct memory *memory, struct pool *pool)
{
    size_t lowest = atomic_load_explicit(&pool->lowest_free, memory_order_relaxed);
    size_t free = atomic_load_explicit(&pool->free_count, memory_order_relaxed);
    atomic_store_explicit(&pool->lowest_free, free, memory_order_relaxed);
    if (lowest * pool->block_size <= TRIM_FROM)
        return false;
    memory->trim_pool = pool;
    memory->trim_keep = (free > lowest ? free - lowest : 0) * pool->block_size + TRIM_KEEP;
    memory->trim_blocks = atomic_exchange_explicit(&pool->free, NULL, memory_order_acquire);
    size_t taken = 0;
    for (struct block *b = memory->trim_blocks; b;
         b = atomic_load_explicit(&b->chain, memory_order_relaxed))
        taken++;
    atomic_fetch_sub_explicit(&pool->free_count, taken, memory_order_relaxed);
    memory_later(memory, &memory->trim_reclaim, trim_sort);
    return true;
}

static bool has_surplus(struct memory *memory)
{
    for (size_t i = 0; i < MEMORY_CLASSES_MAX; i++) {
        struct pool *pool = &memory->pools[i];
        if (atomic_load_explicit(&pool->free_count, memory_order_relaxed) * pool->block_size >
            TRIM_FROM)
            return true;
    }
    return false;
}

/* One look. It is followed by others, a grace period apart, until there is nothing to trim. */
static void trim_look(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, trim_reclaim);
    bool begun = false;
    memory->trim_idle_looks++;
    if (++memory->trim_looks % TRIM_EVERY_LOOKS == 0) {
        retire_rest(memory); /* a batch that does not get full would hold its slabs */
        for (size_t i = 0; i < MEMORY_CLASSES_MAX && !begun; i++) {
            begun = trim_begin(memory, &memory->pools[memory->trim_next]);
            memory->trim_next = (memory->trim_next + 1) % MEMORY_CLASSES_MAX;
        }
    }
    if (!begun)
        trim_go_on(memory);
    memory_callback_end(memory);
}

static void trim_go_on(struct memory *memory)
{
    if (atomic_exchange_explicit(&memory->trim_again, 0, memory_order_relaxed))
        memory->trim_idle_looks = 0;
    if (memory->trim_idle_looks < TRIM_LOOKS && has_surplus(memory) &&
        !atomic_load_explicit(&memory->ending, memory_order_acquire)) {
        memory_later(memory, &memory->trim_reclaim, trim_look);
    } else {
        memory->trim_idle_looks = 0;
        /* Release: hands the trim_ fields to the next trim. */
        atomic_store_explicit(&memory->trimming, 0, memory_order_release);
    }
}

void trim_maybe(struct memory *memory)
{
    if (!has_surplus(memory) || mutant(MEMORY_NEVER_TRIMMED))
        return;
    if (!atomic_load_explicit(&memory->trim_again, memory_order_relaxed))
        atomic_store_explicit(&memory->trim_again, 1, memory_order_relaxed);
    /* Acquire: takes over the trim_ fields from the last trim. */
    if (!atomic_load_explicit(&memory->trimming, memory_order_relaxed) &&
        !atomic_exchange_explicit(&memory->trimming, 1, memory_order_acquire))
        memory_later(memory, &memory->trim_reclaim, trim_look);
}
