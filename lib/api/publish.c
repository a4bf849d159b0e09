/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls that publish. */
#include "api/check.h"
#include "bus/bus.h"

int exitbus_publish(struct exitbus *bus, const struct exitbus_event *event, uint64_t *seq)
{
    CHECK_ARGUMENTS(bus && event);
    CHECK_GENERATION(&bus->core);
    CHECK_ARGUMENTS(event_check(event) == 0);
    return bus_publish(bus, event, 1, seq);
}

int exitbus_publish_batch(struct exitbus *bus, const struct exitbus_event *events, size_t count,
                          uint64_t *first_seq)
{
    CHECK_ARGUMENTS(bus && events && count > 0 && count <= EXITBUS_BATCH_MAX);
    CHECK_GENERATION(&bus->core);
    for (size_t i = 0; i < count; i++)
        CHECK_ARGUMENTS(event_check(&events[i]) == 0);
    return bus_publish(bus, events, count, first_seq);
}

int exitbus_publish_pid(struct exitbus *bus, pid_t pid, int exit_code)
{
    CHECK_ARGUMENTS(bus && pid > 0);
    CHECK_GENERATION(&bus->core);
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    event_from_code(&event, exit_code);
    return bus_publish(bus, &event, 1, NULL);
}

int exitbus_publish_exec(struct exitbus *bus, const char *container_id, const char *exec_id,
                         int exit_code)
{
    int container_size = event_id_size(container_id);
    int exec_size = event_id_size(exec_id);
    CHECK_ARGUMENTS(bus && container_size > 0 && exec_size >= 0);
    CHECK_GENERATION(&bus->core);
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC};
    event_from_code(&event, exit_code);
    memcpy(event.container_id, container_id, (size_t)container_size);
    memcpy(event.exec_id, exec_id, (size_t)exec_size);
    return bus_publish(bus, &event, 1, NULL);
}

int exitbus_publish_wait(struct exitbus *bus, pid_t pid, int wait_status,
                         const struct rusage *usage)
{
    CHECK_ARGUMENTS(bus && pid > 0);
    CHECK_GENERATION(&bus->core);
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    if (!event_from_status(&event, wait_status))
        return -EINVAL;
    if (usage)
        event_set_usage(&event, usage);
    return bus_publish(bus, &event, 1, NULL);
}
