/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory of one bus: see memory.h. */
#include "memory.h"
#include "sys.h"

#include <sys/mman.h>

#define SLAB_SMALL ((size_t)64 << 10)
/* Where a pool is this large, slabs are huge pages: an append to fresh memory costs 9 ns, not 32.
 */
#define SLAB_LARGE ((size_t)2 << 20)
#define SLAB_LARGE_FROM ((size_t)16 << 20)
/* call_rcu costs about 114 ns: shared by a batch. */
#define RETIRE_BATCH 16
/* Free memory that a pool keeps when it trims, to start the next burst warm. */
#define TRIM_KEEP ((size_t)128 << 10)
#define TRIM_FROM (2 * TRIM_KEEP)
/* What was free all the time for this many grace periods (of about 10 ms) is not needed. */
#define TRIM_EVERY_LOOKS 8
/* Looks without anything having come back meanwhile, before they end: at rest nothing runs. */
#define TRIM_LOOKS 32
/* No machine hands out addresses above this unless asked; queue.c packs an index above it. */
#define ADDRESS_LIMIT ((uintptr_t)1 << 48)

#define SLAB_GOES UINT32_MAX

struct slab {
    struct slab *next; /* in memory->slabs; later in trim_slabs */
    struct memory *memory;
    struct pool *pool;
    size_t size;
    uint32_t capacity;    /* blocks that fit */
    _Atomic uint32_t cut; /* blocks cut so far; may overshoot */
    uint32_t found;       /* free blocks counted by the trim in progress, or SLAB_GOES */
    _Alignas(CACHE_LINE) char blocks[];
};

/* ------------------------------------------------------------------- the default allocator */

/* AddressSanitizer is told of blocks that are free: all but what links them is out of bounds. */
#ifdef __SANITIZE_ADDRESS__
void __asan_poison_memory_region(const volatile void *address, size_t size);
void __asan_unpoison_memory_region(const volatile void *address, size_t size);
#define out_of_bounds(address, size) __asan_poison_memory_region(address, size)
#define in_bounds(address, size) __asan_unpoison_memory_region(address, size)
#else
#define out_of_bounds(address, size) ((void)(address), (void)(size))
#define in_bounds(address, size) ((void)(address), (void)(size))
#endif

static void *map_pages(void *context, size_t size, size_t alignment)
{
    (void)context;
    size_t span = size + (alignment > 4096 ? alignment : 0);
    char *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    /* A forked child may not use it (G9), so fork need not copy its page tables: for a backlog of
     * 8 MB that was a quarter of the fork of a host with 32 MB of its own. */
    (void)madvise(base, span, MADV_DONTFORK);
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
    slab->memory = memory;
    slab->pool = pool;
    slab->size = size;
    slab->capacity = (uint32_t)((size - sizeof *slab) / pool->block_size);
    slab->found = 0;
    atomic_init(&slab->cut, 1); /* the first block is for the caller */
    return slab;
}

static struct block *slab_block(struct slab *slab, uint32_t index)
{
    struct block *block = (struct block *)(void *)(slab->blocks + index * slab->pool->block_size);
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

static struct block *cut_block(struct slab *slab)
{
    /* Looked at first, so that the count can overshoot only by the number of threads. */
    if (atomic_load_explicit(&slab->cut, memory_order_relaxed) >= slab->capacity)
        return NULL;
    uint32_t index = atomic_fetch_add_explicit(&slab->cut, 1, memory_order_relaxed);
    return index < slab->capacity ? slab_block(slab, index) : NULL;
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
            return top;
        }
    }
    return NULL;
}

static void push_free(struct pool *pool, struct block *first, struct block *last, size_t count)
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
    if (block)
        return block;
    for (;;) {
        /* Acquire: pairs with the release of the CAS below; the slab's fields are set. */
        struct slab *slab = atomic_load_explicit(&pool->current, memory_order_acquire);
        if (slab && (block = cut_block(slab)))
            return block;
        struct slab *fresh = slab_new(memory, pool);
        if (!fresh)
            return pop_free(pool); /* some may have come back meanwhile */
        if (atomic_compare_exchange_strong_explicit(&pool->current, &slab, fresh,
                                                    memory_order_release, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&pool->slab_bytes, fresh->size, memory_order_relaxed);
            block = slab_block(fresh, 0);
            slab_list(memory, fresh);
            return block;
        }
        memory_unmap(memory, fresh, fresh->size); /* another was faster; nobody has seen this one */
    }
}

