/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A subscription: topic, queue and wake-up in one block. It lives from subscribe to the grace
 * period after the last reference. Delivery to it is in deliver.c, receiving from it in receive.c.
 * What it needs of its bus is struct bus_core.
 *
 * A subscription to a broad topic, or to a container, has a cursor in the log of a channel
 * (channel.h), in place of a queue and an event count of its own. Its block ends before `first`.
 * One-shots have a queue.
 */
#ifndef EXITBUS_SUBSCRIPTION_H
#define EXITBUS_SUBSCRIPTION_H

#include "bus/channel.h"
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
    struct wake_publisher wake_publisher; /* with a cursor only its fd_state is used */
    int32_t pid;                          /* of a pid topic, else 0; constant, like the next two */
    uint8_t kind;                         /* enum exitbus_topic_kind */
    uint8_t flags;
    union {
        struct { /* of a queue */
            struct queue_tail tail;
            /* First seq that is for it, 0: undecided. By any thread, once. */
            _Atomic uint64_t first_seq;
            /* Seq that a one-shot takes, 0: none yet. By publishers, once. */
            _Atomic uint64_t one_shot_seq;
        };
        struct {                     /* of a cursor */
            struct channel *channel; /* constant */
            uint64_t joined_ordinal; /* events in the log before this subscription; constant */
            _Atomic(struct descriptor_entry *) descriptor; /* NULL: not in the channel's list */
        };
    };

    struct first_segment first;
    struct topic_ids ids[]; /* one, for queues of topics with ids, else none; constant */
};

/*
 * Subscribe in two halves: make a subscription, and put it into its bus. create returns 0, -EINVAL
 * or -ENOMEM; subscription_release() undoes it, unless it is a cursor. activate returns 0 or
 * -ESHUTDOWN; it neither allocates nor blocks. Context: in a section.
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
 * Take one more reference. Returns false if the last one is gone. Context: in a section, or with a
 * reference.
 */
bool subscription_retain(struct exitbus_subscription *subscription);
void subscription_release(struct exitbus_subscription *subscription);

/* Free what the last reference has left: memory's destroy_object(). */
void subscription_destroy(struct block *block);

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

/* Returns the number of events that its receivers have taken. Context: in a section. */
uint64_t subscription_taken(const struct exitbus_subscription *subscription);

/* Returns whether it has a cursor in a channel. Reads the receivers' line. */
static inline bool subscription_has_cursor(const struct exitbus_subscription *subscription)
{
    return queue_is_cursor(&subscription->head);
}

/* Returns the end where its events are appended. */
static inline struct queue_tail *subscription_tail(struct exitbus_subscription *subscription)
{
    return subscription_has_cursor(subscription) ? &subscription->channel->tail
                                                 : &subscription->tail;
}

/* Returns where its receivers sleep: the futex, and the bits of a close that is for them. */
static inline _Atomic uint32_t *subscription_epoch(struct exitbus_subscription *subscription)
{
    return subscription_has_cursor(subscription) ? &subscription->channel->epoch
                                                 : &subscription->wake_receiver.epoch;
}

static inline uint32_t subscription_wake_bits(const struct exitbus_subscription *subscription)
{
    if (!subscription_has_cursor(subscription))
        return WAKEUP_ALL;
    return (uint32_t)1 << (uintptr_t)subscription / (2 * CACHE_LINE) % 32;
}

/* Returns what publishers look at when they have appended an event for it. */
static inline struct wake_publisher *
subscription_wake_publisher(struct exitbus_subscription *subscription)
{
    return subscription_has_cursor(subscription) ? &subscription->channel->wake
                                                 : &subscription->wake_publisher;
}

/* Returns whether its topic has ids. A cursor leaves them to its channel. */
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
