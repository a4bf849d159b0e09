/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A subscription: topic, queue and wake-up in one block, from subscribe to the grace period after
 * unsubscribe; and the delivery of an event to all subscriptions that match it.
 * Uses: queue, registry, wakeup. What it needs of its bus stands in struct bus_core.
 */
#ifndef EXITBUS_SUBSCRIPTION_H
#define EXITBUS_SUBSCRIPTION_H

#include "base/fork_guard.h"
#include "bus/core.h"
#include "queue/wakeup.h"

#include <stdbool.h>

struct exitbus_subscription {
    /* Receivers' line. */
    struct block block;
    struct queue_head head;
    struct wake_receiver wake_receiver;
    _Atomic uint32_t references;
    struct bus_core *core;

    /* Publishers' line: all that a delivery looks at, besides the cell and its segment. */
    _Alignas(CACHE_LINE) struct registry_node node;
    struct queue_tail tail;
    _Atomic uint64_t first_seq;    /* the first seq that is for this subscription; 0: undecided */
    _Atomic uint64_t one_shot_seq; /* one-shot: the seq that it takes; 0: none yet */
    struct wake_publisher wake_publisher;
    int32_t pid;
    uint8_t kind; /* enum exitbus_topic_kind */
    uint8_t flags;

    struct first_segment first;
    struct topic_ids ids[]; /* one, for topics with ids */
};

/*
 * The two halves of subscribe. Inside a read-side section, except for discard. activate: 0 or
 * -ESHUTDOWN; it neither allocates nor blocks.
 */
int subscription_create(struct bus_core *core, const struct exitbus_topic *topic, uint32_t flags,
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
void subscription_prepare(struct exitbus_subscription *subscription);
void subscription_link(struct exitbus_subscription *subscription);
void subscription_commit(struct exitbus_subscription *subscription);
void subscription_abort(struct exitbus_subscription *subscription);

/* Close, drop what was not delivered, and give up the handle's reference. Non-blocking. */
void subscription_unsubscribe(struct exitbus_subscription *subscription);

/* Close it and wake its receivers. Inside a read-side section. */
void subscription_close(struct exitbus_subscription *subscription);

/* Take it out of the registry. May be repeated, by any threads. Inside a read-side section. */
void subscription_unlink(struct exitbus_subscription *subscription);

/*
 * Decide the first seq that is for this subscription, once for all threads, and return it: see
 * "Start" in subscription.c. Inside a read-side section.
 */
uint64_t subscription_decide_start(struct exitbus_subscription *subscription);

/* One more reference. False: the last one is gone. Inside a read-side section or with a reference. */
bool subscription_retain(struct exitbus_subscription *subscription);
void subscription_release(struct exitbus_subscription *subscription);

/*
 * Receive up to `capacity` events: see exitbus_receive_batch(). `timeout_ns`: 0 tries once, below 0
 * waits for ever.
 */
ssize_t subscription_receive(struct exitbus_subscription *subscription,
                             struct exitbus_event *events, size_t capacity, int64_t timeout_ns);
int subscription_receive_pid(struct exitbus_subscription *subscription, pid_t pid,
                             struct exitbus_event *event, uint64_t *discarded, int64_t timeout_ns);

/* The descriptor of event loops, or -errno. */
int subscription_fd(struct exitbus_subscription *subscription);
size_t subscription_pending(struct exitbus_subscription *subscription);

/* Is it a parent's, from before a fork? */
static inline bool subscription_stale(const struct exitbus_subscription *subscription)
{
    return fork_guard_stale(subscription->core->generation);
}

static inline bool subscription_has_ids(const struct exitbus_subscription *subscription)
{
    return subscription->kind == EXITBUS_TOPIC_CONTAINER ||
           subscription->kind == EXITBUS_TOPIC_EXEC;
}

static inline struct exitbus_subscription *subscription_of_node(struct registry_node *node)
{
    return container_of(node, struct exitbus_subscription, node);
}

#endif
