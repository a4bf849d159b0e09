/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The memory of one bus: see memory.h. */
#include "base/sys.h"
#include "memory/pool.h"

#include <string.h>
#include <sys/mman.h>

/* No machine hands out addresses above this unless asked. cell.h packs an index above it. */
#define ADDRESS_LIMIT ((uintptr_t)1 << 48)

/* ------------------------------------------------------------------- the default allocator */

static void *map_pages(void *context, size_t size, size_t alignment)
{
    (void)context;
    size_t span = size + (alignment > 4096 ? alignment : 0);
    char *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    /* A forked child has no use for it, and a fork costs less without its pages: fork_guard.h. */
    (void)madvise(base, span, MADV_WIPEONFORK);
    if (span == size)
        return base;
    char *aligned = (char *)(((uintptr_t)base + alignment - 1) & ~(uintptr_t)(alignment - 1));
    if (aligned > base)
        munmap(base, (size_t)(aligned - base));
    if (aligned + size < base + span)
        munmap(aligned + size, (size_t)(base + span - (aligned + size)));
    return aligned;
}

static void unmap_pages(void *context, void *address, size_t size)
{
    (void)context;
    munmap(address, size);
}

/*
 * Round up to a multiple of CACHE_LINE. aligned_alloc() wants a multiple of the alignment, and
 * below a page that is CACHE_LINE.
 */
