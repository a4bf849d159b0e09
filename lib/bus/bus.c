/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bus: its begin and its end. The algorithms are in order.c and deliver.c.
 *
 * Why the end is right
 *  1. bus_destroy() runs behind the store of `closed`. It closes what is in the registry, and waits
 *     for a grace period. After that no thread is in a section of a publish. A thread that may be
 *     on its way into one keeps the bus: see 3, and exitbus_destroy() in the header.
 *  2. A subscribe links its subscription, and then looks at `closed`. So a subscription that comes
 *     while the bus ends is closed by one of the two.
 *  3. The memory goes with the last reference (the handle's, or a subscription's), once no reclaim
 *     callback is on its way.
 */
#include "bus/bus.h"
#include "base/fork_guard.h"

#include <errno.h>

/* -------------------------------------------------------------------------------- begin, end */

void bus_free(struct exitbus *bus)
{
    struct memory memory = bus->core.memory; /* a copy: the bus lies in what it is about to free */
    order_destroy(&bus->core.order);
    registry_destroy(&bus->core.registry, &bus->core.memory);
    memory_destroy(&bus->core.memory);
    memory.allocator.release(memory.allocator.context, bus, sizeof *bus);
}

static void bus_free_later(struct rcu_head *rcu)
{
    struct exitbus *bus = container_of(reclaim_callback_begin(rcu), struct exitbus, free_reclaim);
    if (memory_callbacks(&bus->core.memory) > 0)
        reclaim_defer(&bus->free_reclaim, bus_free_later); /* behind them */
    else
        bus_free(bus);
}

/* Context: in destroy, or in the callback that frees the last subscription. */
static void bus_last_reference(struct bus_core *core)
{
    struct exitbus *bus = container_of(core, struct exitbus, core);
    if (memory_callbacks(&core->memory) > 0)
        reclaim_defer(&bus->free_reclaim, bus_free_later);
    else
        bus_free(bus);
}

int bus_create(const struct exitbus_allocator *allocator, struct exitbus **bus)
{
    struct memory first;
    memory_init(&first, allocator, core_block_sizes, CORE_CLASSES);
    struct exitbus *fresh = memory_map(&first, sizeof *fresh, CACHE_LINE);
    if (!fresh)
        return -ENOMEM;
    memset((void *)fresh, 0, sizeof *fresh);
    struct bus_core *core = &fresh->core;
    memory_init(&core->memory, allocator, core_block_sizes, CORE_CLASSES);
    core->memory.destroy_object = subscription_destroy;
    atomic_init(&core->memory.bytes, sizeof *fresh);
    int result = registry_init(&core->registry, &core->memory);
    if (result < 0) {
        memory_unmap(&first, fresh, sizeof *fresh);
        return result;
    }
    order_init(&core->order, &core->memory, BATCH_CLASS, core_deliver, core);
    atomic_init(&core->references, 1);
    core->generation = fork_guard_generation();
    core->last_reference = bus_last_reference;
    *bus = fresh;
    return 0;
}

void bus_destroy(struct exitbus *bus)
{
    struct bus_core *core = &bus->core;
    /* `closed` before the look at the registry; pairs with subscription_activate()'s fence. */
    fence_seq_cst();
    reclaim_enter();
    core_close_subscriptions(core);
    reclaim_leave();
    reclaim_wait();
    memory_stop_trimming(&core->memory);
    memory_wait_callbacks(&core->memory);
    core_release(core);
}
