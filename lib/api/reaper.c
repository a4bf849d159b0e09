/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The calls on reapers: arguments, the fork check, and one call to process/reaper.h. */
#include "process/reaper.h"
#include "base/cancel.h"

#include <errno.h>

#define REAPER_FLAGS (EXITBUS_REAPER_SUBREAPER | EXITBUS_REAPER_POLLED)

static bool options_are_valid(const struct exitbus_reaper_options *options)
{
    switch (options->mode) {
    case EXITBUS_REAPER_ALL:
        return (options->flags & ~REAPER_FLAGS) == 0;
    case EXITBUS_REAPER_WATCHED:
        return (options->flags & ~EXITBUS_REAPER_POLLED) == 0;
    default:
        return false;
    }
}

int exitbus_reaper_start(struct exitbus *bus, const struct exitbus_reaper_options *options,
                         struct exitbus_reaper **reaper)
{
    if (!bus || !options || !reaper || !options_are_valid(options))
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    int cancelling = cancel_disable();
    int result = reaper_start(bus, options, reaper);
    cancel_restore(cancelling);
    return result;
}

int exitbus_reaper_stop(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return 0;
    if (reaper_stale(reaper))
        return -ESTALE;
    int cancelling = cancel_disable();
    int result = reaper_stop(reaper);
    cancel_restore(cancelling);
    return result;
}

int exitbus_reaper_watch(struct exitbus_reaper *reaper, pid_t pid)
{
    if (!reaper || pid <= 0)
        return -EINVAL;
    return reaper_stale(reaper) ? -ESTALE : reaper_watch(reaper, pid);
}

int exitbus_reaper_fd(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return -EINVAL;
    return reaper_stale(reaper) ? -ESTALE : reaper_fd(reaper);
}

int exitbus_reaper_poll(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return -EINVAL;
    return reaper_stale(reaper) ? -ESTALE : reaper_poll(reaper);
}
