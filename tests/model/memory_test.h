/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For tests of a bus that lacks memory for a while. */
#ifndef MEMORY_TEST_H
#define MEMORY_TEST_H

#include "model_test.h"

#include <stdatomic.h>
#include <stdlib.h>

static _Atomic int lacking;

static inline void set_lacking(int value)
{
    atomic_store_explicit(&lacking, value, memory_order_relaxed);
}

static inline void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    if (atomic_load_explicit(&lacking, memory_order_relaxed))
        return NULL;
    return aligned_alloc(alignment, size);
}

static inline void release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

/* A bus that gets no memory while it is lacking. */
static inline struct exitbus *bus_new_lacking(void)
{
    static const struct exitbus_allocator allocator = {allocate, release, NULL};
    const struct exitbus_options options = {.allocator = &allocator};
    struct exitbus *bus;
    assert(exitbus_create(&bus, &options) == 0);
    return bus;
}

#endif
