/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls that receive, and that look at what was received. */
#include "api/check.h"
#include "bus/subscription.h"
#include "event/event.h"

int exitbus_event_details(const struct exitbus_event *event, struct exitbus_event_details *details)
{
    CHECK_ARGUMENTS(event && details);
    return event_details(event, details);
}

int exitbus_receive(struct exitbus_subscription *sub, struct exitbus_event *event,
                    int64_t timeout_ns)
{
    CHECK_ARGUMENTS(sub && event);
    CHECK_SUBSCRIPTION_GENERATION(sub);
    ssize_t count = subscription_receive(sub, event, 1, timeout_ns);
    return count < 0 ? (int)count : 0;
}

ssize_t exitbus_receive_batch(struct exitbus_subscription *sub, struct exitbus_event *events,
                              size_t capacity, int64_t timeout_ns)
{
    CHECK_ARGUMENTS(sub && events && capacity > 0);
    CHECK_SUBSCRIPTION_GENERATION(sub);
    return subscription_receive(sub, events, capacity, timeout_ns);
}

/* Returns whether all events of the subscription are of this process. */
static bool is_of_pid(const struct exitbus_subscription *sub, pid_t pid)
{
    return sub->kind == EXITBUS_TOPIC_PID && sub->pid == pid;
}

int exitbus_receive_pid(struct exitbus_subscription *sub, pid_t pid, struct exitbus_event *event,
                        uint64_t *discarded, int64_t timeout_ns)
{
    CHECK_ARGUMENTS(sub && pid > 0 && event);
    CHECK_SUBSCRIPTION_GENERATION(sub);
    CHECK_ARGUMENTS(discarded || is_of_pid(sub, pid));
    uint64_t count = 0;
    int result = subscription_receive_pid(sub, pid, event, &count, timeout_ns);
    if (discarded)
        *discarded = count;
    return result;
}

int exitbus_subscription_fd(struct exitbus_subscription *sub)
{
    CHECK_ARGUMENTS(sub);
    CHECK_SUBSCRIPTION_GENERATION(sub);
    return subscription_fd(sub);
}

ssize_t exitbus_subscription_pending(struct exitbus_subscription *sub)
{
    CHECK_ARGUMENTS(sub);
    CHECK_SUBSCRIPTION_GENERATION(sub);
    return (ssize_t)subscription_pending(sub);
}
