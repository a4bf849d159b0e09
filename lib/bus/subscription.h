/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A subscription: topic, queue and wake-up in one block. It lives from subscribe to the grace
 * period after the last reference. Delivery to it is in deliver.c, receiving from it in receive.c.
 * What it needs of its bus is struct bus_core.
 */
#ifndef EXITBUS_SUBSCRIPTION_H
#define EXITBUS_SUBSCRIPTION_H

#include "bus/core.h"
#include "queue/wakeup.h"

#include <stdbool.h>

struct exitbus_subscription {
    /* The receivers' line. */
    struct block block;
    struct queue_head head;
    struct wake_receiver wake_receiver;
    _Atomic uint32_t references; /* the handle, the user's own, and threads that sleep */
    struct bus_core *core;       /* constant */

    /* The publishers' line: all that a delivery reads, besides the cell and its segment. */
    _Alignas(CACHE_LINE) struct registry_node node;
    struct queue_tail tail;
    _Atomic uint64_t first_seq;    /* first seq that is for it, 0: undecided; by any thread, once */
    _Atomic uint64_t one_shot_seq; /* seq that a one-shot takes, 0: none yet; by publishers, once */
    struct wake_publisher wake_publisher;
    int32_t pid;  /* of a pid topic, else 0; constant, like the next two */
    uint8_t kind; /* enum exitbus_topic_kind */
    uint8_t flags;

    struct first_segment first;
    struct topic_ids ids[]; /* one, for topics with ids, else none; constant */
};

/*
 * Subscribe in two halves: make a subscription, and put it into its bus. create returns 0, -EINVAL
 * or -ENOMEM; subscription_release() undoes it. activate returns 0 or -ESHUTDOWN; it neither
 * allocates nor blocks. Context: in a section.
 */
int subscription_create(struct bus_core *core, const struct exitbus_topic *topic, uint32_t flags,
                        struct exitbus_subscription **subscription);
int subscription_activate(struct exitbus_subscription *subscription);

/*
 * Activate in steps, for spawn. Its child does the second step, and may be killed at any
 * instruction of it. So that step leaves nothing to be put right, and it needs no section.
 *   - prepare: announce the topic;
 *   - link: put the subscription into the registry, and decide its start;
 *   - commit, in the parent: count it. If the bus was closed meanwhile, close it as well;
 *   - abort: undo create, prepare, and as much of link as was done.
 */
void subscription_prepare(struct exitbus_subscription *subscription);
void subscription_link(struct exitbus_subscription *subscription);
void subscription_commit(struct exitbus_subscription *subscription);
void subscription_abort(struct exitbus_subscription *subscription);

/* Close, drop what was not delivered, and give up the handle's reference. Context: never blocks. */
void subscription_unsubscribe(struct exitbus_subscription *subscription);

/* Close it and wake its receivers. Context: in a section. */
void subscription_close(struct exitbus_subscription *subscription);

/* Take it out of the registry. Context: in a section; may be repeated, by any threads. */
void subscription_unlink(struct exitbus_subscription *subscription);

/*
 * Decide the first seq that is for this subscription, once for all threads.
 * Returns it. Context: in a section, or the child of a spawn.
 */
uint64_t subscription_decide_start(struct exitbus_subscription *subscription);

/*
 * Take one more reference. Returns false if the last one is gone. Context: in a section, or with a
 * reference.
 */
bool subscription_retain(struct exitbus_subscription *subscription);
void subscription_release(struct exitbus_subscription *subscription);

/*
 * Receive up to `capacity` events; `timeout_ns` 0 tries once, below 0 waits for ever.
 * Returns what exitbus_receive_batch() and exitbus_receive_pid() return. Context: may block, unless
 * the timeout is 0.
 */
ssize_t subscription_receive(struct exitbus_subscription *subscription,
                             struct exitbus_event *events, size_t capacity, int64_t timeout_ns);
int subscription_receive_pid(struct exitbus_subscription *subscription, pid_t pid,
                             struct exitbus_event *event, uint64_t *discarded, int64_t timeout_ns);

/* Returns the descriptor for event loops, which is made at the first call; or -errno. */
int subscription_fd(struct exitbus_subscription *subscription);
size_t subscription_pending(struct exitbus_subscription *subscription);

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
