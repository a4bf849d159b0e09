/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Subscribers that stay for the whole run: see scenarios.h. */
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "scenarios.h"

#include <inttypes.h>

#define BATCH 64
#define NAP_NS 2000000

static _Thread_local struct exitbus_event events[BATCH];

void *scenario_steady(void *argument)
{
    unsigned me = (unsigned)(uintptr_t)argument;
    struct exitbus_topic topic = exitbus_topic_all();
    struct exitbus_subscription *subscription;
    int result = exitbus_subscribe(world.bus, topic, 0, &subscription);
    if (result < 0) {
        verdict_violated(G8, "subscribe: %s", exitbus_strerror(result));
        return NULL;
    }
    struct stream stream;
    stream_begin(&stream, &topic);
    for (;;) {
        bool last = flag(&world.drained);
        ssize_t got = exitbus_receive_batch(subscription, events, BATCH, last ? 0 : NAP_NS);
        if (got > 0) {
            stream_check(&stream, events, (size_t)got);
            atomic_store_explicit(&world.steady[me].taken, stream.received, memory_order_relaxed);
        } else if (last) {
            break;
        }
    }
    uint64_t done[PRODUCERS_MAX];
    stream_snapshot(done);
    stream_end(&stream, done);
    exitbus_unsubscribe(subscription);
    return NULL;
}

void *scenario_sloth(void *argument)
{
    struct exitbus_topic topic = synthetic_topic(2, (unsigned)(uintptr_t)argument);
    struct exitbus_subscription *subscription;
    int result = exitbus_subscribe(world.bus, topic, 0, &subscription);
    if (result < 0) {
        verdict_violated(G8, "subscribe: %s", exitbus_strerror(result));
        return NULL;
    }
    struct stream stream;
    stream_begin(&stream, &topic);
    const struct timespec nap = {.tv_nsec = 10000000};
    while (!flag(&world.drained))
        nanosleep(&nap, NULL);
    uint64_t backlog = (uint64_t)exitbus_pending(subscription);
    ssize_t got;
    while ((got = exitbus_receive_batch(subscription, events, BATCH, 0)) > 0)
        stream_check(&stream, events, (size_t)got);
    uint64_t done[PRODUCERS_MAX];
    stream_snapshot(done);
    stream_end(&stream, done);
    if (stream.received != backlog)
        verdict_violated(G1, "%" PRIu64 " events were pending, %" PRIu64 " came", backlog,
                         stream.received);
    verdict_held(G4, backlog);
    exitbus_unsubscribe(subscription);
    return NULL;
}
