/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subscriptions: see subscription.h. docs/design.md, "Subscriptions", argues 1 and 2 with pictures.
 *
 * Why it is right
 *  1. Start. The first seq of a subscription is decided once for all threads: the node is inserted;
 *     a read-modify-write reads the order word; a CAS puts the seq above it into `first_seq`. So
 *     each event published after subscribe is at or above it, and each event from before is below.
 *     A publisher that meets a node with first_seq 0 does the last two steps itself.
 *  2. One-shot. A CAS of `one_shot_seq` decides which event it takes, once for all threads. The
 *     receiver that takes the event closes the queue with the same CAS. That receiver removes the
 *     node; so does a publisher that meets the node with a later event. A sticky one is the same
 *     for publishers; its receivers read the event, and leave it.
 *  3. A cursor. First the open turn is settled, so all events that were ordered before are in the
 *     log. Then the cursor begins at its end, by log_join(). So there is a point of the order word
 *     within subscribe that divides what it receives from what it does not, as there is in 1. The
 *     channel's own start was decided before.
 *  4. Lifetime. The last reference sends the block to a grace period, after which it is freed. A
 *     thread in a section may look at it without a reference, and take one if any is left.
 */
#include "bus/subscription.h"

#include <errno.h>

_Static_assert(sizeof(struct exitbus_subscription) == 4 * CACHE_LINE, "one line for each purpose");
_Static_assert(offsetof(struct exitbus_subscription, first) == 2 * CACHE_LINE, "a cursor's block");

static registry_list *list_of(const struct exitbus_subscription *sub)
{
    if (subscription_has_cursor(sub))
        return registry_members(&sub->core->registry, sub);
    return registry_find(&sub->core->registry, (enum exitbus_topic_kind)sub->kind, sub->pid,
                         subscription_has_ids(sub) ? sub->ids->hash : 0);
}

static void insert(struct exitbus_subscription *sub)
{
    registry_list *list = list_of(sub);
    registry_use(&sub->core->registry, list);
    registry_insert(list, &sub->node);
}

void subscription_unlink(struct exitbus_subscription *sub)
{
    registry_remove(list_of(sub), &sub->node);
    probe(PROBE_UNSUBSCRIBE_REMOVED);
}

/* Returns the class of its block. */
static unsigned class_of(const struct exitbus_subscription *sub)
{
    return subscription_has_cursor(sub) ? CURSOR_CLASS
           : subscription_has_ids(sub)  ? SUBSCRIPTION_IDS_CLASS
                                        : SUBSCRIPTION_CLASS;
}

void subscription_destroy(struct block *block)
{
    struct exitbus_subscription *sub = container_of(block, struct exitbus_subscription, block);
    struct bus_core *core = sub->core;
    wakeup_destroy(&sub->wake_receiver);
    if (subscription_has_cursor(sub))
        channel_release(sub->channel);
    else
        queue_destroy(&sub->head, &core->memory);
    memory_free(&core->memory, class_of(sub), sub);
    memory_callback_end(&core->memory);
    core_release(core);
}

/* The same on the worker, for a queue that takes longer. */
static void subscription_destroy_deferred(struct rcu_head *rcu)
{
    subscription_destroy(container_of(reclaim_callback_begin(rcu), struct block, reclaim));
}

/*
 * Segments of a queue that any thread may free at once. To fill more takes a thread a thousand
 * times as long as to free them, so the worker keeps up with these.
 */
#define SEGMENTS_SHORT 8

/* Returns whether it has at most so many. Context: closed; in a section. */
static bool is_short(const struct exitbus_subscription *sub)
{
    if (subscription_has_cursor(sub))
        return true;
    /* Acquire, both; pairs with queue_take() and segment_follow(), for the segment's fields. */
    const struct segment *segment = position_segment(load_acquire(&sub->head.position));
    for (unsigned i = 0; segment && i < SEGMENTS_SHORT; i++)
        segment = load_acquire(&segment->next);
    return !segment;
}

