/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two consumers at the one descriptor, edge-triggered, each with a set of its own: all events are
 * taken before anybody is told that the subscription is closed, and then both are.
 */
#include "model_test.h"
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int sets[2];
static _Atomic int taken;

static void *consumer(void *number)
{
    struct exitbus_event event;
    struct epoll_event edge;
    int result;
    do {
        epoll_wait(sets[(intptr_t)number], &edge, 1, -1);
        while ((result = exitbus_receive(sub, &event, 0)) == 0)
            atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    } while (result == -EAGAIN);
    assert(result == -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    for (intptr_t i = 0; i < 2; i++) {
        sets[i] = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(sets[i], EPOLL_CTL_ADD, exitbus_subscription_fd(sub), &edge);
        assert(exitbus_subscription_ref(sub) == 0);
        pthread_create(&threads[i], NULL, consumer, (void *)i);
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
