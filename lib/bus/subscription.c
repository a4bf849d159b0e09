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
 *     node; so does a publisher that meets the node with a later event.
 *  3. Lifetime. The last reference sends the block to a grace period, after which it is freed. A
 *     thread in a section may look at it without a reference, and take one if any is left.
 */
#include "bus/subscription.h"

#include <errno.h>

_Static_assert(sizeof(struct exitbus_subscription) == 4 * CACHE_LINE, "one line for each purpose");

static registry_list *list_of(const struct exitbus_subscription *sub)
{
    return registry_find(&sub->core->registry, (enum exitbus_topic_kind)sub->kind, sub->pid,
                         subscription_has_ids(sub) ? sub->ids->hash : 0);
}

uint64_t subscription_decide_start(struct exitbus_subscription *sub)
{
    uint64_t first_seq = order_latest(&sub->core->order) + 1;
    probe(PROBE_SUBSCRIBE_ORDER_READ);
    uint64_t undecided = 0;
    /* Release, and acquire where it fails; pairs with itself. So subscribe returns behind the read
     * of the order word that decided, and what is published from then on is above it. */
    if (cas_release_else_acquire(&sub->first_seq, &undecided, first_seq))
        return first_seq;
    return undecided;
}

void subscription_unlink(struct exitbus_subscription *sub)
{
    registry_remove(list_of(sub), &sub->node);
    probe(PROBE_UNSUBSCRIBE_REMOVED);
}

static void subscription_free(struct rcu_head *rcu)
{
    struct block *block = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct exitbus_subscription *sub = container_of(block, struct exitbus_subscription, block);
    struct bus_core *core = sub->core;
    wakeup_destroy(&sub->wake_receiver);
    queue_destroy(&sub->head, &core->memory);
    memory_free(&core->memory,
                subscription_has_ids(sub) ? SUBSCRIPTION_IDS_CLASS : SUBSCRIPTION_CLASS, sub);
    memory_callback_end(&core->memory);
    core_release(core);
}

void subscription_release(struct exitbus_subscription *sub)
{
    if (fetch_sub_acq_rel(&sub->references, 1) != 1)
        return;
    wakeup_fd_close_when_unused(&sub->wake_publisher, &sub->wake_receiver);
    memory_defer(&sub->core->memory, &sub->block.reclaim, subscription_free);
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

int subscription_create(struct bus_core *core, const struct exitbus_topic *topic, uint32_t flags,
                        struct exitbus_subscription **subscription)
{
    bool ids;
    int result = topic_check(topic, &ids);
    if (result < 0)
        return result;
    struct exitbus_subscription *sub =
        memory_alloc(&core->memory, ids ? SUBSCRIPTION_IDS_CLASS : SUBSCRIPTION_CLASS);
    if (!sub)
        return -ENOMEM;
    queue_init(&sub->tail, &sub->head, &sub->first);
    if (flags & EXITBUS_SUBSCRIBE_ONE_SHOT)
        queue_set_one_shot(&sub->head);
    wakeup_init(&sub->wake_publisher, &sub->wake_receiver);
    atomic_init(&sub->references, 1);
    atomic_init(&sub->node.next, 0);
    sub->core = core;
    atomic_init(&sub->first_seq, 0);
    atomic_init(&sub->one_shot_seq, 0);
    sub->pid = topic->kind == EXITBUS_TOPIC_PID ? topic->pid : 0;
    sub->kind = (uint8_t)topic->kind;
    sub->flags = (uint8_t)flags;
    if (ids)
        topic_copy_ids(topic, sub->ids);
    fetch_add_relaxed(&core->references, 1);
    *subscription = sub;
    return 0;
}

void subscription_close(struct exitbus_subscription *sub)
{
    queue_close(&sub->head);
    probe(PROBE_UNSUBSCRIBE_CLOSED);
    wakeup_notify_closed(&sub->wake_publisher, &sub->wake_receiver);
    probe(PROBE_UNSUBSCRIBE_WOKEN);
}

void subscription_prepare(struct exitbus_subscription *sub)
{
    registry_announce(&sub->core->registry, (enum exitbus_topic_kind)sub->kind);
}

void subscription_link(struct exitbus_subscription *sub)
{
    registry_insert(list_of(sub), &sub->node);
    probe(PROBE_SUBSCRIBE_INSERTED);
    subscription_decide_start(sub);
    probe(PROBE_SUBSCRIBE_STARTED);
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
    reclaim_enter();
    subscription_close(sub);
    subscription_unlink(sub); /* also if the node is not there, or half-way in */
    subscription_release(sub);
    reclaim_leave();
}

int subscription_activate(struct exitbus_subscription *sub)
{
    struct bus_core *core = sub->core;
    subscription_prepare(sub);
    subscription_link(sub);
    /* The insert before the look; pairs with the fence in bus_destroy(). */
    fence_seq_cst();
    if (unlikely(load_acquire(&core->closed))) {
        subscription_close(sub);
        subscription_unlink(sub);
        return -ESHUTDOWN;
    }
    count_in(sub);
    return 0;
}

void subscription_unsubscribe(struct exitbus_subscription *sub)
{
    struct bus_core *core = sub->core;
    reclaim_enter();
    subscription_close(sub);
    subscription_unlink(sub);
    uint64_t taken = queue_taken(&sub->head);
    uint64_t appended = queue_appended(&sub->tail);
    if (!(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT)) /* a one-shot counts when it takes its event */
        fetch_add_relaxed(&core->delivered, taken);
    fetch_add_relaxed(&core->dropped, appended - taken);
    fetch_sub_relaxed(&core->subscriptions, 1);
    subscription_release(sub);
    reclaim_leave();
}
