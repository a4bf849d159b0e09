/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Channels: see channel.h. The log itself: queue/log.c.
 *
 * How it works
 *   - Publishers load the channel from its place in the registry, or find it in a container's list,
 *     behind the CAS that opens their turn. They append to its log, then look whether a receiver
 *     waits.
 *   - A subscribe counts itself in `members`, from 1 up. It makes a channel where there is none, or
 *     where the one that is there has ended. A container's is inserted where the search for one
 *     began, if nothing has come there meanwhile. So at most one has members.
 *   - One event count serves all blocking receivers, and all descriptors. A publisher that finds an
 *     announcement moves the epoch, wakes the sleepers, signals every descriptor in the list that
 *     is not signalled, and notes the epoch as woken.
 *
 * Why it is right
 *  1. Start. A channel's first seq is decided as a subscription's (subscription.c, 1), and before
 *     any join returns. A helper that is late for an older event skips the channel.
 *  2. A member finds its channel in the place until it leaves: `members` is 0 only behind the last
 *     leave, 0 is final, and only a channel with 0 is replaced or taken out. The same holds for a
 *     channel in a list.
 *  3. The block stays while a subscription's block refers to it. A receiver asleep holds a
 *     reference on its subscription. Publishers hold a section.
 *  4. Sleepers. As in event_count.c, but the futex is left alone while `sleepers` is 0. A receiver
 *     counts itself there before it announces. A publisher looks behind the move and a fence, which
 *     pairs with the announcement's. So it finds the count and wakes, or the receiver finds the
 *     moved epoch when it is about to sleep. A publisher stopped before it notes the epoch makes
 *     the next one do all of it again.
 *  5. Descriptors. A receiver first makes its descriptor's state say "not signalled", and then
 *     announces the epoch that it reads. A publisher first moves the epoch, and then reads the
 *     states. With a fence on each side, the publisher finds the state and signals the descriptor,
 *     or the receiver reads the moved epoch, and the publisher's note of it does not cover the
 *     announcement. An event appended before that is found by the look behind the announcement. A
 *     state without tokens that says "not signalled" was announced by the receiver that took the
 *     last one. (queue/event_fd.c says what the state is.)
 *     A descriptor that can't be written keeps its state, and a failure is counted. Then every
 *     publish walks the list, until all is signalled.
 *  6. A close wakes the sleepers of its own subscription, by their bit, and does not note the epoch
 *     as woken: others that sleep in it still wait for the next event. Only after very many closes
 *     without a publish all are woken, so that epochs stay comparable.
 */
#include "bus/channel.h"
#include "bus/subscription.h"
#include "queue/append.h"
#include "queue/event_count.h"
#include "queue/event_fd.h"

#include <errno.h>

/* --------------------------------------------------------------------------------- begin, end */

static unsigned class_of(enum exitbus_topic_kind kind)
{
    return kind == EXITBUS_TOPIC_CONTAINER ? CHANNEL_IDS_CLASS : CHANNEL_CLASS;
}

static struct channel *channel_new(struct bus_core *core, enum exitbus_topic_kind kind)
{
    struct channel *channel = memory_alloc(&core->memory, class_of(kind));
    if (!channel)
        return NULL;
    log_init(&channel->tail, &channel->first);
    atomic_init(&channel->first_seq, 0);
    atomic_init(&channel->wake.fd_state, WAKEUP_FD_NONE);
    event_count_init(&channel->wake, &channel->epoch);
    atomic_init(&channel->members, 1);
    atomic_init(&channel->references, 1);
    atomic_init(&channel->sleepers, 0);
    atomic_init(&channel->node.next, 0);
    atomic_init(&channel->descriptors, 0);
    atomic_init(&channel->failures, 0);
    atomic_init(&channel->failures_retried, 0);
    channel->kind = (uint8_t)kind;
    channel->core = core;
    return channel;
}

/* Count one more member. Returns false if the channel has ended. */
static bool member_add(struct channel *channel)
{
    uint32_t members = load_relaxed(&channel->members);
    while (members > 0)
        if (cas_weak_relaxed(&channel->members, &members, members + 1))
            return true;
    return false;
}

