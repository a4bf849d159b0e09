/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Buses: create, destroy, the process-wide one, publish and statistics. What has an algorithm to it
 * is in order.c and subscription.c.
 *
 * End of a bus. destroy sets `closed` (reaper_bus_close), closes what is in the registry, and waits for a
 * grace period, after which no publish is in progress. subscribe inserts first and then looks at
 * `closed`, so one of the two closes a subscription that comes at that moment. The memory goes when
 * the last reference does (the handle, each subscription) and no reclaim callback is on its way.
 */
#include "bus/bus.h"
#include "base/cancel.h"
#include "base/fork_guard.h"
#include "base/sys.h"
#include "process/reaper.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>

static _Atomic(struct exitbus *) default_bus;

/* ------------------------------------------------------------------------------------ pinned */

/* Absent from a program that is linked statically, which nobody unloads. */
extern int dladdr1(const void *, Dl_info *, void **, int) __attribute__((weak));
extern void *dlopen(const char *, int) __attribute__((weak));

/*
 * The worker and the end of each thread that was in the library run its code: what contains it must
 * stay mapped. The shared library is linked so (-z nodelete); the archive may be part of a plugin.
 */
static void pin_library(void)
{
    static _Atomic bool pinned; /* and a forked child inherits that */
    if (exchange_relaxed(&pinned, true))
        return;
    struct link_map *map = NULL;
    Dl_info info;
    if (dladdr1 && dlopen && dladdr1(&default_bus, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 &&
        map && map->l_name && map->l_name[0])
        (void)dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/* ---------------------------------------------------------------------------- create, destroy */

static void bus_free(struct exitbus *bus)
{
    struct memory memory = bus->hub.memory; /* the bus itself lies in what it is about to free */
    order_finish(&bus->hub.order);
    registry_finish(&bus->hub.registry, &bus->hub.memory);
    memory_finish(&bus->hub.memory);
    memory.allocator.release(memory.allocator.context, bus, sizeof *bus);
}

static void bus_free_later(struct rcu_head *rcu)
{
    struct exitbus *bus = container_of(reclaim_callback_begin(rcu), struct exitbus, free_reclaim);
    if (memory_callbacks(&bus->hub.memory) > 0)
        reclaim_later(&bus->free_reclaim, bus_free_later); /* behind them */
    else
        bus_free(bus);
}

/* In destroy, or in the callback that frees the last subscription. */
static void bus_last_reference(struct hub *hub)
{
    struct exitbus *bus = container_of(hub, struct exitbus, hub);
    if (memory_callbacks(&hub->memory) > 0)
        reclaim_later(&bus->free_reclaim, bus_free_later);
    else
        bus_free(bus);
}

static int process_begin(bool forked)
{
    if (forked)
        reaper_forget_parent();
    return reclaim_begin(forked);
}

/* Once in each process: what its threads need to use the library. */
static int process_init(void)
{
    /* Before any lock of ours: dlopen() takes the loader's, under which a constructor may come
     * here. */
    pin_library();
    return fork_guard_begin(process_begin);
}

int exitbus_create(struct exitbus **bus, const struct exitbus_options *options)
{
    if (!bus || (options && options->flags != 0))
        return -EINVAL;
    const struct exitbus_allocator *allocator = options ? options->allocator : NULL;
    if (allocator && (!allocator->allocate || !allocator->release))
        return -EINVAL;
    int result = process_init();
    if (result == 0)
        result = reclaim_init();
    if (result < 0)
        return result;

    struct memory first;
    memory_init(&first, allocator, hub_block_sizes, HUB_CLASSES);
    struct exitbus *fresh = memory_map(&first, sizeof *fresh, CACHE_LINE);
    if (!fresh)
        return -ENOMEM;
    memset((void *)fresh, 0, sizeof *fresh);
    struct hub *hub = &fresh->hub;
    memory_init(&hub->memory, allocator, hub_block_sizes, HUB_CLASSES);
    atomic_init(&hub->memory.bytes, sizeof *fresh);
    result = registry_init(&hub->registry, &hub->memory);
    if (result < 0) {
        memory_unmap(&first, fresh, sizeof *fresh);
        return result;
    }
    order_init(&hub->order, &hub->memory, hub_deliver, hub);
    atomic_init(&hub->references, 1);
    hub->generation = fork_guard_generation();
    hub->last_reference = bus_last_reference;
    *bus = fresh;
    return 0;
}

static int destroy(struct exitbus *bus)
{
    if (reclaim_inside())
        return -EDEADLK;
    int lost = 0;
    int result = reaper_bus_close(bus, &lost);
    if (result < 0)
        return result;
    struct hub *hub = &bus->hub;
    /* `closed` before the look at the registry; pairs with the fence in subscription_activate. */
    fence_seq_cst();
    reclaim_enter();
    hub_close_subscriptions(hub);
    reclaim_leave();
    reclaim_wait();
    memory_end(&hub->memory);
    memory_wait_callbacks(&hub->memory);
    hub_release(hub);
    return lost;
}

int exitbus_destroy(struct exitbus *bus)
{
    if (!bus)
        return 0;
    if (bus_stale(bus))
        return -ESTALE;
    if (bus == load_relaxed(&default_bus)) /* only compared */
        return -EPERM;
    int cancelling = cancel_disable();
    int result = destroy(bus);
    cancel_restore(cancelling);
    return result;
}

struct exitbus *exitbus_default(void)
{
    struct exitbus *bus = load_acquire(&default_bus);
    if (likely(bus && !bus_stale(bus)))
        return bus;
    struct exitbus *fresh;
    int result = exitbus_create(&fresh, NULL);
    if (result < 0) {
        errno = -result;
        return NULL;
    }
    /* In a forked child it takes the place of the parent's. */
    if (cas_release_else_acquire(&default_bus, &bus, fresh))
        return fresh;
    bus_free(fresh); /* another was faster; nobody has seen this one */
    return bus;
}

int exitbus_thread_prepare(void)
{
    int result = process_init();
    return result < 0 ? result : epoch_prepare();
}

int exitbus_subscribe(struct exitbus *bus, struct exitbus_topic topic, uint32_t flags,
                      struct exitbus_subscription **subscription)
{
    if (!bus || !subscription || (flags & ~EXITBUS_SUBSCRIBE_ONE_SHOT))
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    if (bus_closed(bus))
        return -ESHUTDOWN;
    struct exitbus_subscription *sub;
    reclaim_enter();
    int result = subscription_create(&bus->hub, &topic, flags, &sub);
    if (result == 0) {
        result = subscription_activate(sub);
        if (result == 0)
            *subscription = sub;
        else
            subscription_discard(sub);
    }
    reclaim_leave();
    return result;
}

/* ------------------------------------------------------------------------------------ publish */

int bus_publish(struct exitbus *bus, const struct exitbus_event *events, size_t count,
                uint64_t *seq)
{
    uint64_t first;
    reclaim_enter();
    int result =
        bus_closed(bus) ? -ESHUTDOWN : order_publish(&bus->hub.order, events, count, &first);
    reclaim_leave();
    if (result == 0 && seq)
        *seq = first;
    return result;
}

static int check_and_publish(struct exitbus *bus, const struct exitbus_event *events, size_t count,
                             uint64_t *seq)
{
    for (size_t i = 0; i < count; i++) {
        int result = event_check(&events[i]);
        if (result < 0)
            return result;
    }
    return bus_publish(bus, events, count, seq);
}

int exitbus_publish(struct exitbus *bus, const struct exitbus_event *event, uint64_t *seq)
{
    if (!bus || !event)
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    return check_and_publish(bus, event, 1, seq);
}

int exitbus_publish_batch(struct exitbus *bus, const struct exitbus_event *events, size_t count,
                          uint64_t *first_seq)
{
    if (!bus || !events || count == 0 || count > EXITBUS_BATCH_MAX)
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    return check_and_publish(bus, events, count, first_seq);
}

int exitbus_publish_pid(struct exitbus *bus, pid_t pid, int exit_code)
{
    if (!bus || pid <= 0)
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    event_from_code(&event, exit_code);
    return bus_publish(bus, &event, 1, NULL);
}

int exitbus_publish_exec(struct exitbus *bus, const char *container_id, const char *exec_id,
                         int exit_code)
{
    int container_size = event_id_size(container_id);
    int exec_size = event_id_size(exec_id);
    if (!bus || container_size <= 0 || exec_size < 0)
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC};
    event_from_code(&event, exit_code);
    memcpy(event.container_id, container_id, (size_t)container_size);
    memcpy(event.exec_id, exec_id, (size_t)exec_size);
    return bus_publish(bus, &event, 1, NULL);
}

int exitbus_publish_wait(struct exitbus *bus, pid_t pid, int wait_status,
                         const struct rusage *usage)
{
    if (!bus || pid <= 0)
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    if (!event_from_status(&event, wait_status))
        return -EINVAL;
    if (usage)
        event_set_usage(&event, usage);
    return bus_publish(bus, &event, 1, NULL);
}

/* --------------------------------------------------------------------------------- statistics */

int exitbus_stats(struct exitbus *bus, struct exitbus_stats *stats)
{
    if (!bus || !stats)
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    struct hub *hub = &bus->hub;
    struct exitbus_stats sum = {0};
    reclaim_enter();
    sum.published = order_count(&hub->order);
    sum.delivered = load_relaxed(&hub->delivered);
    sum.dropped = load_relaxed(&hub->dropped);
    sum.subscriptions = load_relaxed(&hub->subscriptions);
    sum.bytes = load_relaxed(&hub->memory.bytes);
    sum.helped = load_relaxed(&hub->order.helped);
    hub_sum(hub, &sum);
    reclaim_leave();
    *stats = sum;
    return 0;
}
