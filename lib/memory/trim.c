/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Give memory that a pool has not needed for some time back to the allocator (G7).
 *
 * How it works:
 * - Looks follow each other, a grace period apart, while a pool has a surplus of free blocks. They
 *   are callbacks on the worker, so no thread waits for them. Every few looks the trim gives back
 *   what has been free throughout.
 * - A trim has three stages with a grace period between them:
 *   1. Take the whole free list out. A popping thread may still read its old top.
 *   2. Sort the blocks by slab, and put back what stays. Take what goes out of memory->slabs and
 *      out of pool->current. A thread may still be about to cut from it.
 *   3. Unmap the slabs that go.
 * - A large slab in use is purged, where it can shrink: its free blocks leave the pool for good,
 *   and the pages that hold nothing else go back to the kernel. An empty queue holds one segment,
 *   so without this a queue could keep all of it. The slab follows when its last block is free.
 *
 * Why it is right:
 * 1. One trim runs at a time (`trimming`), and only a trim removes slabs.
 * 2. A slab goes only if all its blocks are in this trim's hands, and no thread can cut a new one.
 * 3. At rest it comes to its end by itself: looks end without a surplus, and also after TRIM_LOOKS
 *    looks in which nothing came back.
 *
 * docs/design.md, "Memory", shows the states of a slab. It relies on: pool.h, memory_defer().
 */
#include "memory/pool.h"

#include <sys/mman.h>
#include <unistd.h>

/* Free bytes that a pool keeps when it trims, so that the next burst starts warm. */
#define TRIM_KEEP ((size_t)128 << 10)
#define TRIM_FROM (2 * TRIM_KEEP)
/* Looks (grace periods of about 10 ms) over which a block must be free to count as not needed. */
#define TRIM_EVERY_LOOKS 8
/* A large slab is purged if at most one of this many blocks is in use. */
#define TRIM_USED_ONE_IN 16
/* Looks without a block coming back, after which looks end: at rest nothing runs. */
#define TRIM_LOOKS 32

static void trim_go_on(struct memory *memory);

/*
 * Take a slab out of memory->slabs. Only the trim in progress removes slabs, so no other thread
 * writes to any `next` but the top's.
 */
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

/*
 * Take a slab out of the pool and the list. Every block of it is in trim_blocks, so no thread uses
 * it.
 */
static void trim_remove_slab(struct memory *memory, struct slab *slab)
{
    struct pool *pool = memory->trim_pool;
    struct slab *current = slab; /* fully cut; other threads may still load it */
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
 * Decide on a slab. Returns SLAB_UNMAP (and takes it out of the pool), SLAB_PURGE, or 0: its free
 * blocks stay in the pool. *kept counts the bytes that stay.
 */
static uint32_t trim_decide(struct memory *memory, struct slab *slab, size_t *kept)
{
    struct pool *pool = memory->trim_pool;
    uint32_t cut = slab_cut(slab), in_use = cut - slab->free_seen - slab->purged;
    if (in_use > 0 && (slab->size == SLAB_SMALL || in_use > slab->capacity / TRIM_USED_ONE_IN ||
                       !slab_can_shrink(slab, slab->size)))
        return 0;
    size_t free = in_use > 0 ? slab->free_seen * pool->block_size : slab->size;
    if (*kept + free <= memory->trim_keep) {
        *kept += free;
        return 0;
    }
    if (cut < slab->capacity) {
        probe(PROBE_TRIM_DECIDING);
        struct slab *current = slab;
        /* Acquire; pairs with the CAS in memory_alloc(), of a thread that found the slab fully
         * cut. */
        if (cas_acquire_else_acquire(&pool->current, &current, NULL))
            return 0; /* a thread may be about to cut from it: next time */
        if (slab_cut(slab) != cut)
            return 0; /* a thread has cut from it, and another slab has replaced it */
    }
    if (in_use > 0)
        return SLAB_PURGE;
    trim_remove_slab(memory, slab);
    return SLAB_UNMAP;
}

/*
 * Give back the whole pages in blocks `from` to `to` of a slab; the last block ends with the slab.
 */
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

/*
 * The slab that a block names while its slab is being purged. Not NULL, which a block names between
 * being cut and being allocated.
 */
static struct slab purged_mark;

/* Give back the pages of the blocks just marked, and of those that were never cut. */
static void slab_purge(struct slab *slab)
{
    (void)madvise(slab, slab->size, MADV_NOHUGEPAGE); /* or they might come back as one huge page */
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
        if (slab->free_seen > 0 &&
            slab->free_seen < SLAB_PURGE) { /* the slab's first block in the list */
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

/*
 * Take the free list out, if this pool has kept more than it needed since the last look. It must be
 * more than half of the list, because threads that want a block meanwhile make slabs. Returns
 * whether it has.
 */
static bool trim_begin(struct memory *memory, struct pool *pool)
{
    size_t lowest = load_relaxed(&pool->lowest_free);
    size_t free = load_relaxed(&pool->free_count);
    store_relaxed(&pool->lowest_free, free);
    if (lowest * pool->block_size <= TRIM_FROM || lowest < free / 2)
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

/* Look once; a callback. It schedules the next look, or the stages of a trim. */
static void trim_look(struct rcu_head *rcu)
{
    struct memory *memory = container_of(reclaim_callback_begin(rcu), struct memory, trim_reclaim);
    bool begun = false;
    memory->trim_idle_looks++;
    if (++memory->trim_looks % TRIM_EVERY_LOOKS == 0) {
        retire_rest(memory); /* a batch that does not fill up would hold its slabs */
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
        /* Release; pairs with trim_maybe(). Passes the trim_ fields to the next trim. */
        store_release(&memory->trimming, 0);
    }
}

void trim_maybe(struct memory *memory)
{
    if (!has_surplus(memory))
        return;
    if (!load_relaxed(&memory->trim_again))
        store_relaxed(&memory->trim_again, 1);
    /* Acquire; pairs with trim_go_on(), for the trim_ fields. */
    if (!load_relaxed(&memory->trimming) && !exchange_acquire(&memory->trimming, 1))
        memory_defer(memory, &memory->trim_reclaim, trim_look);
}
