/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A sticky subscription ends while its event is received: it counts as delivered, or as dropped. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    int result = exitbus_receive(sub, &event, 0);
    assert(result == 0 || result == -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_stats stats;
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_STICKY);
    exitbus_subscription_ref(sub);
    publish(bus, 1);
    pthread_create(&thread, NULL, receiver, NULL);
    exitbus_unsubscribe(sub);
    pthread_join(thread, NULL);
    exitbus_stats(bus, &stats);
    assert(stats.delivered + stats.dropped == 1);
    return 0;
}
