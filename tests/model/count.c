/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A queue is asked what is in it, and closed, by a thread that has nothing to do with those who
 * publish to it and receive from it: it counts what was taken. */
#include "stop_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static unsigned taken;

static void *publisher(void *nothing)
{
    publish(bus, 1);
    publish(bus, 2); /* needs a second segment */
    return nothing;
}

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    for (int tries = 0; tries < 2; tries++)
        taken += exitbus_receive(sub, &event, 0) == 0;
    assert(exitbus_subscription_unref(sub) == 0);
    return nothing;
}

static void *closer(void *nothing)
{
    if (any_of(2))
        assert(exitbus_subscription_fd(sub) >= 0);
    ssize_t pending = exitbus_subscription_pending(sub);
    assert(pending >= 0 && pending <= 2);
    assert(exitbus_unsubscribe(sub) == 0);
    return nothing;
}

int main(void)
{
    pthread_t threads[3];
    struct exitbus_stats stats;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    assert(exitbus_subscription_ref(sub) == 0);
    pthread_create(&threads[0], NULL, publisher, NULL);
    pthread_create(&threads[1], NULL, receiver, NULL);
    pthread_create(&threads[2], NULL, closer, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert(exitbus_stats(bus, &stats) == 0);
    assert(stats.delivered == taken && stats.dropped <= 2 - taken);
    return 0;
}
