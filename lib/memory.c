/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The memory of one bus: see memory.h. */
#include "pool.h"
#include "sys.h"

#include <string.h>
#include <sys/mman.h>

/* No machine hands out addresses above this unless asked; queue.c packs an index above it. */
#define ADDRESS_LIMIT ((uintptr_t)1 << 48)

/* ------------------------------------------------------------------- the default allocator */

static void *map_pages(void *context, size_t size, size_t alignment)
{
    (void)context;
    size_t span = size + (alignment > 4096 ? alignment : 0);
    char *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
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

/* A multiple of every alignment asked for below a page, as aligned_alloc wants it. */
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
    atomic_fetch_add_explicit(&memory->bytes, size, memory_order_relaxed);
    return address;
}

void memory_unmap(struct memory *memory, void *address, size_t size)
{
    in_bounds(address, size);
    size = whole_lines(size);
    atomic_fetch_sub_explicit(&memory->bytes, size, memory_order_relaxed);
    memory->allocator.release(memory->allocator.context, address, size);
}

/* ------------------------------------------------------------------------------------- slabs */

static struct slab *slab_new(struct memory *memory, struct pool *pool)
{
    bool large = atomic_load_explicit(&pool->slab_bytes, memory_order_relaxed) >= SLAB_LARGE_FROM;
    size_t size = large ? SLAB_LARGE : SLAB_SMALL;
    struct slab *slab = memory_map(memory, size, large ? SLAB_LARGE : 4096);
    if (!slab)
        return NULL;
    if (large && memory->own_allocator)
        (void)madvise(slab, size, MADV_HUGEPAGE); /* a kernel without them is only slower */
    if (!memory->own_allocator)
        memset((void *)slab, 0, size); /* fresh blocks are zero: see queue.c */
    slab->memory = memory;
    slab->pool = pool;
    slab->size = size;
    slab->capacity = (uint32_t)((size - sizeof *slab) / pool->block_size);
    slab->found = 0;
    slab->hollow = 0;
    atomic_init(&slab->cut, 1); /* the first block is for the caller */
    return slab;
}

void slab_unmap(struct memory *memory, struct slab *slab)
{
    /* Hollow blocks do not count as held. */
    atomic_fetch_add_explicit(&memory->bytes, slab->hollow * slab->pool->block_size,
                              memory_order_relaxed);
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
    struct slab *top = atomic_load_explicit(&memory->slabs, memory_order_relaxed);
    do
        slab->next = top;
    /* Release: pairs with the acquire loads in slab_unlist and memory_finish. */
    while (!atomic_compare_exchange_weak_explicit(&memory->slabs, &top, slab, memory_order_release,
                                                  memory_order_relaxed));
}

static struct block *cut_block(struct slab *slab)
{
    /* Looked at first, so that the count can overshoot only by the number of threads. */
    if (atomic_load_explicit(&slab->cut, memory_order_relaxed) >= slab->capacity)
        return NULL;
    uint32_t index = atomic_fetch_add_explicit(&slab->cut, 1, memory_order_relaxed);
    return index < slab->capacity ? block_new(slab, index) : NULL;
}

/* -------------------------------------------------------------------------------- take, give */

static struct block *pop_free(struct pool *pool)
{
    /* Acquire, here and below: pairs with the release in push_free. */
    struct block *top = atomic_load_explicit(&pool->free, memory_order_acquire);
    while (top) {
        /* The top may be taken and reused meanwhile; then the CAS fails (no ABA: see memory.h). */
        struct block *next = atomic_load_explicit(&top->chain, memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&pool->free, &top, next, memory_order_acquire,
                                                  memory_order_acquire)) {
            size_t left = atomic_fetch_sub_explicit(&pool->free_count, 1, memory_order_relaxed) - 1;
            if (left < atomic_load_explicit(&pool->lowest_free, memory_order_relaxed))
                atomic_store_explicit(&pool->lowest_free, left, memory_order_relaxed);
            in_bounds(top + 1, pool->block_size - sizeof *top);
            prefetch_for_write(next); /* for the next taker */
            return top;
        }
    }
    return NULL;
}

void pool_push(struct pool *pool, struct block *first, struct block *last, size_t count)
{
    /* Counted first: free_count never falls below zero. */
    atomic_fetch_add_explicit(&pool->free_count, count, memory_order_relaxed);
    struct block *top = atomic_load_explicit(&pool->free, memory_order_relaxed);
    do
        atomic_store_explicit(&last->chain, top, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&pool->free, &top, first, memory_order_release,
                                                  memory_order_relaxed));
}

void *memory_take(struct memory *memory, unsigned class)
{
    struct pool *pool = &memory->pools[class];
    struct block *block = pop_free(pool);
    if (likely(block))
        return block;
    if (limbo_poll(memory) && (block = pop_free(pool)))
        return block;
    for (;;) {
        /* Acquire: pairs with the release of the CAS below; the slab's fields are set. */
        struct slab *slab = atomic_load_explicit(&pool->current, memory_order_acquire);
        if (slab && (block = cut_block(slab)))
            return block;
        struct slab *fresh = slab_new(memory, pool);
        if (!fresh) {
            retire_rest(memory); /* what does not make up a batch may be all that there is */
            return pop_free(pool);
        }
        if (atomic_compare_exchange_strong_explicit(&pool->current, &slab, fresh,
                                                    memory_order_release, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&pool->slab_bytes, fresh->size, memory_order_relaxed);
            block = block_new(fresh, 0);
            slab_list(memory, fresh);
            return block;
        }
        memory_unmap(memory, fresh, fresh->size); /* another was faster; nobody has seen this one */
    }
}

void memory_give(struct memory *memory, unsigned class, void *block)
{
    struct pool *pool = &memory->pools[class];
    out_of_bounds((struct block *)block + 1, pool->block_size - sizeof(struct block));
    pool_push(pool, block, block, 1);
    trim_maybe(memory);
}

void memory_end(struct memory *memory)
{
    atomic_store_explicit(&memory->ending, true, memory_order_release);
}

/* ------------------------------------------------------------------------------ begin and end */

void memory_init(struct memory *memory, const struct exitbus_allocator *allocator,
                 const size_t *block_sizes, size_t classes)
{
    invariant(classes <= MEMORY_CLASSES_MAX);
    *memory = (struct memory){.own_allocator = !allocator};
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

void memory_finish(struct memory *memory)
{
    struct slab *slab = atomic_load_explicit(&memory->slabs, memory_order_acquire);
    while (slab) {
        struct slab *next = slab->next;
        slab_unmap(memory, slab);
        slab = next;
    }
    atomic_store_explicit(&memory->slabs, NULL, memory_order_relaxed);
}
