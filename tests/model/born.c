/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The subscription that makes a channel stops for ever at any step of that, while another joins and
 * a third thread publishes. What is published after a subscribe has returned comes to it.
 */
#include "stop_test.h"

static struct exitbus *bus;

static void *victim(void *nothing)
{
    struct exitbus_subscription *sub;
    *stop_here() = 1;
    assert(exitbus_subscribe(bus, exitbus_topic_all(), 0, &sub) == 0);
    stop_is_settled();
    return nothing;
}

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

int main(void)
{
    static const enum probe steps[] = {PROBE_CHANNEL_JOINED, PROBE_SUBSCRIBE_ORDER_READ,
                                       PROBE_LOG_TAIL_READ, PROBE_SUBSCRIBE_INSERTED};
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    stop_at(steps, 4);
    pthread_create(&threads[0], NULL, victim, NULL);
    pthread_create(&threads[1], NULL, publisher, NULL);
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    publish(bus, 2);
    bool own = false;
    uint64_t latest = 0;
    while (exitbus_receive(sub, &event, 0) == 0) {
        assert(latest == 0 || event.seq == latest + 1);
        latest = event.seq;
        own |= event.pid == 2;
    }
    assert(own);
    stop_await();
    pthread_join(threads[1], NULL);
    return 0;
}
