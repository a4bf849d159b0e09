/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A bus: its core, and the reapers and spawned children that belong to it. */
#ifndef EXITBUS_BUS_H
#define EXITBUS_BUS_H

#include "base/fork_guard.h"
#include "bus/subscription.h"

struct exitbus {
    struct bus_core core;
    struct reclaim_head free_reclaim;
    /* By the reapers, with reaper.c's lock: */
    struct watch_set *children;             /* of exitbus_spawn(); NULL: none yet, or closed */
    struct exitbus_reaper *set_runner;      /* looks after that set; NULL: none */
    struct exitbus_reaper *implicit_reaper; /* started by exitbus_spawn(); NULL: none */
    unsigned explicit_reapers;              /* started by the user, and running */
};

/* Returns whether it is a parent's, from before a fork. */
static inline bool bus_stale(const struct exitbus *bus)
{
    return fork_guard_stale(bus->core.generation);
}

static inline bool bus_closed(struct exitbus *bus)
{
    /* Acquire; pairs with the store in reaper_bus_close(): a thread that gets -ESHUTDOWN sees what
     * was done before destroy. */
    return load_acquire(&bus->core.closed);
}

/* Make a bus. Returns 0 or -ENOMEM. Context: reclaim_init() has succeeded in this process. */
int bus_create(const struct exitbus_allocator *allocator, struct exitbus **bus);

/* Free a bus that no other thread has seen. */
void bus_free(struct exitbus *bus);

/*
 * End a bus whose core was marked as closed: close its subscriptions, wait for a grace period, and
 * give up the handle's reference. Context: blocks; not in a section.
 */
void bus_destroy(struct exitbus *bus);

/*
 * Publish events that event_check() has passed. Returns what exitbus_publish() returns, and sets
 * *seq likewise. Context: lock-free.
 */
static inline int bus_publish(struct exitbus *bus, const struct exitbus_event *events, size_t count,
                              uint64_t *seq)
{
    struct order *order = &bus->core.order;
    reclaim_enter();
    int64_t first = unlikely(bus_closed(bus)) ? -ESHUTDOWN
                    : likely(count == 1)      ? order_publish(order, events)
                                              : order_publish_batch(order, events, count);
    reclaim_leave();
    if (unlikely(first < 0))
        return (int)first;
    if (seq)
        *seq = (uint64_t)first;
    return 0;
}

#endif
