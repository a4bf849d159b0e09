/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory that a pool has not needed for some time goes back to the allocator (G7), in callbacks of
 * liburcu's, so that nobody waits for it, and as long as there is a surplus only, so that nothing
 * runs at rest. Called by whoever gives blocks back. Uses: pool.
 */
#include "memory/pool.h"

#include <sys/mman.h>
#include <unistd.h>

/* Free memory that a pool keeps when it trims, to start the next burst warm. */
#define TRIM_KEEP ((size_t)128 << 10)
#define TRIM_FROM (2 * TRIM_KEEP)
/* What was free all the time for this many grace periods (of about 10 ms) is not needed. */
#define TRIM_EVERY_LOOKS 8
/* Free pages of slabs that are in use go back where no more than one block in so many is. */
#define TRIM_USED_ONE_IN 16
/* Looks without anything having come back meanwhile, before they end: at rest nothing runs. */
#define TRIM_LOOKS 32

/*
 * While a pool has a surplus of free blocks, one look follows the other; every few of them, what
 * has been free throughout is given back. At rest that comes to its end by itself.
 *
 * A trim has three stages with a grace period between each: take the whole free list out (a popper
 * may still be looking at its old top); sort it, put back what stays and take the rest out of
 * memory->slabs and pool->current (somebody may still be about to cut from it); unmap.
 *
 * A queue that is empty holds on to one segment, and that may lie in a huge page. Of a large slab
 * in use the free blocks are taken out of the pool, for good, and all pages that hold nothing else
 * go back to the kernel. The slab follows when the last of its blocks is found free.
 */

static void trim_go_on(struct memory *memory);

/* Only the trim in progress removes, so every `next` but the top's is its own to change. */
static void slab_unlist(struct memory *memory, struct slab *slab)
{
    struct slab *top = slab;
    if (cas_acquire_else_acquire(&memory->slabs, &top, slab->next))
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
        slab_unmap(memory, slab);
        slab = next;
    }
    if (memory->trim_slabs)
        memory->trim_idle_looks = 0;
    memory->trim_slabs = NULL;
    trim_go_on(memory);
    memory_callback_end(memory);
}

/* Every block of the slab is in trim_blocks, so nobody uses it. */
static void trim_remove_slab(struct memory *memory, struct slab *slab)
{
    struct pool *pool = memory->trim_pool;
    struct slab *current = slab; /* fully cut, and others may still be reading that */
    cas_relaxed(&pool->current, &current, NULL);
    fetch_sub_relaxed(&pool->slab_bytes, slab->size);
    slab_unlist(memory, slab);
    slab->next = memory->trim_slabs;
    memory->trim_slabs = slab;
}

static uint32_t slab_cut(const struct slab *slab)
{
    uint32_t cut = load_relaxed(&slab->cut);
    return cut < slab->capacity ? cut : slab->capacity;
}

/*
 * What becomes of a slab, of whose blocks `found` are free: SLAB_UNMAP (it is then taken out of the
 * pool), SLAB_PURGE, or 0: its free blocks stay in the pool.
 */
static uint32_t trim_decide(struct memory *memory, struct slab *slab, size_t *kept)
{
    struct pool *pool = memory->trim_pool;
    uint32_t cut = slab_cut(slab), in_use = cut - slab->free_seen - slab->purged;
    if (in_use > 0 && (slab->size == SLAB_SMALL || !memory->own_allocator ||
                       in_use > slab->capacity / TRIM_USED_ONE_IN))
        return 0;
    size_t free = in_use > 0 ? slab->free_seen * pool->block_size : slab->size;
    if (*kept + free <= memory->trim_keep) {
        *kept += free;
        return 0;
    }
    if (cut < slab->capacity) {
        probe(PROBE_TRIM_DECIDING);
        struct slab *current = slab;
        /* Acquire: pairs with the CAS in memory_alloc, by somebody who has found it fully cut. */
        if (cas_acquire_else_acquire(&pool->current, &current, NULL))
            return 0; /* somebody may be about to cut from it: next time */
        if (slab_cut(slab) != cut)
            return 0; /* somebody has, and then replaced it */
    }
    if (in_use > 0)
        return SLAB_PURGE;
    trim_remove_slab(memory, slab);
    return SLAB_UNMAP;
}

