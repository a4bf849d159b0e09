/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The core of a bus: what subscriptions, publishers and receivers share, and what is done to all
 * subscriptions at once. struct exitbus (bus.h) has more to it, which concerns processes.
 */
#ifndef EXITBUS_CORE_H
#define EXITBUS_CORE_H

#include "bus/order.h"
#include "bus/registry.h"
#include "queue/queue.h"

struct bus_core {
    struct memory memory;
    struct order order;
    struct registry registry;
    _Alignas(CACHE_LINE) _Atomic bool closed;          /* publishers look at it */
    uint32_t generation;                               /* of the process; constant */
    _Alignas(CACHE_LINE) _Atomic size_t subscriptions; /* not yet unsubscribed */
    _Atomic uint64_t delivered;                        /* by those that are gone; likewise */
    _Atomic uint64_t dropped;
    _Atomic size_t references; /* the bus handle, and every block of a subscription */
    void (*last_reference)(struct bus_core *core);
};

/* Drops a reference; calls last_reference for the last. */
void core_release(struct bus_core *core);

/* Memory classes: those of segments, then these. */
enum {
    SUBSCRIPTION_CLASS = SEGMENT_CLASSES,
    SUBSCRIPTION_IDS_CLASS,
    WATCH_CLASS, /* a child that a reaper watches */
    CORE_CLASSES,
};

#define WATCH_BYTES CACHE_LINE

/* The block size of each class. */
extern const size_t core_block_sizes[CORE_CLASSES];

/* An order_deliver whose context is the core. */
int core_deliver(void *core, uint64_t seq, const struct record *record);

/* Close every subscription of the bus and wake its receivers. Inside a read-side section. */
void core_close_subscriptions(struct bus_core *core);

/* Sum up the bus: see exitbus_stats(). Non-blocking; walks all subscriptions. */
void core_stats(struct bus_core *core, struct exitbus_stats *stats);

#endif
