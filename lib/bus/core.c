/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The core of a bus: see core.h. */
#include "bus/core.h"
#include "bus/channel.h"
#include "bus/subscription.h"

#define ROUND_TO_LINE(size) (((size) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)

const size_t core_block_sizes[CORE_CLASSES] = {
    [SEGMENT_CLASS_4] = SEGMENT_BYTES(4),
    [SEGMENT_CLASS_16] = SEGMENT_BYTES(16),
    [SEGMENT_CLASS_126] = SEGMENT_BYTES(126),
    [SUBSCRIPTION_CLASS] = sizeof(struct exitbus_subscription),
    [SUBSCRIPTION_IDS_CLASS] =
        ROUND_TO_LINE(sizeof(struct exitbus_subscription) + sizeof(struct topic_ids)),
    [CURSOR_CLASS] = offsetof(struct exitbus_subscription, first),
    [CHANNEL_CLASS] = sizeof(struct channel),
    [CHANNEL_IDS_CLASS] = ROUND_TO_LINE(sizeof(struct channel) + sizeof(struct topic_ids)),
    [BATCH_CLASS] = sizeof(struct batch),
    [SMALL_CLASS] = SMALL_BYTES,
    [PROCESS_CLASS] = PROCESS_BYTES,
    [GROUP_CLASS] = GROUP_BYTES,
};

void core_release(struct bus_core *core)
{
    /* Release and acquire; pairs with itself: the last owner frees what the others have used. */
    if (fetch_sub_acq_rel(&core->references, 1) == 1)
        core->last_reference(core);
}

static void visit_close(struct registry_node *node, void *context)
{
    (void)context;
    subscription_close(subscription_of_node(node));
}

void core_close_subscriptions(struct bus_core *core)
{
    registry_visit(&core->registry, visit_close, NULL);
}

static void visit_sum(struct registry_node *node, void *context)
{
    struct exitbus_subscription *sub = subscription_of_node(node);
    struct exitbus_stats *stats = context;
    if (!(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT))
        stats->delivered += subscription_taken(sub);
    stats->sleeping_receivers += load_relaxed(&sub->wake_receiver.sleepers);
}

void core_stats(struct bus_core *core, struct exitbus_stats *stats)
{
    struct exitbus_stats sum = {0};
    reclaim_enter();
    sum.published = order_count(&core->order);
    sum.delivered = load_relaxed(&core->delivered);
    sum.dropped = load_relaxed(&core->dropped);
    sum.subscriptions = load_relaxed(&core->subscriptions);
    sum.bytes = load_relaxed(&core->memory.bytes);
    sum.helped = load_relaxed(&core->order.helped);
    registry_visit(&core->registry, visit_sum, &sum);
    reclaim_leave();
    *stats = sum;
}