static size_t whole_lines(size_t size)
{
    return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

void *memory_map(struct memory *memory, size_t size, size_t alignment)
{
    size = whole_lines(size);
    void *address = memory->allocator.allocate(memory->allocator.context, size, alignment);
    if (!address)
        return NULL;
    if ((uintptr_t)address >= ADDRESS_LIMIT - size) {
        memory->allocator.release(memory->allocator.context, address, size);
        return NULL;
    }
    fetch_add_relaxed(&memory->bytes, size);
    return address;
}

void memory_unmap(struct memory *memory, void *address, size_t size)
{
    in_bounds(address, size);
    size = whole_lines(size);
    fetch_sub_relaxed(&memory->bytes, size);
    memory->allocator.release(memory->allocator.context, address, size);
}

/* ------------------------------------------------------------------------------------- slabs */

bool slab_can_shrink(void *slab, size_t size)
{
    return madvise(slab, size, MADV_COLD) == 0;
}

#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif

/*
 * Fetch pages from the kernel before they are used, many at a time. An append reads a cell before
 * it writes it, which is two faults for each page otherwise. A kernel without this is only slower.
 */
static void populate(void *begin, size_t size)
{
    (void)madvise(begin, size, MADV_POPULATE_WRITE);
}

/* Are fresh blocks of this pool about to be used whole, and soon? */
static bool is_populated(struct memory *memory, struct pool *pool)
{
    return memory->own_allocator && pool->block_size >= POPULATE_BLOCK &&
           load_relaxed(&pool->slab_bytes) >= POPULATE_FROM;
}

/* Populate the next pages of a large slab, if this block is the one that reaches into them. */
static void populate_behind(struct slab *slab, uint32_t index)
{
    uintptr_t begin = (uintptr_t)slab_block(slab, index), end = begin + slab->pool->block_size;
    uintptr_t next = end / POPULATE_BYTES * POPULATE_BYTES;
    if (slab->size == SLAB_LARGE && next > begin && next < (uintptr_t)slab + SLAB_LARGE &&
        is_populated(slab->memory, slab->pool))
        populate((void *)next, POPULATE_BYTES);
}

/* Returns NULL also if it could not shrink. */
static struct slab *slab_map_large(struct memory *memory)
{
    struct slab *slab = memory_map(memory, SLAB_LARGE, SLAB_LARGE);
    if (!slab)
        return NULL;
    if (!slab_can_shrink(slab, SLAB_LARGE)) {
        memory_unmap(memory, slab, SLAB_LARGE);
        store_relaxed(&memory->small_slabs, true);
        return NULL;
    }
    return slab;
}

static struct slab *slab_new(struct memory *memory, struct pool *pool)
{
    size_t size = SLAB_LARGE;
    struct slab *slab = NULL;
    if (load_relaxed(&pool->slab_bytes) >= SLAB_LARGE_FROM && !load_relaxed(&memory->small_slabs))
        slab = slab_map_large(memory);
    if (!slab) {
        size = SLAB_SMALL;
        slab = memory_map(memory, size, 4096);
    }
    if (!slab)
        return NULL;
    if (!memory->own_allocator)
        memset((void *)slab, 0, size); /* fresh blocks are zero: see append.c */
    slab->memory = memory;
    slab->pool = pool;
    slab->size = size;
    slab->capacity = (uint32_t)((size - sizeof *slab) / pool->block_size);
    slab->free_seen = 0;
    slab->purged = 0;
    atomic_init(&slab->cut, 1); /* the first block is for the caller */
    return slab;
}

void slab_unmap(struct memory *memory, struct slab *slab)
{
    /* The blocks that were purged are not counted in `bytes`. */
    fetch_add_relaxed(&memory->bytes, slab->purged * slab->pool->block_size);
    memory_unmap(memory, slab, slab->size);
}

static struct block *block_new(struct slab *slab, uint32_t index)
{
    struct block *block = slab_block(slab, index);
    block->slab = slab;
    return block;
}

static void slab_list(struct memory *memory, struct slab *slab)
{
    struct slab *top = load_relaxed(&memory->slabs);
    do
        slab->next = top;
    /* Release; pairs with slab_unlist() and memory_destroy(). */
    while (!cas_weak_release(&memory->slabs, &top, slab));
}

static struct block *cut_block(struct slab *slab)
{
    /* A load first, so that the count overshoots by at most the number of threads. */
    if (load_relaxed(&slab->cut) >= slab->capacity)
        return NULL;
    uint32_t index = fetch_add_relaxed(&slab->cut, 1);
    if (index >= slab->capacity)
        return NULL;
    populate_behind(slab, index);
    return block_new(slab, index);
}

/* -------------------------------------------------------------------------------- take, give */

struct block *list_pop(_Atomic(struct block *) *list)
{
    /* Acquire, here and in the CAS; pairs with list_push(). */
    struct block *top = load_acquire(list);
    while (top) {
        /* Another thread may pop and reuse the top meanwhile. Then the CAS fails (no ABA:
         * memory.h). */
        struct block *next = load_relaxed(&top->chain);
        if (cas_weak_acquire_else_acquire(list, &top, next)) {
            prefetch_for_write(next); /* for the next pop */
            return top;
        }
    }
    return NULL;
}

void list_push(_Atomic(struct block *) *list, struct block *first, struct block *last)
{
    struct block *top = load_relaxed(list);
    do
        store_relaxed(&last->chain, top);
    while (!cas_weak_release(list, &top, first));
}

static struct block *pop_free(struct pool *pool)
{
    struct block *block = list_pop(&pool->free);
    if (!block)
        return NULL;
    size_t left = fetch_sub_relaxed(&pool->free_count, 1) - 1;
    if (left < load_relaxed(&pool->lowest_free))
        store_relaxed(&pool->lowest_free, left);
    in_bounds(block + 1, pool->block_size - sizeof *block);
    return block;
}

void pool_push(struct pool *pool, struct block *first, struct block *last, size_t count)
{
    /* Counted first, so that free_count never falls below zero. */
    fetch_add_relaxed(&pool->free_count, count);
    list_push(&pool->free, first, last);
}

void *memory_alloc(struct memory *memory, unsigned class)
{
    struct pool *pool = &memory->pools[class];
    struct block *block = pop_free(pool);
    if (likely(block))
        return block;
    if (limbo_poll(memory) && (block = pop_free(pool)))
        return block;
    for (;;) {
        /* Acquire; pairs with the CAS below. The slab's fields are set. */
        struct slab *slab = load_acquire(&pool->current);
        if (slab && (block = cut_block(slab)))
            return block;
        struct slab *fresh = slab_new(memory, pool);
        if (!fresh) {
            retire_rest(memory); /* blocks short of a batch may be all that is left */
            return pop_free(pool);
        }
        if (cas_release(&pool->current, &slab, fresh)) {
            fetch_add_relaxed(&pool->slab_bytes, fresh->size);
            if (is_populated(memory, pool))
                populate(fresh, POPULATE_BYTES);
            block = block_new(fresh, 0);
            slab_list(memory, fresh);
            return block;
        }
        /* Another thread was faster. No other thread has seen this slab. */
        memory_unmap(memory, fresh, fresh->size);
    }
}

void memory_free(struct memory *memory, unsigned class, void *block)
{
    struct pool *pool = &memory->pools[class];
    out_of_bounds((struct block *)block + 1, pool->block_size - sizeof(struct block));
    pool_push(pool, block, block, 1);
    trim_maybe(memory);
}

struct memory *memory_of(const struct block *block)
{
    return block->slab->memory;
}

void memory_stop_trimming(struct memory *memory)
{
    store_release(&memory->trim_stopped, true);
}

/* ------------------------------------------------------------------------------ begin and end */

void memory_init(struct memory *memory, const struct exitbus_allocator *allocator,
                 const size_t *block_sizes, size_t classes)
{
    invariant(classes <= MEMORY_CLASSES_MAX);
    /* The host's memory can't shrink. */
    *memory = (struct memory){.own_allocator = !allocator, .small_slabs = allocator != NULL};
    if (allocator)
        memory->allocator = *allocator;
    else
        memory->allocator =
            (struct exitbus_allocator){.allocate = map_pages, .release = unmap_pages};
    for (size_t i = 0; i < classes; i++) {
        invariant(block_sizes[i] % CACHE_LINE == 0);
        memory->pools[i].block_size = block_sizes[i];
    }
}

void memory_destroy(struct memory *memory)
{
    struct slab *slab = load_acquire(&memory->slabs);
    while (slab) {
        struct slab *next = slab->next;
        slab_unmap(memory, slab);
        slab = next;
    }
    store_relaxed(&memory->slabs, NULL);
}
