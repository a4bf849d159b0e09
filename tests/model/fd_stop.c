/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A publisher stops for ever at any step of its signal. The consumer, edge- or level-triggered,
 * gets what is published after that, and is woken for nothing once at most.
 */
#include "stop_test.h"
#include <poll.h>
#include <sys/epoll.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int set;
static unsigned edges;

static void *consumer(void *nothing)
{
    struct exitbus_event event = {0};
    struct epoll_event edge;
    struct pollfd polled = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    int empty = 0, result;
    while (event.pid != 2) {
        if (edges)
            epoll_wait(set, &edge, 1, -1);
        else
            poll(&polled, 1, -1);
        bool none = true;
        while ((result = exitbus_receive(sub, &event, 0)) == 0)
            none = false;
        assert(result == -EAGAIN);
        empty += none;
    }
    assert(empty <= 1);
    return nothing;
}

int main(void)
{
    static const enum probe steps[] = {PROBE_DELIVER_BEFORE_WAKE, PROBE_FD_STATE_READ,
                                           PROBE_FD_ANNOUNCED, PROBE_FD_WRITTEN};
    pthread_t threads[2];
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    edges = any_of(2);
    set = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(set, EPOLL_CTL_ADD, exitbus_subscription_fd(sub), &edge);
    stop_at(steps, 4);
    pthread_create(&threads[0], NULL, consumer, NULL);
    pthread_create(&threads[1], NULL, stopping_publisher, bus);
    stop_await();
    publish(bus, 2);
    pthread_join(threads[0], NULL);
    return 0;
}
