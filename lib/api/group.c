/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls on groups. */
#include "process/group.h"
#include "api/check.h"
#include "base/cancel.h"

/* The group is this process's, and not a parent's: as CHECK_PROCESS() in process.c. */
#define CHECK_GROUP(group)                                                                         \
    do {                                                                                           \
        CHECK_ARGUMENTS(group);                                                                    \
        if (unlikely(!(group)->bus))                                                               \
            return -ESTALE;                                                                        \
        CHECK_GENERATION(&(group)->bus->core);                                                     \
    } while (0)

static bool options_are_valid(const struct exitbus *bus,
                              const struct exitbus_group_options *options)
{
    if (options->flags != 0 || event_id_size(options->name) <= 0)
        return false;
    switch (options->kind) {
    case EXITBUS_GROUP_SET:
        return true;
    case EXITBUS_GROUP_PROCESSES:
        return options->leader && options->leader->bus == bus;
    case EXITBUS_GROUP_CGROUP:
        return options->cgroup_fd >= 0;
    default:
        return false;
    }
}

int exitbus_group_create(struct exitbus *bus, const struct exitbus_group_options *options,
                         struct exitbus_group **group)
{
    CHECK_ARGUMENTS(bus && options && group);
    CHECK_GENERATION(&bus->core);
    CHECK_ARGUMENTS(options_are_valid(bus, options));
    if (bus_closed(bus))
        return -ESHUTDOWN;
    int cancelling = cancel_disable();
    int result = group_create(bus, options, group);
    cancel_restore(cancelling);
    return result;
}

int exitbus_group_add(struct exitbus_group *group, struct exitbus_process *process)
{
    CHECK_ARGUMENTS(process);
    CHECK_GROUP(group);
    return group_add(group, process);
}

int exitbus_group_end(struct exitbus_group *group, int signal, int64_t grace_ns)
{
    CHECK_ARGUMENTS(signal >= 0 && signal <= SIGRTMAX);
    CHECK_GROUP(group);
    return group_end(group, signal, grace_ns);
}

int exitbus_group_wait(struct exitbus_group *group, struct exitbus_event *event, int64_t timeout_ns)
{
    CHECK_ARGUMENTS(event);
    CHECK_GROUP(group);
    return group_wait(group, event, timeout_ns);
}

int exitbus_group_fd(struct exitbus_group *group)
{
    CHECK_GROUP(group);
    return outcome_fd(&group->outcome);
}

int exitbus_group_ref(struct exitbus_group *group)
{
    CHECK_GROUP(group);
    fetch_add_relaxed(&group->handles, 1);
    return 0;
}

int exitbus_group_unref(struct exitbus_group *group)
{
    if (!group)
        return 0;
    CHECK_GROUP(group);
    group_unref(group);
    return 0;
}
