/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A subscription: topic, queue and wake-up in one block, from subscribe to the grace period after
 * unsubscribe; and the delivery of an event to all subscriptions that match it.
 * Uses: queue, registry, wakeup. What it needs of its bus stands in struct hub.
 */
#ifndef EXITBUS_SUBSCRIPTION_H
#define EXITBUS_SUBSCRIPTION_H

#include "bus/order.h"
#include "bus/registry.h"
#include "queue/queue.h"
#include "queue/wakeup.h"

/* The middle of a bus: all that a subscription has to do with. */
struct hub {
    struct memory memory;
    struct order order;
    struct registry registry;
    _Alignas(CACHE_LINE) _Atomic bool closed;          /* publishers look at it */
    uint32_t generation;                               /* of the process; constant */
    _Alignas(CACHE_LINE) _Atomic size_t subscriptions; /* not yet unsubscribed */
    _Atomic uint64_t delivered;                        /* by those that are gone; likewise */
    _Atomic uint64_t dropped;
    _Atomic size_t references; /* the bus handle, and every block of a subscription */
    void (*last_reference)(struct hub *hub);
};

/* Drops a reference; calls last_reference for the last. */
void hub_release(struct hub *hub);

struct exitbus_subscription {
    /* Receivers' line. */
    struct block block;
    struct queue_head head;
    struct wakeup wakeup;
    _Atomic uint32_t references;
    struct hub *hub;

    /* Publishers' line: all that a delivery looks at, besides the cell and its segment. */
    _Alignas(CACHE_LINE) struct registry_node node;
    struct queue_tail tail;
    _Atomic uint64_t start;      /* the first seq that is for this subscription; 0: undecided */
    _Atomic uint64_t only_event; /* one-shot: the seq that it takes; 0: none yet */
    struct wakeup_watch watch;
    int32_t pid;
    uint8_t kind; /* enum exitbus_topic_kind */
    uint8_t flags;

    struct first_segment first;
    struct topic_ids ids[]; /* one, for topics with ids */
};

/* Memory classes: those of segments, then these. */
enum {
    SUBSCRIPTION_CLASS = SEGMENT_CLASSES,
    SUBSCRIPTION_IDS_CLASS,
    WATCH_CLASS, /* a child that a reaper watches */
    HUB_CLASSES,
};

#define WATCH_BYTES CACHE_LINE

/* The block size of each class. */
extern const size_t hub_block_sizes[HUB_CLASSES];

/* An order_deliver whose context is the hub. */
int hub_deliver(void *hub, uint64_t seq, const struct record *record);

/*
 * The two halves of subscribe. Inside a read-side section, except for discard. activate: 0 or
 * -ESHUTDOWN; it neither allocates nor blocks.
 */
int subscription_create(struct hub *hub, const struct exitbus_topic *topic, uint32_t flags,
                        struct exitbus_subscription **subscription);
int subscription_activate(struct exitbus_subscription *subscription);
/* Undo create. */
void subscription_discard(struct exitbus_subscription *subscription);

/*
 * Activate in steps, for spawn, whose child inserts it, and may be killed at any instruction of
 * that: announce; insert, which touches nothing that would have to be put right after it, and needs
 * no read-side section; then, in the parent, adopt. Withdraw undoes create, announce and as much of
 * insert as was done. If the bus was closed meanwhile adopt closes the subscription, too.
 */
void subscription_announce(struct exitbus_subscription *subscription);
void subscription_insert(struct exitbus_subscription *subscription);
void subscription_adopt(struct exitbus_subscription *subscription);
void subscription_withdraw(struct exitbus_subscription *subscription);

/* Close every subscription of the hub and wake its receivers. Inside a read-side section. */
void hub_close_subscriptions(struct hub *hub);

/* Add what live subscriptions have delivered, and their sleepers. Inside a read-side section. */
void hub_sum(struct hub *hub, struct exitbus_stats *stats);

#endif
