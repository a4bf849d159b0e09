/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the three files that make up a bus's memory share: memory.c (slabs, take and give), retire.c
 * (grace periods), trim.c (giving back). Nobody else includes this. Uses: memory.
 */
#ifndef EXITBUS_POOL_H
#define EXITBUS_POOL_H

#include "memory/memory.h"

#define SLAB_SMALL ((size_t)64 << 10)
/* Where a pool is this large, slabs are huge pages: an append to fresh memory is cheaper there. */
#define SLAB_LARGE ((size_t)2 << 20)
#define SLAB_LARGE_FROM ((size_t)16 << 20)

/* slab->free_seen, once the trim in progress has decided: */
#define SLAB_UNMAP UINT32_MAX       /* all of it goes back */
#define SLAB_PURGE (UINT32_MAX - 1) /* its free pages do */

struct slab {
    struct slab *next; /* in memory->slabs; later in trim_slabs */
    struct memory *memory;
    struct pool *pool;
    size_t size;
    uint32_t capacity;       /* blocks that fit */
    _Atomic uint32_t cut;    /* blocks cut so far; may overshoot */
    uint32_t free_seen;      /* free blocks counted by the trim in progress, or as above */
    uint32_t purged;         /* blocks whose pages have gone back: they are free, and in no list */
    struct slab *purge_next; /* in the trim in progress */
    _Alignas(CACHE_LINE) char blocks[];
};

static inline struct block *slab_block(struct slab *slab, uint32_t index)
{
    return (struct block *)(void *)(slab->blocks + index * slab->pool->block_size);
}

/* AddressSanitizer is told of blocks that are free: all but what links them is out of bounds. */
#ifdef __SANITIZE_ADDRESS__
#define POISONS 1
void __asan_poison_memory_region(const volatile void *address, size_t size);
void __asan_unpoison_memory_region(const volatile void *address, size_t size);
#define out_of_bounds(address, size) __asan_poison_memory_region(address, size)
#define in_bounds(address, size) __asan_unpoison_memory_region(address, size)
#else
#define POISONS 0
#define out_of_bounds(address, size) ((void)(address), (void)(size))
#define in_bounds(address, size) ((void)(address), (void)(size))
#endif

/* Give a slab back to the allocator. Nobody may be using it. */
void slab_unmap(struct memory *memory, struct slab *slab);

/* Put a chain of free blocks into their pool. */
void pool_push(struct pool *pool, struct block *first, struct block *last, size_t count);

/* Something has come back to a pool. */
void trim_maybe(struct memory *memory);

/* Send what was retired, and does not make up a batch yet, to a grace period. */
void retire_rest(struct memory *memory);

/* Look whether retired blocks have come through their grace period. True if some have. */
bool limbo_poll(struct memory *memory);

#endif
