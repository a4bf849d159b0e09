/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus itself, as any caller would use it: exitbus_publish one by one, exitbus_receive_batch.
 * The times of an event are given, as the reaper gives them: peers do not look at the clock either.
 */
#include "../must.h"
#include "all.h"

#include <stdlib.h>

struct bus {
    struct exitbus *bus;
    unsigned count;
    bool one_pid;
    struct exitbus_subscription **subscriptions;
};

static void *create(const struct shape *shape)
{
    struct bus *bus = peer_memory(sizeof *bus);
    must(exitbus_create(&bus->bus, NULL), "exitbus_create");
    bus->count = shape->subscriptions;
    bus->subscriptions = peer_memory(bus->count * sizeof(void *));
    bus->one_pid = shape->one_pid;
    for (unsigned i = 0; i < bus->count; i++)
        must(exitbus_subscribe(
                 bus->bus, bus->one_pid ? exitbus_topic_pid((pid_t)i + 1) : exitbus_topic_any_pid(),
                 0, &bus->subscriptions[i]),
             "exitbus_subscribe");
    return bus;
}

static void destroy(void *opaque)
{
    struct bus *bus = opaque;
    for (unsigned i = 0; i < bus->count; i++)
        must(exitbus_unsubscribe(bus->subscriptions[i]), "exitbus_unsubscribe");
    must(exitbus_destroy(bus->bus), "exitbus_destroy");
    free(bus->subscriptions);
    free(bus);
}

static void *end_open(void *bus)
{
    must(exitbus_thread_prepare(), "exitbus_thread_prepare");
    return bus;
}

static void end_close(void *end)
{
    (void)end;
}

static void publish(void *opaque, uint64_t first, unsigned count)
{
    struct bus *bus = opaque;
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID,
                                  .pid = 1,
                                  .monotonic_ns = 1,
                                  .realtime_ns = 1,
                                  .system_us = 1,
                                  .max_rss_kib = 1};
    for (uint64_t number = first; number < first + count; number++) {
        event.user_us = number;
        if (bus->one_pid)
            event.pid = (int32_t)(number % bus->count) + 1;
        int result = exitbus_publish(bus->bus, &event, NULL);
        if (result < 0)
            must(result, "exitbus_publish");
    }
}

static unsigned receive(void *opaque, unsigned subscription, unsigned limit, uint64_t *sum)
{
    struct bus *bus = opaque;
    struct exitbus_event events[RECEIVE_BATCH];
    unsigned taken = 0;
    while (taken < limit) {
        size_t wanted = limit - taken < RECEIVE_BATCH ? limit - taken : RECEIVE_BATCH;
        ssize_t count = exitbus_receive_batch(bus->subscriptions[subscription], events, wanted, 0);
        if (count <= 0)
            break;
        for (ssize_t i = 0; i < count; i++)
            *sum += events[i].user_us;
        taken += (unsigned)count;
    }
    return taken;
}

static void wait(void *opaque, unsigned subscription)
{
    struct bus *bus = opaque;
    struct exitbus_event event;
    must(exitbus_receive(bus->subscriptions[subscription], &event, -1), "exitbus_receive");
}

#define CHURN_PID_FIRST 1000000
#define CHURN_PIDS 4096

static void churn(void *opaque, unsigned count)
{
    struct bus *bus = opaque;
    for (unsigned i = 0; i < count; i++) {
        struct exitbus_subscription *subscription;
        pid_t pid = CHURN_PID_FIRST + (pid_t)(i % CHURN_PIDS);
        must(exitbus_subscribe(bus->bus, exitbus_topic_pid(pid), 0, &subscription),
             "exitbus_subscribe");
        must(exitbus_unsubscribe(subscription), "exitbus_unsubscribe");
    }
}

const struct peer exitbus_peer = {.name = EXITBUS,
                                  .what = "this library",
                                  .features = PEER_FIFO | PEER_TOPICS,
                                  .create = create,
                                  .destroy = destroy,
                                  .producer = end_open,
                                  .producer_end = end_close,
                                  .consumer = end_open,
                                  .consumer_end = end_close,
                                  .publish = publish,
                                  .receive = receive,
                                  .wait = wait,
                                  .churn = churn};
