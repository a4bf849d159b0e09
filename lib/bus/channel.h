/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A channel: what all subscriptions of a topic share that is broad (all, any pid, any exec), or one
 * container's. It has the log, the event count, and the list of descriptors. A publish appends once
 * to the channel, and wakes all its receivers by one system call, whatever their number is.
 *
 * - The first subscription of a topic makes the channel, and the last one ends it.
 * - One-shot subscriptions, and those of one pid or exec, have a queue of their own. A one-shot
 *   that is never drained would hold back the log behind its one event.
 *
 * The argument: channel.c.
 */
#ifndef EXITBUS_CHANNEL_H
#define EXITBUS_CHANNEL_H

#include "bus/core.h"
#include "queue/log.h"
#include "queue/wakeup.h"

struct channel {
    /* The receivers' line. */
    struct block block;
    _Atomic uint32_t epoch;      /* the futex; written by threads that wake */
    _Atomic uint32_t members;    /* open subscriptions; 0 is final */
    _Atomic uint32_t references; /* blocks of subscriptions, and one while there are members */
    _Atomic uint32_t sleepers;   /* threads in a blocking receive on any of its subscriptions */
    uint8_t kind;                /* enum exitbus_topic_kind; constant, like the next */
    struct bus_core *core;

    /* The publishers' line. */
    _Alignas(CACHE_LINE) struct registry_node node; /* of a container's: in a registry's list */
    struct queue_tail tail;
    _Atomic uint64_t first_seq; /* first seq that is for it, 0: undecided; by any thread, once */
    struct wake_publisher wake; /* of all its subscriptions; its fd_state is not used */
    registry_list descriptors;  /* of its subscriptions: struct descriptor_entry */
    /* Writes to descriptors that have failed, and how many of them were tried again since. */
    _Atomic uint32_t failures, failures_retried;

    struct log_first_segment first;
    struct topic_ids ids[]; /* of a container's: one, else none; constant */
};

/* A subscription's place in the list of a channel's descriptors. */
struct descriptor_entry {
    struct block block;
    struct registry_node node;
    struct exitbus_subscription *sub;
};

/*
 * Returns the topic's channel with one more member, made if there is none; NULL without memory.
 * Events published from then on come to its log. Context: in a section; lock-free.
 */
struct channel *channel_join(struct bus_core *core, const struct exitbus_topic *topic);

/* Give up a membership. The last one ends the channel. Context: in a section; lock-free. */
void channel_leave(struct channel *channel);

/* References keep the channel's block: a thread may sleep on its epoch. */
void channel_retain(struct channel *channel);
void channel_release(struct channel *channel);

/*
 * Append an event, unless it is there already or from before the channel, and wake the receivers.
 * As deliver_one() does for one subscription.
 */
int channel_deliver(struct bus_core *core, struct channel *channel, uint64_t seq,
                    const struct record *record);

/*
 * Announce that a descriptor of the channel wants the next wake-up: see channel.c, 5. Callers then
 * look at their log once more. Context: the descriptor is in the list, and its own state says that
 * it is not signalled; lock-free.
 */
void channel_announce(struct channel *channel);

/*
 * Wake the sleepers that have one of `bits`, for a close. The others stay announced. Context:
 * behind a fence; lock-free.
 */
void channel_wake_closed(struct channel *channel, uint32_t bits);

/* List a subscription's descriptor, once. Returns 0 or -ENOMEM. Context: in a section. */
int channel_list_descriptor(struct exitbus_subscription *sub);
/* Take it out again, for good. Context: in a section; once. */
void channel_unlist_descriptor(struct exitbus_subscription *sub);

/* Returns whether the subscriptions of a kind share channels, but for one-shots. */
static inline bool channel_shares(enum exitbus_topic_kind kind)
{
    return kind != EXITBUS_TOPIC_PID && kind != EXITBUS_TOPIC_EXEC;
}

static inline struct channel *channel_of_node(struct registry_node *node)
{
    return container_of(node, struct channel, node);
}

/* Returns where publishers find the channel of a kind; NULL: it is not a broad one. */
static inline _Atomic(struct channel *) *channel_place(struct registry *registry,
                                                       enum exitbus_topic_kind kind)
{
    return kind == EXITBUS_TOPIC_ALL        ? &registry->all_channel
           : kind == EXITBUS_TOPIC_ANY_PID  ? &registry->any_pid_channel
           : kind == EXITBUS_TOPIC_ANY_EXEC ? &registry->any_exec_channel
                                            : NULL;
}

#endif