/* Whole pages that lie in blocks `from` to `to` of a slab; the last one ends with the slab. */
static void purge_pages(struct slab *slab, uint32_t from, uint32_t to)
{
    uintptr_t begin = (uintptr_t)slab_block(slab, from);
    uintptr_t end =
        to == slab->capacity ? (uintptr_t)slab + slab->size : (uintptr_t)slab_block(slab, to);
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    begin = (begin + page - 1) & ~(page - 1);
    end &= ~(page - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* What a block that has just been found hollow names as its slab. Not NULL: that is what it names
 * between being cut and being somebody's. */
static struct slab purged_mark;

/* Give back the pages of blocks that have just been marked, and of those that were never cut. */
static void slab_purge(struct slab *slab)
{
    (void)madvise(slab, slab->size, MADV_NOHUGEPAGE); /* or they might come back as one */
    uint32_t cut = slab_cut(slab), run = 0;
    for (uint32_t i = 0; i < cut; i++) {
        if (slab_block(slab, i)->slab == &purged_mark)
            continue;
        purge_pages(slab, run, i);
        run = i + 1;
    }
    purge_pages(slab, run, slab->capacity);
}

static void trim_sort(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, trim_reclaim);
    for (struct block *b = memory->trim_blocks; b; b = load_relaxed(&b->chain))
        b->slab->free_seen++;

    size_t kept = 0;
    struct slab *to_purge = NULL;
    struct block *next;
    for (struct block *b = memory->trim_blocks; b; b = next) {
        next = load_relaxed(&b->chain);
        struct slab *slab = b->slab;
        if (slab->free_seen > 0 && slab->free_seen < SLAB_PURGE) { /* its first block */
            slab->free_seen = trim_decide(memory, slab, &kept);
            if (slab->free_seen == SLAB_PURGE) {
                slab->purge_next = to_purge;
                to_purge = slab;
            }
        }
        if (slab->free_seen == SLAB_PURGE) {
            b->slab = &purged_mark;
            slab->purged++;
            fetch_sub_relaxed(&memory->bytes, memory->trim_pool->block_size);
        } else if (slab->free_seen == 0) {
            pool_push(memory->trim_pool, b, b, 1);
        }
    }
    for (; to_purge; to_purge = to_purge->purge_next) {
        slab_purge(to_purge);
        to_purge->free_seen = 0;
    }
    memory->trim_blocks = NULL;
    memory_defer(memory, &memory->trim_reclaim, trim_unmap);
    memory_callback_end(memory);
}

/* Take the free list out, if this pool has kept more than it needed since the last look. */
static bool trim_begin(struct memory *memory, struct pool *pool)
{
    size_t lowest = load_relaxed(&pool->lowest_free);
    size_t free = load_relaxed(&pool->free_count);
    store_relaxed(&pool->lowest_free, free);
    if (lowest * pool->block_size <= TRIM_FROM)
        return false;
    memory->trim_pool = pool;
    memory->trim_keep = (free > lowest ? free - lowest : 0) * pool->block_size + TRIM_KEEP;
    memory->trim_blocks = exchange_acquire(&pool->free, NULL);
    size_t taken = 0;
    for (struct block *b = memory->trim_blocks; b; b = load_relaxed(&b->chain))
        taken++;
    fetch_sub_relaxed(&pool->free_count, taken);
    memory_defer(memory, &memory->trim_reclaim, trim_sort);
    return true;
}

static bool has_surplus(struct memory *memory)
{
    for (size_t i = 0; i < MEMORY_CLASSES_MAX; i++) {
        struct pool *pool = &memory->pools[i];
        if (load_relaxed(&pool->free_count) * pool->block_size > TRIM_FROM)
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
    if (exchange_relaxed(&memory->trim_again, 0))
        memory->trim_idle_looks = 0;
    if (memory->trim_idle_looks < TRIM_LOOKS && has_surplus(memory) &&
        !load_acquire(&memory->trim_stopped)) {
        memory_defer(memory, &memory->trim_reclaim, trim_look);
    } else {
        memory->trim_idle_looks = 0;
        /* Release: hands the trim_ fields to the next trim. */
        store_release(&memory->trimming, 0);
    }
}

void trim_maybe(struct memory *memory)
{
    if (!has_surplus(memory))
        return;
    if (!load_relaxed(&memory->trim_again))
        store_relaxed(&memory->trim_again, 1);
    /* Acquire: takes over the trim_ fields from the last trim. */
    if (!load_relaxed(&memory->trimming) && !exchange_acquire(&memory->trimming, 1))
        memory_defer(memory, &memory->trim_reclaim, trim_look);
}