/* Returns a channel of a broad topic with one more member, or NULL. */
static struct channel *join_broad(struct bus_core *core, enum exitbus_topic_kind kind)
{
    _Atomic(struct channel *) *place = channel_place(&core->registry, kind);
    struct channel *fresh = NULL;
    /* Acquire, here and where the CAS fails; pairs with the CAS. */
    struct channel *channel = load_acquire(place);
    while (!channel || !member_add(channel)) {
        if (!fresh && !(fresh = channel_new(core, kind)))
            return NULL;
        /* Release; pairs with core_deliver(): the channel is visible as made. */
        if (cas_release_else_acquire(place, &channel, fresh)) {
            channel = fresh;
            fresh = NULL;
            break;
        }
    }
    if (fresh) /* never in its place, but the pool's stack wants a grace period: memory.h */
        memory_retire(&core->memory, CHANNEL_CLASS, fresh);
    return channel;
}

/* Look for a container's channel from a list's head on. It has one more member then. */
static struct channel *container_find(uintptr_t head, const struct topic_ids *ids)
{
    struct registry_node *node;
    for (node = registry_skip(head); node; node = registry_next(node)) {
        struct channel *channel = channel_of_node(node);
        if (topic_same_container(channel->ids, ids) && member_add(channel))
            return channel;
    }
    return NULL;
}

/* Returns a channel of a container with one more member, or NULL. */
static struct channel *join_container(struct bus_core *core, const struct exitbus_topic *topic)
{
    struct registry *registry = &core->registry;
    struct topic_ids ids;
    topic_copy_ids(topic, &registry->key, &ids);
    registry_list *list = registry_channels(registry, ids.hash);
    registry_announce(registry, EXITBUS_TOPIC_CONTAINER);
    struct channel *fresh = NULL, *channel;
    for (;;) {
        /* Acquire; pairs with registry_insert_at(). */
        uintptr_t head = load_acquire(list);
        channel = container_find(head, &ids);
        if (channel)
            break;
        if (!fresh && !(fresh = channel_new(core, EXITBUS_TOPIC_CONTAINER)))
            return NULL;
        *fresh->ids = ids;
        if (registry_insert_at(list, &fresh->node, head))
            return fresh;
    }
    if (fresh)
        memory_retire(&core->memory, CHANNEL_IDS_CLASS, fresh);
    return channel;
}

struct channel *channel_join(struct bus_core *core, const struct exitbus_topic *topic)
{
    struct channel *channel = topic->kind == EXITBUS_TOPIC_CONTAINER
                                  ? join_container(core, topic)
                                  : join_broad(core, topic->kind);
    if (!channel)
        return NULL;
    probe(PROBE_CHANNEL_JOINED);
    /* Each joining thread, since the one that made it may be stopped before it decides. */
    if (load_acquire(&channel->first_seq) == 0)
        order_decide_first(&core->order, &channel->first_seq);
    return channel;
}

static void channel_free(struct rcu_head *rcu)
{
    struct block *block = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct channel *channel = container_of(block, struct channel, block);
    struct memory *memory = &channel->core->memory;
    log_destroy(&channel->tail, memory);
    memory_free(memory, class_of((enum exitbus_topic_kind)channel->kind), channel);
    memory_callback_end(memory);
}

void channel_retain(struct channel *channel)
{
    fetch_add_relaxed(&channel->references, 1);
}

void channel_release(struct channel *channel)
{
    if (fetch_sub_acq_rel(&channel->references, 1) == 1)
        memory_defer(&channel->core->memory, &channel->block.reclaim, channel_free);
}

void channel_leave(struct channel *channel)
{
    /* Relaxed: what the members have used goes with the last reference, behind a grace period. */
    if (fetch_sub_relaxed(&channel->members, 1) > 1)
        return;
    probe(PROBE_CHANNEL_LEFT);
    struct registry *registry = &channel->core->registry;
    struct channel *self = channel;
    if (channel->kind == EXITBUS_TOPIC_CONTAINER)
        registry_remove(registry_channels(registry, channel->ids->hash), &channel->node);
    else /* Fails if a join has replaced it already. Relaxed: a section keeps the block. */
        cas_relaxed(channel_place(registry, (enum exitbus_topic_kind)channel->kind), &self, NULL);
    channel_release(channel);
}

/* ------------------------------------------------------------------------------------- deliver */

/* Signal those that need it. A failure is counted, so the next publish tries again. */
static void signal_descriptors(struct channel *channel)
{
    uint32_t failures = load_relaxed(&channel->failures);
    bool all = true;
    struct registry_node *node;
    for (node = registry_first(&channel->descriptors); node; node = registry_next(node)) {
        struct exitbus_subscription *sub = container_of(node, struct descriptor_entry, node)->sub;
        all &= event_fd_signal(&sub->wake_publisher, &sub->wake_receiver, false);
    }
    if (unlikely(!all))
        fetch_add_relaxed(&channel->failures, 1);
    else if (unlikely(load_relaxed(&channel->failures_retried) != failures))
        store_relaxed(&channel->failures_retried, failures); /* those from before the walk */
}

