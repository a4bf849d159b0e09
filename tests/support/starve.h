/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A bus whose publishes fail for want of memory. */
#ifndef STARVE_H
#define STARVE_H

#include "threads.h"

#include <exitbus/exitbus.h>
#include <stdatomic.h>
#include <stdlib.h>

static _Atomic bool no_memory;

static inline void *starve_allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    return atomic_load(&no_memory) ? NULL : aligned_alloc(alignment, size);
}

static inline void starve_release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

/* One with memory, until there is none. */
static inline struct exitbus *bus_that_starves(void)
{
    struct exitbus_allocator allocator = {.allocate = starve_allocate, .release = starve_release};
    struct exitbus_options options = {.allocator = &allocator};
    struct exitbus *bus;
    atomic_store(&no_memory, false);
    must_equal(exitbus_create(&bus, &options), 0);
    return bus;
}

/* Let there be none, and publish until there is none for another. Returns how many there are. */
static inline uint64_t starve(struct exitbus *bus)
{
    atomic_store(&no_memory, true);
    uint64_t count = 0;
    while (exitbus_publish_pid(bus, 1, 0) == 0)
        count++;
    return count;
}

#endif
