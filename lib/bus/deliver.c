/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Delivery: one event to every subscription that matches it. Any number of threads deliver the same
 * event at once, and never two different ones (order.c, 1).
 */
#include "bus/channel.h"
#include "bus/core.h"
#include "bus/subscription.h"
#include "queue/append.h"

/*
 * Returns whether a one-shot subscription takes event `seq`. One that had its event before is
 * marked as gone, and *spent says so: the caller unlinks all of them by one walk, behind its own.
 */
static bool one_shot_takes(struct exitbus_subscription *sub, uint64_t seq, bool *spent)
{
    /* Relaxed: only the number matters. What is below `seq` is visible through the order word. */
    uint64_t event = load_relaxed(&sub->one_shot_seq);
    if (event == 0 && cas_relaxed(&sub->one_shot_seq, &event, seq))
        return true;
    if (event == seq)
        return true;
    if (event < seq) {
        registry_mark(&sub->node);
        *spent = true;
    }
    return false;
}

/* Unlink the one-shots that a walk has found spent. */
static inline void unlink_spent(registry_list *list, bool spent)
{
    if (likely(!spent))
        return;
    registry_unlink_marked(list);
    probe(PROBE_UNSUBSCRIBE_REMOVED);
}

/*
 * Deliver to one subscription. `core` is an argument, because the subscription's own pointer lies
 * on the receivers' line. Returns 0 or -ENOMEM.
 */
static inline int deliver_one(struct bus_core *core, struct exitbus_subscription *sub, uint64_t seq,
                              const struct record *record, bool *spent)
{
    /*
     * Relaxed. An event from first_seq on was ordered behind the decider's read-modify-write of the
     * order word, so each thread that delivers it has acquired the decision. An event below it is
     * not delivered, and nothing else follows from it here.
     */
    uint64_t first_seq = load_relaxed(&sub->first_seq);
    if (unlikely(first_seq == 0))
        first_seq = order_decide_first(&core->order, &sub->first_seq);
    if (seq < first_seq) {
        if (unlikely(seq == ORDER_WAKE_ONLY))
            wakeup_notify(&sub->wake_publisher, &sub->wake_receiver);
        return 0;
    }
    if (unlikely(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT) &&
        (!record_is_exit(record) || !one_shot_takes(sub, seq, spent)))
        return 0;
    probe(PROBE_DELIVER_BEFORE_APPEND);
    int result = queue_append(&sub->tail, &core->memory, seq, record);
    probe(PROBE_DELIVER_BEFORE_WAKE);
    if (likely(result == 0))
        wakeup_notify(&sub->wake_publisher, &sub->wake_receiver);
    return result;
}

static __attribute__((noinline)) int deliver_nodes(struct bus_core *core, registry_list *list,
                                                   struct registry_node *node, uint64_t seq,
                                                   const struct record *record)
{
    int result = 0;
    bool spent = false;
    struct registry_node *next;
    for (; node; node = next) {
        next = registry_next(node);
        if (next) /* fetched while this one is written */
            queue_prefetch(&subscription_of_node(next)->tail);
        int delivered = deliver_one(core, subscription_of_node(node), seq, record, &spent);
        if (unlikely(delivered < 0))
            result = delivered;
    }
    unlink_spent(list, spent);
    return result;
}

static inline int deliver_list(struct bus_core *core, registry_list *list, uint64_t seq,
                               const struct record *record)
{
    struct registry_node *node = registry_first(list);
    return likely(!node) ? 0 : deliver_nodes(core, list, node, seq, record);
}

static __attribute__((noinline)) int deliver_pid(struct bus_core *core, pid_t pid, uint64_t seq,
                                                 const struct record *record)
{
    int result = 0;
    bool spent = false;
    registry_list *list = registry_find(&core->registry, EXITBUS_TOPIC_PID, pid, 0);
    for (struct registry_node *node = registry_first(list); node; node = registry_next(node)) {
        struct exitbus_subscription *sub = subscription_of_node(node);
        if (sub->kind != EXITBUS_TOPIC_PID || sub->pid != pid)
            continue;
        queue_prefetch_all(&sub->tail); /* it may be one of very many, and lie in no cache */
        int delivered = deliver_one(core, sub, seq, record, &spent);
        if (unlikely(delivered < 0))
            result = delivered;
    }
    unlink_spent(list, spent);
    return result;
}

