/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Destroy against subscribe and publish: each of them succeeds or says that the bus is closed. */
#include "model_test.h"

static struct exitbus *bus;

static void *subscriber(void *nothing)
{
    struct exitbus_subscription *sub;
    struct exitbus_event event;
    int result = exitbus_subscribe(bus, exitbus_topic_all(), 0, &sub);
    assert(result == 0 || result == -ESHUTDOWN);
    if (result == 0) {
        result = exitbus_receive(sub, &event, -1);
        assert(result == 0 || result == -ESHUTDOWN);
        exitbus_unsubscribe(sub);
    }
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    struct exitbus_subscription *keeps = subscribe(bus, exitbus_topic_pid(9)); /* the bus alive */
    pthread_create(&thread, NULL, subscriber, NULL);
    publish(bus, 1);
    assert(exitbus_destroy(bus) == 0);
    pthread_join(thread, NULL);
    assert(exitbus_unsubscribe(keeps) == 0);
    return 0;
}
