/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The last subscription of a channel leaves, another comes, and a third thread publishes: either
 * the channel goes on, or a new one takes its place. Its memory is used again at once.
 */
#include "model_test.h"
#include <sched.h>

static struct exitbus *bus;
static struct exitbus_subscription *leaving;

static void *leaver(void *nothing)
{
    exitbus_unsubscribe(leaving);
    return nothing;
}

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    leaving = subscribe(bus, exitbus_topic_all());
    pthread_create(&threads[0], NULL, leaver, NULL);
    pthread_create(&threads[1], NULL, publisher, NULL);
    sched_yield(); /* the others may go first */
    struct exitbus_subscription *fresh = subscribe(bus, exitbus_topic_all());
    publish(bus, 2);
    publish(bus, 3);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    struct exitbus_subscription *queue = subscribe(bus, exitbus_topic_pid(4));
    publish(bus, 4);
    publish(bus, 4);
    int pids = 0;
    uint64_t latest = 0;
    while (exitbus_receive(fresh, &event, 0) == 0) {
        assert(latest == 0 || event.seq == latest + 1);
        latest = event.seq;
        pids |= 1 << event.pid;
    }
    assert(latest == 5 && (pids | 1 << 1) == (1 << 1 | 1 << 2 | 1 << 3 | 1 << 4));
    for (int i = 0; i < 2; i++)
        assert(exitbus_receive(queue, &event, 0) == 0 && event.pid == 4);
    return 0;
}