void subscription_release(struct exitbus_subscription *sub)
{
    if (fetch_sub_acq_rel(&sub->references, 1) != 1)
        return;
    wakeup_fd_close_when_unused(&sub->wake_publisher, &sub->wake_receiver);
    struct memory *memory = &sub->core->memory;
    reclaim_enter(); /* the callers of unref are in no section */
    if (is_short(sub))
        memory_retire_object(memory, &sub->block);
    else
        memory_defer(memory, &sub->block.reclaim, subscription_destroy_deferred);
    reclaim_leave();
}

/* A reference taken in a section can't follow the last one: the count never leaves 0. */
bool subscription_retain(struct exitbus_subscription *sub)
{
    uint32_t count = load_relaxed(&sub->references);
    while (count > 0)
        if (cas_weak_relaxed(&sub->references, &count, count + 1))
            return true;
    return false;
}

/* 0 in programs of the model checker that are for queues. */
#ifndef SUBSCRIPTION_CURSORS
#define SUBSCRIPTION_CURSORS 1
#endif

/* Give a new subscription a queue of its own. */
static void create_queue(struct exitbus_subscription *sub, uint32_t flags)
{
    queue_init(&sub->tail, &sub->head, &sub->first);
    if (flags & EXITBUS_SUBSCRIBE_ONE_SHOT)
        queue_set_one_shot(&sub->head);
    if (flags & EXITBUS_SUBSCRIBE_STICKY)
        queue_set_sticky(&sub->head);
    atomic_init(&sub->first_seq, 0);
    atomic_init(&sub->one_shot_seq, 0);
}

/* Make it a member of its topic's channel. Returns 0 or -ENOMEM. */
static int create_cursor(struct exitbus_subscription *sub, const struct exitbus_topic *topic)
{
    if (order_settle(&sub->core->order) < 0)
        return -ENOMEM;
    sub->channel = channel_join(sub->core, topic);
    if (!sub->channel)
        return -ENOMEM;
    channel_retain(sub->channel);
    atomic_init(&sub->head.position, POSITION_CURSOR); /* log_join() sets the rest */
    atomic_init(&sub->descriptor, NULL);
    return 0;
}

int subscription_create(struct bus_core *core, const struct exitbus_topic *topic, uint32_t flags,
                        struct exitbus_subscription **subscription)
{
    bool ids;
    int result = topic_check(topic, &ids);
    if (result < 0)
        return result;
    bool cursor = SUBSCRIPTION_CURSORS && channel_shares(topic->kind) &&
                  !(flags & EXITBUS_SUBSCRIBE_ONE_SHOT);
    unsigned class = cursor ? CURSOR_CLASS : ids ? SUBSCRIPTION_IDS_CLASS : SUBSCRIPTION_CLASS;
    struct exitbus_subscription *sub = memory_alloc(&core->memory, class);
    if (!sub)
        return -ENOMEM;
    sub->core = core;
    if (!cursor) {
        create_queue(sub, flags);
    } else if (create_cursor(sub, topic) < 0) {
        memory_retire(&core->memory, class, sub);
        return -ENOMEM;
    }
    wakeup_init(&sub->wake_publisher, &sub->wake_receiver);
    atomic_init(&sub->references, 1);
    atomic_init(&sub->node.next, 0);
    sub->pid = topic->kind == EXITBUS_TOPIC_PID ? topic->pid : 0;
    sub->kind = (uint8_t)topic->kind;
    sub->flags = (uint8_t)flags; /* publishers take a sticky one for a one-shot */
    if (ids && !cursor) /* else its channel has them */
        topic_copy_ids(topic, &core->registry.key, sub->ids);
    fetch_add_relaxed(&core->references, 1);
    *subscription = sub;
    return 0;
}

/* Wake the receivers of a closed cursor, and no others of its channel. */
static void wake_cursor_closed(struct exitbus_subscription *sub)
{
    /* The close is visible before the load; pairs with the fence in wakeup_announce(). */
    fence_seq_cst();
    if (load_relaxed(&sub->wake_receiver.sleepers) > 0)
        channel_wake_closed(sub->channel, subscription_wake_bits(sub));
    wakeup_notify_fd_closed(&sub->wake_publisher, &sub->wake_receiver);
}

