/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A publisher stops for ever behind the CAS that has opened its turn. Another one helps, and a
 * receiver that goes to sleep meanwhile gets the event.
 */
#include "stop_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    assert(exitbus_receive(sub, &event, -1) == 0 && event.pid == 1);
    return nothing;
}

int main(void)
{
    static const enum probe steps[] = {PROBE_PUBLISH_ORDERED, PROBE_DELIVER_BEFORE_WAKE};
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_pid(1));
    stop_at(steps, 2);
    pthread_create(&threads[0], NULL, stopping_publisher, bus);
    pthread_create(&threads[1], NULL, receiver, NULL);
    stop_await();
    publish(bus, 2);
    pthread_join(threads[1], NULL);
    return 0;
}