/* Wake all that wait. */
static void wake_all(struct channel *channel)
{
    probe(PROBE_CHANNEL_WAKING);
    uint32_t before = load_relaxed(&channel->wake.woken_epoch);
    uint32_t epoch = event_count_move(&channel->epoch);
    /* The move is visible before `sleepers` and the states are read; pairs with the fences in
     * wakeup_announce() and wakeup_fd_clear(). */
    fence_seq_cst();
    if (load_relaxed(&channel->sleepers) > 0)
        event_count_wake_sleepers(&channel->epoch, WAKEUP_ALL);
    signal_descriptors(channel);
    event_count_woken(&channel->wake, before, epoch);
}

static __attribute__((noinline)) void notify_slow(struct channel *channel)
{
    /* The append is visible before the look; pairs with the fence in channel_announce(). */
    fence_seq_cst();
    if (wakeup_may_sleep(&channel->wake))
        wake_all(channel);
    else if (unlikely(load_relaxed(&channel->failures) != load_relaxed(&channel->failures_retried)))
        signal_descriptors(channel);
}

static inline void notify(struct channel *channel)
{
    bool may_sleep = wakeup_may_sleep(&channel->wake);
    /* Sequentially consistent; pairs with the fence in wakeup_fd(). */
    uintptr_t descriptors = load_seq_cst(&channel->descriptors);
    if (unlikely(may_sleep || descriptors != 0))
        notify_slow(channel);
}

/* Epochs that may pass before one is noted as woken. Far below what int32_t compares. */
#define EPOCHS_MAX ((uint32_t)1 << 30)

void channel_wake_closed(struct channel *channel, uint32_t bits)
{
    uint32_t moved = event_count_move(&channel->epoch);
    event_count_wake_sleepers(&channel->epoch, bits);
    if (unlikely(moved - load_relaxed(&channel->wake.woken_epoch) > EPOCHS_MAX))
        wake_all(channel);
}

int channel_deliver(struct bus_core *core, struct channel *channel, uint64_t seq,
                    const struct record *record)
{
    /* Relaxed: as in deliver_one(). */
    uint64_t first_seq = load_relaxed(&channel->first_seq);
    if (unlikely(first_seq == 0))
        first_seq = order_decide_first(&core->order, &channel->first_seq);
    if (unlikely(seq < first_seq)) {
        if (seq == ORDER_WAKE_ONLY)
            notify(channel);
        return 0;
    }
    probe(PROBE_DELIVER_BEFORE_APPEND);
    int result = queue_append(&channel->tail, &core->memory, seq, record);
    probe(PROBE_DELIVER_BEFORE_WAKE);
    if (likely(result == 0))
        notify(channel);
    return result;
}

/* --------------------------------------------------------------------------------- descriptors */

void channel_announce(struct channel *channel)
{
    event_count_announce(&channel->wake, &channel->epoch);
    probe(PROBE_CHANNEL_ANNOUNCED);
    /* The announcement is visible before the look; pairs with the fence in notify_slow(). */
    fence_seq_cst();
}

/* What a subscription has in place of an entry once it is closed. */
static struct descriptor_entry no_entry;

int channel_list_descriptor(struct exitbus_subscription *sub)
{
    /* Acquire; pairs with the CAS below: the entry is in the list. */
    if (load_acquire(&sub->descriptor))
        return 0;
    struct memory *memory = &sub->core->memory;
    struct descriptor_entry *entry = memory_alloc(memory, SMALL_CLASS), *listed = NULL;
    if (!entry)
        return -ENOMEM;
    entry->sub = sub;
    atomic_init(&entry->node.next, 0);
    /* In the list before it is known, so no caller returns with a descriptor that is not. Another
     * one of this subscription may be there for a while: the descriptor is signalled once. */
    registry_insert(&sub->channel->descriptors, &entry->node);
    probe(PROBE_CHANNEL_LISTED);
    if (!cas_release_else_acquire(&sub->descriptor, &listed, entry)) {
        registry_remove(&sub->channel->descriptors, &entry->node);
        memory_retire(memory, SMALL_CLASS, entry);
    }
    return 0;
}

void channel_unlist_descriptor(struct exitbus_subscription *sub)
{
    struct descriptor_entry *entry = exchange_acquire(&sub->descriptor, &no_entry);
    if (!entry)
        return;
    registry_remove(&sub->channel->descriptors, &entry->node);
    memory_retire(&sub->core->memory, SMALL_CLASS, entry);
}
