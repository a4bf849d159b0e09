/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The memory of one bus: a lock-free pool of equal blocks for each of a few sizes, cut from slabs.
 * memory_alloc() never calls malloc: it pops a free block, or cuts one from the current slab, or
 * asks the allocator (by default mmap, which takes no lock in user space) for a slab (G4).
 *
 * A block that anybody else may have seen comes back only after a grace period (memory_retire, or
 * memory_free in a reclaim callback). That makes reuse safe for readers, and it is also what keeps
 * the lock-free stack of free blocks free of the ABA problem: whoever has read its top is inside a
 * read-side section, so that block can't have left and come back.
 *
 * Slabs that have not been needed for some time go back to the allocator (G7). Uses: platform,
 * reclaim.
 */
#ifndef EXITBUS_MEMORY_H
#define EXITBUS_MEMORY_H

#include "base/atomic.h"
#include "memory/reclaim.h"

#include <exitbus/exitbus.h>

#define MEMORY_CLASSES_MAX 6

/*
 * Retired blocks that share a grace period: it costs a membarrier, which on a virtual machine
 * interrupts the other processors for some microseconds, and a look at each thread.
 */
#define MEMORY_RETIRE_BATCH 32

/* Begins every block; at offset 0. */
struct block {
    struct slab *slab;             /* written when the block is cut, then constant */
    _Atomic(struct block *) chain; /* next in a free list or in a retired batch */
    struct reclaim_head reclaim;
};

struct pool {
    _Alignas(CACHE_LINE) _Atomic(struct block *) free;
    _Atomic(struct slab *) current; /* new blocks are cut here */
    _Atomic size_t free_count;
    _Atomic size_t lowest_free; /* of free_count, since the last look of the trim */
    _Atomic size_t slab_bytes;
    size_t block_size;
    /* Written by those who retire: */
    _Alignas(CACHE_LINE) _Atomic(struct block *) retired; /* waiting to make up a batch */
    _Atomic size_t retired_count;
};

/* Blocks that are linked by `chain`. */
struct chain {
    struct block *first, *last;
    size_t count;
};

/* Where retired blocks wait for a polled grace period: see retire.c. */
struct limbo {
    _Alignas(CACHE_LINE) _Atomic uint32_t busy; /* somebody is at it; guards what has no atomic */
    _Atomic uint32_t occupied;                  /* there is something to come back */
    _Atomic uint32_t poll_scheduled;            /* a callback is on its way */
    bool grace_begun;                           /* a grace period for `waiting` has begun */
    struct chain open[MEMORY_CLASSES_MAX];
    struct chain waiting[MEMORY_CLASSES_MAX];
    struct epoch_grace grace;
    struct reclaim_head reclaim;
};

struct memory {
    struct exitbus_allocator allocator;
    bool own_allocator;                                /* the default one: may use huge pages */
    _Alignas(CACHE_LINE) _Atomic(struct slab *) slabs; /* all of them */
    _Atomic size_t bytes;                              /* held from the allocator */
    _Atomic size_t callbacks;                          /* reclaim callbacks on their way */
    /* Words, since not every machine exchanges single bytes. */
    _Atomic uint32_t trimming;   /* one trim at a time */
    _Atomic uint32_t trim_again; /* something has come back since the last look */
    _Atomic bool trim_stopped;   /* no new looks */
    unsigned trim_looks;         /* owned by the trim in progress, like those below */
    unsigned trim_idle_looks;    /* since anything came back, or went */
    size_t trim_next;            /* the pool to look at next: each gets its turn */
    size_t trim_keep;            /* bytes that are not given back */
    struct pool *trim_pool;
    struct block *trim_blocks; /* taken out of the free list */
    struct slab *trim_slabs;   /* on their way back to the allocator */
    struct reclaim_head trim_reclaim;
    struct pool pools[MEMORY_CLASSES_MAX];
    struct limbo limbo;
};

/* Block sizes are multiples of CACHE_LINE. Takes no memory yet. */
void memory_init(struct memory *memory, const struct exitbus_allocator *allocator,
                 const size_t *block_sizes, size_t classes);

/* Begin no further callbacks of the memory's own accord. */
void memory_stop_trimming(struct memory *memory);

/* Give everything back. Nobody may be using it and no callback may be on its way. */
void memory_destroy(struct memory *memory);

/*
 * A block of a class, aligned to CACHE_LINE, holding leftovers; NULL if there is no memory. Only
 * inside a read-side section. Lock-free.
 */
void *memory_alloc(struct memory *memory, unsigned class);

/* What memory_alloc is likely to give next: an address to fetch into the cache, nothing more. */
static inline const void *memory_peek(const struct memory *memory, unsigned class)
{
    return load_relaxed(&memory->pools[class].free);
}

/* Make a block free. Only if nobody else can have seen it, or after a grace period. Lock-free. */
void memory_free(struct memory *memory, unsigned class, void *block);

/*
 * Make a block of `class` free after a grace period, soon. Fewer than a batch may stay behind,
 * until there is one, or memory is short, or a surplus is given back. Inside a read-side section.
 * Lock-free.
 */
void memory_retire(struct memory *memory, unsigned class, void *block);

/* Like reclaim_defer(), but memory_destroy() can be told to wait: see memory_callbacks(). */
void memory_defer(struct memory *memory, struct reclaim_head *head,
                  void (*callback)(struct rcu_head *));
/* Ends a callback of memory_defer(); the memory may be gone when this returns. */
void memory_callback_end(struct memory *memory);
static inline size_t memory_callbacks(struct memory *memory)
{
    return load_seq_cst(&memory->callbacks);
}

/* Wait until there are none. Blocks for grace periods; not inside a read-side section. */
void memory_wait_callbacks(struct memory *memory);

/* Raw memory from the allocator, counted in `bytes`; zeroed if it is the default one. */
void *memory_map(struct memory *memory, size_t size, size_t alignment);
void memory_unmap(struct memory *memory, void *address, size_t size);

#endif
