/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An allocator for buses that keeps account: what is out, whether each block comes back once and
 * with the size it was taken with, and whether it has the alignment asked for. It can be told to
 * refuse.
 */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H

#include "threads.h"

#include <exitbus/exitbus.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

struct account {
    struct exitbus_allocator allocator; /* to be given to the bus */
    _Atomic size_t blocks;              /* out now */
    _Atomic size_t bytes;               /* likewise */
    _Atomic size_t allocations;         /* ever */
    _Atomic size_t refused;
    _Atomic bool refuse; /* return NULL from now on */
};

/* In front of each block, as far in front as its alignment demands. */
struct account_header {
    size_t size;
    void *start;
    uint64_t alive;
};

#define ACCOUNT_ALIVE 0x616c6976652e2e2eULL

static inline void *account_allocate(void *context, size_t size, size_t alignment)
{
    struct account *account = context;
    must(alignment != 0 && (alignment & (alignment - 1)) == 0);
    must(alignment <= (size_t)2 << 20 && size % alignment == 0);
    if (atomic_load(&account->refuse)) {
        atomic_fetch_add(&account->refused, 1);
        return NULL;
    }
    size_t front = alignment;
    while (front < sizeof(struct account_header))
        front *= 2;
    char *start = NULL;
    must_equal(posix_memalign((void **)&start, front, front + size), 0);
    char *block = start + front;
    memset(block, 0xa5, size); /* nobody may take it for zeros */
    struct account_header header = {.size = size, .start = start, .alive = ACCOUNT_ALIVE};
    memcpy(block - sizeof header, &header, sizeof header);
    atomic_fetch_add(&account->blocks, 1);
    atomic_fetch_add(&account->bytes, size);
    atomic_fetch_add(&account->allocations, 1);
    return block;
}

static inline void account_release(void *context, void *memory, size_t size)
{
    struct account *account = context;
    struct account_header header;
    memcpy(&header, (char *)memory - sizeof header, sizeof header);
    must(header.alive == ACCOUNT_ALIVE);
    must_equal(header.size, size);
    memset((char *)memory - sizeof header, 0, sizeof header);
    free(header.start);
    atomic_fetch_sub(&account->bytes, size);
    atomic_fetch_sub(&account->blocks, 1);
}

static inline void account_init(struct account *account)
{
    *account = (struct account){.allocator = {.allocate = account_allocate,
                                              .release = account_release,
                                              .context = account}};
}

static inline struct exitbus *account_bus(struct account *account)
{
    struct exitbus_options options = {.allocator = &account->allocator};
    struct exitbus *bus;
    must_equal(exitbus_create(&bus, &options), 0);
    return bus;
}

/* Everything comes back, if not at once: after the grace periods that it takes. */
static inline void account_await_empty(struct account *account)
{
    await(atomic_load(&account->blocks) == 0);
    must_equal(atomic_load(&account->bytes), 0);
}

#endif