static void trim_maybe(struct memory *memory);

void memory_give(struct memory *memory, unsigned class, void *block)
{
    struct pool *pool = &memory->pools[class];
    out_of_bounds((struct block *)block + 1, pool->block_size - sizeof(struct block));
    push_free(pool, block, block, 1);
    trim_maybe(memory);
}

static void retired_batch_free(struct rcu_head *rcu)
{
    struct block *block = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct memory *memory = block->slab->memory;
    while (block) {
        struct block *next = atomic_load_explicit(&block->chain, memory_order_relaxed);
        struct pool *pool = block->slab->pool;
        out_of_bounds(block + 1, pool->block_size - sizeof *block);
        push_free(pool, block, block, 1);
        block = next;
    }
    trim_maybe(memory);
    memory_callback_end(memory);
}

/* Send what was retired to a grace period. */
static void retire_batch(struct memory *memory)
{
    struct block *batch = atomic_exchange_explicit(&memory->retired, NULL, memory_order_acquire);
    if (batch)
        memory_later(memory, &batch->reclaim, retired_batch_free);
}

void memory_retire(struct memory *memory, unsigned class, void *address)
{
    struct block *block = address;
    invariant(block->slab->pool == &memory->pools[class]);
    (void)class;
    struct block *top = atomic_load_explicit(&memory->retired, memory_order_relaxed);
    do
        atomic_store_explicit(&block->chain, top, memory_order_relaxed);
    /* Release: pairs with the acquire exchange below, in whichever thread closes the batch. */
    while (!atomic_compare_exchange_weak_explicit(&memory->retired, &top, block,
                                                  memory_order_release, memory_order_relaxed));
    size_t count = atomic_fetch_add_explicit(&memory->retired_count, 1, memory_order_relaxed) + 1;
    if (count % RETIRE_BATCH == 0)
        retire_batch(memory);
}

void memory_later(struct memory *memory, struct reclaim_head *head,
                  void (*callback)(struct rcu_head *))
{
    atomic_fetch_add_explicit(&memory->callbacks, 1, memory_order_relaxed);
    reclaim_later(head, callback);
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
    if (atomic_fetch_sub_explicit(&memory->callbacks, 1, memory_order_seq_cst) > 1)
        return;
    if (atomic_load_explicit(&waiting, memory_order_seq_cst) > 0) {
        atomic_fetch_add_explicit(&ended, 1, memory_order_seq_cst);
        sys_futex_wake_all((uint32_t *)&ended);
    }
}

void memory_wait_callbacks(struct memory *memory)
{
    atomic_fetch_add_explicit(&waiting, 1, memory_order_seq_cst);
    for (;;) {
        uint32_t before = atomic_load_explicit(&ended, memory_order_seq_cst);
        if (memory_callbacks(memory) == 0)
            break;
        sys_futex_wait((uint32_t *)&ended, before, NULL);
    }
    atomic_fetch_sub_explicit(&waiting, 1, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------- giving back */

/*
 * While a pool has a surplus of free blocks, one look follows the other; every few of them, what
 * has been free throughout is given back. At rest that comes to its end by itself.
 *
 * A trim has three stages with a grace period between each: take the whole free list out (a popper
 * may still be looking at its old top); sort it, put back what stays and take the rest out of
 * memory->slabs and pool->current (somebody may still be about to cut from it); unmap.
 */

static void trim_go_on(struct memory *memory);

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
            push_free(memory->trim_pool, b, b, 1);
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
        retire_batch(memory); /* a batch that does not get full would hold its slabs */
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

/* Something has come back to a pool. */
static void trim_maybe(struct memory *memory)
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
        memory_unmap(memory, slab, slab->size);
        slab = next;
    }
    atomic_store_explicit(&memory->slabs, NULL, memory_order_relaxed);
}
