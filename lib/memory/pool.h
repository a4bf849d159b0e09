/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the three sources of a bus's memory share: memory.c (slabs, alloc and free), retire.c (grace
 * periods), trim.c (giving back). No other file includes this.
 */
#ifndef EXITBUS_POOL_H
#define EXITBUS_POOL_H

#include "memory/memory.h"

#define SLAB_SMALL ((size_t)64 << 10)
/*
 * A pool of this size gets larger slabs, which take fewer system calls; if they can shrink, because
 * an empty queue may hold on to one block of each.
 */
#define SLAB_LARGE ((size_t)2 << 20)
#define SLAB_LARGE_FROM ((size_t)16 << 20)

/* A pool of this size, with blocks of this size, takes so many bytes from the kernel at a time. */
#define POPULATE_FROM ((size_t)1 << 20)
#define POPULATE_BLOCK ((size_t)4 << 10)
#define POPULATE_BYTES SLAB_SMALL

/* Values of slab->free_seen once the trim in progress has decided: */
#define SLAB_UNMAP UINT32_MAX       /* the whole slab goes back */
#define SLAB_PURGE (UINT32_MAX - 1) /* the pages of its free blocks go back */

struct slab {
    struct slab *next; /* in memory->slabs, later in trim_slabs */
    struct memory *memory;
    struct pool *pool;
    size_t size;
    uint32_t capacity;       /* blocks that fit */
    _Atomic uint32_t cut;    /* blocks cut so far; may overshoot */
    uint32_t free_seen;      /* free blocks counted by the trim in progress, or a value above */
    uint32_t purged;         /* blocks whose pages have gone back; they are free and in no list */
    struct slab *purge_next; /* written by the trim in progress */
    _Alignas(CACHE_LINE) char blocks[];
};

static inline struct block *slab_block(struct slab *slab, uint32_t index)
{
    return (struct block *)(void *)(slab->blocks + index * slab->pool->block_size);
}

/* Tell AddressSanitizer of free blocks: all of a free block but its head is out of bounds. */
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

/*
 * Returns whether the kernel takes single pages of a slab back. It does not where the host has
 * locked its memory (mlockall), or where a filter forbids it. Context: of the default allocator.
 */
bool slab_can_shrink(void *slab, size_t size);

/* Give a slab back to the allocator. Context: no thread uses the slab. */
void slab_unmap(struct memory *memory, struct slab *slab);

/* Take a block off a list. Returns NULL if it is empty. Context: in a section, or on the worker. */
struct block *list_pop(_Atomic(struct block *) *list);

/* Put a chain of blocks on a list. Context: lock-free. */
void list_push(_Atomic(struct block *) *list, struct block *first, struct block *last);

/* Put a chain of free blocks into their pool. Context: lock-free. */
void pool_push(struct pool *pool, struct block *first, struct block *last, size_t count);

/*
 * Start a trim, if a pool has a surplus and no trim is in progress. Called after blocks became
 * free.
 */
void trim_maybe(struct memory *memory);

/* Send retired blocks that do not make up a batch to a grace period. */
void retire_rest(struct memory *memory);

/*
 * Free the blocks in limbo whose grace period is over. Begins no grace period, because publishers
 * call this and should not pay for a membarrier. Returns whether blocks became free.
 */
bool limbo_poll(struct memory *memory);

#endif
