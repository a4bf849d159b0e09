/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two consumers wait at the one descriptor, level-triggered: all events are taken before anybody is
 * told that the subscription is closed.
 */
#include "model_test.h"
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static _Atomic int taken;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct pollfd polled = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    int result;
    do {
        poll(&polled, 1, -1);
        while ((result = exitbus_receive(sub, &event, 0)) == 0)
            atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
        sched_yield();
    } while (result == -EAGAIN);
    assert(result == -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    assert(exitbus_subscription_fd(sub) >= 0);
    for (int i = 0; i < 2; i++) {
        assert(exitbus_subscription_ref(sub) == 0);
        pthread_create(&threads[i], NULL, consumer, NULL);
    }
    publish(bus, 1);
    publish(bus, 2);
    while (atomic_load_explicit(&taken, memory_order_relaxed) < 2)
        sched_yield();
    assert(exitbus_unsubscribe(sub) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
