/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The core of a bus: what subscriptions, publishers and receivers share, and what is done to all
 * subscriptions at once. struct exitbus (bus.h) adds what concerns processes.
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
    _Alignas(CACHE_LINE) _Atomic bool closed;          /* by destroy, once; publishers read it */
    uint32_t generation;                               /* of the process that made it; constant */
    _Atomic int64_t retry_ns;                          /* when receivers next try: receive.c */
    _Alignas(CACHE_LINE) _Atomic size_t subscriptions; /* not yet unsubscribed; by subscribers */
    _Atomic uint64_t delivered; /* events taken from subscriptions that are gone; by subscribers */
    _Atomic uint64_t dropped;   /* events left in subscriptions that are gone; by subscribers */
    _Atomic size_t references;  /* the bus's handle, and every block of a subscription */
    void (*last_reference)(struct bus_core *core);
};

/* Give up a reference. The last one calls last_reference(). */
void core_release(struct bus_core *core);

/* Memory classes: those of segments come first. */
enum {
    SUBSCRIPTION_CLASS = SEGMENT_CLASSES,
    SUBSCRIPTION_IDS_CLASS,
    CURSOR_CLASS, /* of a subscription in a channel */
    CHANNEL_CLASS,
    CHANNEL_IDS_CLASS,
    BATCH_CLASS, /* of events that are published together */
    SMALL_CLASS, /* one line: a child that a reaper watches, a descriptor in a channel's list */
    PROCESS_CLASS,
    GROUP_CLASS,
    CORE_CLASSES,
};

#define SMALL_BYTES CACHE_LINE
#define PROCESS_BYTES (4 * CACHE_LINE)
#define GROUP_BYTES (6 * CACHE_LINE)

/* Bytes of a block, for each class. */
extern const size_t core_block_sizes[CORE_CLASSES];

/*
 * Deliver an event to all that match: an order_deliver whose context is the core. Returns 0 or
 * -ENOMEM. Context: in a section.
 */
int core_deliver(void *core, uint64_t seq, const struct record *record);

/* Close every subscription of the bus and wake its receivers. Context: in a section. */
void core_close_subscriptions(struct bus_core *core);

/* Sum up the bus, as exitbus_stats() says. Context: never blocks; walks all subscriptions. */
void core_stats(struct bus_core *core, struct exitbus_stats *stats);

#endif
