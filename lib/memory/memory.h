/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The memory of one bus: a lock-free pool of equal blocks for each of a few sizes.
 *
 * How it works:
 * - Blocks are cut from slabs. memory_alloc() pops a free block, or cuts one from the current slab,
 *   or asks the allocator for a slab. The default allocator is mmap. It takes no lock in user space
 *   and never calls malloc (G4).
 * - A block that another thread may have seen becomes free only after a grace period: by
 *   memory_retire(), or by memory_free() in a reclaim callback. An object is a block with a
 *   destructor, which the host may find in its own sections: memory_retire_object().
 * - Slabs that have not been needed for some time go back to the allocator (G7): trim.c.
 *
 * Why it is right:
 * 1. A reader inside a section never sees its block reused, because of the grace period.
 * 2. The stack of free blocks has no ABA problem. The thread that has read its top is inside a
 *    section, so that block can't have left and come back.
 *
 * docs/design.md, "Memory", shows the states of a block and of a slab. It relies on: reclaim.h
 * (sections and callbacks), epoch.h (polled grace periods).
 */
#ifndef EXITBUS_MEMORY_H
#define EXITBUS_MEMORY_H

#include "base/atomic.h"
#include "memory/reclaim.h"

#include <exitbus/exitbus.h>

#define MEMORY_CLASSES_MAX 12

/*
 * Retired blocks that share a grace period. One costs a membarrier, which on a virtual machine
 * interrupts the other processors, and a load for each thread (docs/design.md, "Memory").
 */
#define MEMORY_RETIRE_BATCH 32

/* The head of every block, at offset 0. */
struct block {
    struct slab *slab;             /* written when cut, and by a purge */
    _Atomic(struct block *) chain; /* next in a free list or in a retired batch */
    struct reclaim_head reclaim;
};

struct pool {
    _Alignas(CACHE_LINE) _Atomic(struct block *) free;
    _Atomic(struct slab *) current; /* new blocks are cut from this slab */
    _Atomic size_t free_count;
    _Atomic size_t lowest_free; /* least free_count since the trim's last look */
    _Atomic size_t slab_bytes;
    size_t block_size;
    /* Written by threads that retire blocks, which wait here until they make up a batch. */
    _Alignas(CACHE_LINE) _Atomic(struct block *) retired;
    _Atomic size_t retired_count;
};

/* Blocks that are linked by `chain`. */
struct chain {
    struct block *first, *last;
    size_t count;
};

/* Retired blocks that wait for a polled grace period: see retire.c. */
struct limbo {
    /* 1 while a thread owns limbo; guards the plain fields. */
    _Alignas(CACHE_LINE) _Atomic uint32_t busy;
    _Atomic uint32_t occupied;       /* 1 while blocks are in limbo; written by the owner */
    _Atomic uint32_t poll_scheduled; /* 1 while a callback is scheduled */
    bool grace_begun;                /* `waiting` has a grace period; written by the owner */
    struct chain open[MEMORY_CLASSES_MAX];
    struct chain waiting[MEMORY_CLASSES_MAX];
    struct epoch_grace grace;
    struct reclaim_head reclaim;
};

/* Retired objects: see retire.c. */
struct objects {
    /* Written by threads that retire objects, which wait here until they make up a batch. */
    _Alignas(CACHE_LINE) _Atomic(struct block *) retired;
    _Atomic size_t retired_count;
    _Atomic uint32_t flush_scheduled; /* 1 while a callback is scheduled that closes a batch */
    /* Behind their grace period; written by the worker, and by threads that destroy some. */
    _Alignas(CACHE_LINE) _Atomic(struct block *) due;
    bool drain_scheduled; /* written by the worker */
    struct reclaim_head flush, drain;
};

