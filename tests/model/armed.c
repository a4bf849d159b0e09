/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An edge-triggered consumer of a channel that has two descriptors, while another thread, a
 * publisher or a receiver of the same subscription, stops for ever at any step. The consumer does
 * not wait while there is something to receive (G13).
 */
#include "stop_test.h"
#include <sys/epoll.h>

#define EVENTS 2

static struct exitbus *bus;
static struct exitbus_subscription *subs[2];
static int set;

static void *consumer(void *nothing)
{
    struct exitbus_event event = {0};
    struct epoll_event edge;
    int result;
    while (event.pid != EVENTS) {
        epoll_wait(set, &edge, 1, -1);
        while ((result = exitbus_receive(subs[0], &event, 0)) == 0)
            continue;
        assert(result == -EAGAIN);
    }
    return nothing;
}

static void *victim(void *nothing)
{
    struct exitbus_event event;
    *stop_here() = 1;
    if (any_of(2) == 0)
        publish(bus, 1);
    else
        exitbus_receive(subs[0], &event, 0);
    stop_is_settled();
    return nothing;
}

int main(void)
{
    static const enum probe steps[] = {
        PROBE_WAKE_EPOCH_MOVED, PROBE_WAKE_DONE,         PROBE_FD_STATE_READ, PROBE_FD_WRITTEN,
        PROBE_FD_CLEARING,      PROBE_CHANNEL_ANNOUNCED, PROBE_FD_TAKEN};
    pthread_t threads[2];
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    bus = bus_new();
    set = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 2; i++)
        subs[i] = subscribe(bus, exitbus_topic_all());
    epoll_ctl(set, EPOLL_CTL_ADD, exitbus_subscription_fd(subs[0]), &edge);
    exitbus_subscription_fd(subs[1]); /* the first in the list */
    publish(bus, 1);
    stop_at(steps, 7);
    pthread_create(&threads[0], NULL, consumer, NULL);
    pthread_create(&threads[1], NULL, victim, NULL);
    stop_await();
    publish(bus, EVENTS);
    pthread_join(threads[0], NULL);
    return 0;
}
