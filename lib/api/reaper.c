/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls on reapers, and on what they leave behind. */
#include "process/reaper.h"
#include "api/check.h"
#include "base/cancel.h"
#include "process/journal.h"

#define WATCHED_FLAGS (EXITBUS_REAPER_POLLED | EXITBUS_REAPER_DETAILS | EXITBUS_REAPER_RECORD)
#define REAPER_FLAGS                                                                               \
    (EXITBUS_REAPER_SUBREAPER | EXITBUS_REAPER_SIGNALFD | EXITBUS_REAPER_ORPHANS | WATCHED_FLAGS)

static bool options_are_valid(const struct exitbus_reaper_options *options)
{
    switch (options->mode) {
    case EXITBUS_REAPER_ALL:
        return (options->flags & ~REAPER_FLAGS) == 0;
    case EXITBUS_REAPER_WATCHED:
        return (options->flags & ~WATCHED_FLAGS) == 0;
    default:
        return false;
    }
}

int exitbus_reaper_start(struct exitbus *bus, const struct exitbus_reaper_options *options,
                         struct exitbus_reaper **reaper)
{
    CHECK_ARGUMENTS(bus && options && reaper && options_are_valid(options));
    CHECK_GENERATION(&bus->core);
    int cancelling = cancel_disable();
    int result = reaper_start(bus, options, reaper);
    cancel_restore(cancelling);
    return result;
}

int exitbus_reaper_stop(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return 0;
    CHECK_GENERATION(&reaper_bus(reaper)->core);
    int cancelling = cancel_disable();
    int result = reaper_stop(reaper);
    cancel_restore(cancelling);
    return result;
}

int exitbus_reaper_watch(struct exitbus_reaper *reaper, pid_t pid)
{
    CHECK_ARGUMENTS(reaper && pid > 0);
    CHECK_GENERATION(&reaper_bus(reaper)->core);
    return reaper_watch(reaper, pid);
}

int exitbus_reaper_record(struct exitbus_reaper *reaper, int record_fd)
{
    CHECK_ARGUMENTS(reaper);
    CHECK_GENERATION(&reaper_bus(reaper)->core);
    return reaper_record(reaper, record_fd);
}

int exitbus_reaper_fd(struct exitbus_reaper *reaper)
{
    CHECK_ARGUMENTS(reaper);
    CHECK_GENERATION(&reaper_bus(reaper)->core);
    return reaper_fd(reaper);
}

int exitbus_reaper_poll(struct exitbus_reaper *reaper)
{
    CHECK_ARGUMENTS(reaper);
    CHECK_GENERATION(&reaper_bus(reaper)->core);
    return reaper_poll(reaper);
}

int exitbus_record_read(int fd, uint64_t *offset, struct exitbus_event *event)
{
    CHECK_ARGUMENTS(offset && event);
    return journal_read(fd, offset, event);
}
