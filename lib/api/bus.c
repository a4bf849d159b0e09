/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls for buses: create, destroy, the process-wide bus, statistics. */
#include "bus/bus.h"
#include "api/check.h"
#include "base/cancel.h"
#include "base/pin.h"
#include "process/reaper.h"

static _Atomic(struct exitbus *) default_bus;

static int process_begin(bool forked)
{
    if (forked)
        reaper_forget_parent();
    return reclaim_begin(forked);
}

/* Begin in this process, once: what threads need in order to use the library. Returns 0, -errno. */
static int process_init(void)
{
    /* Before any lock of ours, because a constructor that calls us may hold the loader's lock. */
    pin_library();
    return fork_guard_begin(process_begin);
}

int exitbus_create(struct exitbus **bus, const struct exitbus_options *options)
{
    CHECK_ARGUMENTS(bus && (!options || options->flags == 0));
    const struct exitbus_allocator *allocator = options ? options->allocator : NULL;
    CHECK_ARGUMENTS(!allocator || (allocator->allocate && allocator->release));
    int result = process_init();
    if (result == 0)
        result = reclaim_init();
    return result < 0 ? result : bus_create(allocator, bus);
}

static int destroy(struct exitbus *bus)
{
    if (reclaim_inside_registering())
        return -EDEADLK;
    int lost = 0;
    int result = reaper_bus_close(bus, &lost);
    if (result < 0)
        return result;
    bus_destroy(bus);
    return lost;
}

int exitbus_destroy(struct exitbus *bus)
{
    if (!bus)
        return 0;
    CHECK_GENERATION(&bus->core);
    if (bus == load_relaxed(&default_bus)) /* Relaxed: only compared */
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
    /* Release, and acquire where it fails; pairs with the load above: the bus is visible as made.
     * In a forked child the new bus takes the place of the parent's. */
    if (cas_release_else_acquire(&default_bus, &bus, fresh))
        return fresh;
    bus_free(fresh); /* another thread was faster, and no thread has seen this one */
    return bus;
}

int exitbus_thread_prepare(void)
{
    int result = process_init();
    return result < 0 ? result : epoch_prepare();
}

int exitbus_stats(struct exitbus *bus, struct exitbus_stats *stats)
{
    CHECK_ARGUMENTS(bus && stats);
    CHECK_GENERATION(&bus->core);
    core_stats(&bus->core, stats);
    return 0;
}