void subscription_close(struct exitbus_subscription *sub)
{
    queue_close(&sub->head);
    probe(PROBE_UNSUBSCRIBE_CLOSED);
    if (subscription_has_cursor(sub))
        wake_cursor_closed(sub);
    else
        wakeup_notify_closed(&sub->wake_publisher, &sub->wake_receiver);
    probe(PROBE_UNSUBSCRIBE_WOKEN);
}

void subscription_prepare(struct exitbus_subscription *sub)
{
    registry_announce(&sub->core->registry, (enum exitbus_topic_kind)sub->kind);
}

void subscription_link(struct exitbus_subscription *sub)
{
    insert(sub);
    probe(PROBE_SUBSCRIBE_INSERTED);
    order_decide_first(&sub->core->order, &sub->first_seq);
    probe(PROBE_SUBSCRIBE_STARTED);
}

/* Take a cursor's place at the end of the log, and let those find it that visit all. */
static void cursor_link(struct exitbus_subscription *sub)
{
    sub->joined_ordinal = log_join(&sub->channel->tail, &sub->head, &sub->core->memory);
    insert(sub);
    probe(PROBE_SUBSCRIBE_INSERTED);
}

/* Undo it, and leave the channel. Context: closed; once. */
static void cursor_unlink(struct exitbus_subscription *sub)
{
    registry_remove(list_of(sub), &sub->node);
    probe(PROBE_UNSUBSCRIBE_REMOVED);
    channel_unlist_descriptor(sub);
    log_leave(&sub->head, &sub->core->memory);
    channel_leave(sub->channel);
}

static void count_in(struct exitbus_subscription *sub)
{
    fetch_add_relaxed(&sub->core->subscriptions, 1);
}

void subscription_commit(struct exitbus_subscription *sub)
{
    count_in(sub);
    /* The insert before the look; pairs with the fence in bus_destroy(), as in activate. */
    fence_seq_cst();
    if (unlikely(load_acquire(&sub->core->closed))) {
        reclaim_enter();
        subscription_close(sub);
        reclaim_leave();
    }
}

void subscription_abort(struct exitbus_subscription *sub)
{
    invariant(!subscription_has_cursor(sub));
    reclaim_enter();
    subscription_close(sub);
    subscription_unlink(sub); /* also if the node is not there, or half-way in */
    subscription_release(sub);
    reclaim_leave();
}

int subscription_activate(struct exitbus_subscription *sub)
{
    struct bus_core *core = sub->core;
    bool cursor = subscription_has_cursor(sub);
    if (cursor) {
        cursor_link(sub);
    } else {
        subscription_prepare(sub);
        subscription_link(sub);
    }
    /* The insert before the look; pairs with the fence in bus_destroy(). */
    fence_seq_cst();
    if (unlikely(load_acquire(&core->closed))) {
        subscription_close(sub);
        if (cursor)
            cursor_unlink(sub);
        else
            subscription_unlink(sub);
        return -ESHUTDOWN;
    }
    count_in(sub);
    return 0;
}

uint64_t subscription_taken(const struct exitbus_subscription *sub)
{
    uint64_t taken = queue_taken(&sub->head);
    return subscription_has_cursor(sub) ? taken - sub->joined_ordinal : taken;
}

void subscription_unsubscribe(struct exitbus_subscription *sub)
{
    struct bus_core *core = sub->core;
    bool cursor = subscription_has_cursor(sub);
    reclaim_enter();
    subscription_close(sub);
    if (!cursor)
        subscription_unlink(sub);
    uint64_t taken = queue_taken(&sub->head); /* first: all that was taken is seen as appended */
    uint64_t dropped = queue_appended(subscription_tail(sub)) - taken;
    if (queue_seen(&sub->head))
        dropped = 0;
    if (!(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT)) /* a one-shot counts when it takes its event */
        fetch_add_relaxed(&core->delivered, subscription_taken(sub));
    fetch_add_relaxed(&core->dropped, dropped);
    fetch_sub_relaxed(&core->subscriptions, 1);
    if (cursor)
        cursor_unlink(sub);
    subscription_release(sub);
    reclaim_leave();
}
