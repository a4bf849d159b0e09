/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An event lacks memory for one subscription, and the other has had it. Both have a receiver that
 * waits. One of them finishes the event when there is memory; and then both get the next one.
 */
#include "memory_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *lacks, *has;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    assert(exitbus_receive(has, &event, -1) == 0 && event.seq == 3);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    bus = bus_new_lacking();
    lacks = subscribe(bus, exitbus_topic_pid(1));
    assert(exitbus_publish_pid(bus, 1, 0) == 0);
    assert(exitbus_receive(lacks, &event, 0) == 0);
    has = subscribe(bus, exitbus_topic_pid(1));
    set_lacking(1);
    assert(exitbus_publish_pid(bus, 1, 1) == 0);
    assert(exitbus_receive(has, &event, 0) == 0 && event.seq == 2);
    pthread_create(&thread, NULL, receiver, NULL);
    assert(exitbus_receive(lacks, &event, 5) == -ETIMEDOUT);
    set_lacking(0);
    assert(exitbus_receive(lacks, &event, -1) == 0 && event.seq == 2);
    assert(exitbus_publish_pid(bus, 1, 2) == 0);
    pthread_join(thread, NULL);
    assert(exitbus_receive(lacks, &event, 0) == 0 && event.seq == 3);
    return 0;
}
