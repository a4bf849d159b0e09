/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two subscriptions are made, one behind the other, while an event is published: one with a queue,
 * then one with a cursor. If the event came before the first, it came before the second.
 */
#include "model_test.h"

#include <stdbool.h>

static struct exitbus *bus;

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    bus = bus_new();
    struct exitbus_subscription *old = subscribe(bus, exitbus_topic_all());
    pthread_create(&thread, NULL, publisher, NULL);
    struct exitbus_subscription *first = subscribe(bus, exitbus_topic_pid(1));
    struct exitbus_subscription *second = subscribe(bus, exitbus_topic_all());
    pthread_join(thread, NULL);
    bool before_first = exitbus_receive(first, &event, 0) == -EAGAIN;
    bool before_second = exitbus_receive(second, &event, 0) == -EAGAIN;
    assert(!before_first || before_second);
    assert(exitbus_receive(old, &event, 0) == 0);
    return 0;
}
