/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An event lacks memory. Its sleeping receiver is woken for that, tries again by itself, and gets
 * it once there is some again, though no thread publishes any more.
 */
#include "memory_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    assert(exitbus_receive(sub, &event, -1) == 0 && event.pid == 2);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    bus = bus_new_lacking();
    sub = subscribe(bus, exitbus_topic_all());
    publish(bus, 1);
    assert(exitbus_receive(sub, &event, 0) == 0);
    set_lacking(1);
    pthread_create(&thread, NULL, receiver, NULL);
    publish(bus, 2); /* needs a second segment */
    set_lacking(0);
    pthread_join(thread, NULL);
    return 0;
}