struct memory {
    struct exitbus_allocator allocator;
    void (*destroy_object)(struct block *); /* the user's; constant before the first object */
    bool own_allocator;                     /* the default one: it zeroes; constant */
    _Atomic bool small_slabs;               /* large ones could not shrink; never cleared */
    _Alignas(CACHE_LINE) _Atomic(struct slab *) slabs; /* every slab but those in trim_slabs */
    _Atomic size_t bytes;                              /* bytes held from the allocator */
    _Atomic size_t pending;   /* bytes that wait for a grace period, in batches: see retire.c */
    _Atomic size_t callbacks; /* reclaim callbacks that have not ended */
    /* Words, because not every machine exchanges single bytes. */
    _Atomic uint32_t trimming;   /* 1 while a trim owns the fields below */
    _Atomic uint32_t trim_again; /* blocks have become free since the last look */
    _Atomic bool trim_stopped;   /* no new looks; set once */
    unsigned trim_looks;         /* looks so far; written by the trim in progress, like all below */
    unsigned trim_idle_looks;    /* looks since blocks became free, or slabs went */
    size_t trim_next;            /* the pool to look at next: each gets its turn */
    size_t trim_keep;            /* free bytes that stay */
    struct pool *trim_pool;
    struct block *trim_blocks; /* taken out of the free list */
    struct slab *trim_slabs;   /* on their way back to the allocator */
    struct reclaim_head trim_reclaim;
    struct pool pools[MEMORY_CLASSES_MAX];
    struct limbo limbo;
    struct objects objects;
};

/* Initialise. Block sizes are multiples of CACHE_LINE. Allocates nothing yet. */
void memory_init(struct memory *memory, const struct exitbus_allocator *allocator,
                 const size_t *block_sizes, size_t classes);

/* Begin no further looks of the trim. Then only retired blocks still cause callbacks. */
void memory_stop_trimming(struct memory *memory);

/* Give all slabs back. Context: no thread uses the memory, and no callback is scheduled. */
void memory_destroy(struct memory *memory);

/*
 * Allocate a block of a class, aligned to CACHE_LINE; its contents are leftovers. Returns NULL
 * without memory. Context: inside a section; lock-free.
 */
void *memory_alloc(struct memory *memory, unsigned class);

/*
 * Returns the block that memory_alloc() will probably return next. Only its address may be used, to
 * fetch it into the cache.
 */
static inline const void *memory_peek(const struct memory *memory, unsigned class)
{
    return load_relaxed(&memory->pools[class].free);
}

/*
 * Make a block free. Context: no other thread has seen the block, or a grace period has passed;
 * lock-free.
 */
void memory_free(struct memory *memory, unsigned class, void *block);

/*
 * Make a block of `class` free soon, after a grace period. Fewer than a batch may stay behind:
 * until the batch is full, memory is short, or a surplus is given back. Context: inside a section,
 * or in a callback; lock-free.
 */
void memory_retire(struct memory *memory, unsigned class, void *block);

/*
 * Destroy an object after a grace period that covers the host's sections, too: call
 * destroy_object(), which frees the block and calls memory_callback_end(). The worker does that, or
 * a thread that retires another object; so it has to be short. This call destroys up to two others.
 * Context: inside a section, in which the memory stays; lock-free.
 */
void memory_retire_object(struct memory *memory, struct block *block);

/* Returns the memory that a block was allocated from. */
struct memory *memory_of(const struct block *block);

/* Like reclaim_defer(), but the callback is counted: see memory_callbacks(). */
void memory_defer(struct memory *memory, struct reclaim_head *head,
                  void (*callback)(struct rcu_head *));
/* End a callback of memory_defer(). The memory may be gone when this returns. */
void memory_callback_end(struct memory *memory);
static inline size_t memory_callbacks(struct memory *memory)
{
    return load_seq_cst(&memory->callbacks);
}

/* Wait until no callback is left. Context: blocks for grace periods; not inside a section. */
void memory_wait_callbacks(struct memory *memory);

/*
 * Map and unmap raw memory of the allocator, counted in `bytes`. The default allocator's is zeroed.
 */
void *memory_map(struct memory *memory, size_t size, size_t alignment);
void memory_unmap(struct memory *memory, void *address, size_t size);

#endif
