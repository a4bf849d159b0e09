/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A bus: its core, and what reapers and spawn have to do with it. */
#ifndef EXITBUS_BUS_H
#define EXITBUS_BUS_H

#include "base/fork_guard.h"
#include "bus/subscription.h"

struct exitbus {
    struct bus_core core;
    struct reclaim_head free_reclaim;
    /* Written under reaper.c's lock: */
    struct watch_set *children;             /* of exitbus_spawn(); NULL: none yet, or closed */
    struct exitbus_reaper *set_runner;      /* looks after them */
    struct exitbus_reaper *implicit_reaper; /* started by exitbus_spawn() */
    unsigned explicit_reapers;              /* started by the user, and running */
};

/* Is it a parent's, from before a fork? */
static inline bool bus_stale(const struct exitbus *bus)
{
    return fork_guard_stale(bus->core.generation);
}

static inline bool bus_closed(struct exitbus *bus)
{
    /* Acquire: who is told -ESHUTDOWN knows what was done before destroy. */
    return load_acquire(&bus->core.closed);
}

/* Make a bus. 0 or -ENOMEM. Context: reclaim_init() has succeeded in this process. */
int bus_create(const struct exitbus_allocator *allocator, struct exitbus **bus);

/* Free a bus that no other thread has seen. */
void bus_free(struct exitbus *bus);

/*
 * End a bus whose core was marked as closed: close its subscriptions, wait for a grace period, and
 * give up the handle's reference. Context: blocks; not inside a section.
 */
void bus_destroy(struct exitbus *bus);

/* Publish checked events. The return value and `seq` are those of exitbus_publish(). */
int bus_publish(struct exitbus *bus, const struct exitbus_event *events, size_t count,
                uint64_t *seq);

#endif