static int deliver_ids(struct bus_core *core, enum exitbus_topic_kind kind, uint64_t hash,
                       const struct record_key *key, uint64_t seq, const struct record *record)
{
    int result = 0;
    bool spent = false;
    registry_list *list = registry_find(&core->registry, kind, 0, hash);
    for (struct registry_node *node = registry_first(list); node; node = registry_next(node)) {
        struct exitbus_subscription *sub = subscription_of_node(node);
        if (sub->kind != kind || sub->ids->hash != hash)
            continue;
        if (kind == EXITBUS_TOPIC_CONTAINER ? !topic_matches_container(sub->ids, key)
                                            : !topic_matches_exec(sub->ids, key))
            continue;
        int delivered = deliver_one(core, sub, seq, record, &spent);
        if (unlikely(delivered < 0))
            result = delivered;
    }
    unlink_spent(list, spent);
    return result;
}

/* Deliver to the subscriptions of a broad topic. Returns 0 or -ENOMEM. */
static inline int deliver_channel(struct bus_core *core, _Atomic(struct channel *) *place,
                                  uint64_t seq, const struct record *record)
{
    /* Acquire; pairs with channel_join(). Loaded behind the CAS that opened the turn, and never
     * kept from before: a channel that was made in between is owed the event. */
    struct channel *channel = load_acquire(place);
    return channel ? channel_deliver(core, channel, seq, record) : 0;
}

/* Deliver to the channels of a container. Returns 0 or -ENOMEM. */
static int deliver_container(struct bus_core *core, uint64_t hash, const struct record_key *key,
                             uint64_t seq, const struct record *record)
{
    int result = 0;
    struct registry_node *node = registry_first(registry_channels(&core->registry, hash));
    for (; node; node = registry_next(node)) {
        struct channel *channel = channel_of_node(node);
        if (channel->ids->hash == hash && topic_matches_container(channel->ids, key))
            result |= channel_deliver(core, channel, seq, record);
    }
    return result;
}

/* Deliver to those subscriptions that only exec events match. Returns 0 or -ENOMEM. */
static __attribute__((noinline)) int deliver_exec(struct bus_core *core, uint64_t seq,
                                                  const struct record *record)
{
    struct registry *registry = &core->registry;
    struct record_key key = record_key(record);
    int result = deliver_channel(core, &registry->any_exec_channel, seq, record);
    result |= deliver_list(core, &registry->any_exec, seq, record);
    if (registry_has(&registry->containers) || registry_has(&registry->execs)) {
        uint64_t hash =
            topic_hash_container(&registry->key, key.container_id, key.container_id_size);
        result |= deliver_container(core, hash, &key, seq, record);
        result |= deliver_ids(core, EXITBUS_TOPIC_CONTAINER, hash, &key, seq, record);
        hash = topic_hash_exec(&registry->key, hash, key.exec_id, key.exec_id_size);
        result |= deliver_ids(core, EXITBUS_TOPIC_EXEC, hash, &key, seq, record);
    }
    return result;
}

int core_deliver(void *context, uint64_t seq, const struct record *record)
{
    struct bus_core *core = context;
    struct registry *registry = &core->registry;
    int result = deliver_channel(core, &registry->all_channel, seq, record);
    result |= deliver_list(core, &registry->all, seq, record); /* each is 0 or -ENOMEM */
    if (unlikely(!record_is_pid(record)))
        return result | deliver_exec(core, seq, record);
    result |= deliver_channel(core, &registry->any_pid_channel, seq, record);
    result |= deliver_list(core, &registry->any_pid, seq, record);
    if (registry_has(&registry->pids))
        result |= deliver_pid(core, record_pid(record), seq, record);
    return result;
}
