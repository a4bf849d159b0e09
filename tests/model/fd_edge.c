/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An edge-triggered consumer: receives until it is told that there is nothing, then waits until the
 * descriptor has been signalled since (G13). It never waits while there is something to receive.
 */
#include "model_test.h"
#include <sys/epoll.h>

#define EVENTS 3

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int set;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    int next = 1, result;
    epoll_ctl(set, EPOLL_CTL_ADD, exitbus_subscription_fd(sub), &edge);
    while (next <= EVENTS) {
        epoll_wait(set, &edge, 1, -1);
        while ((result = exitbus_receive(sub, &event, 0)) == 0)
            assert(event.pid == next++);
        assert(result == -EAGAIN);
    }
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    set = epoll_create1(EPOLL_CLOEXEC);
    pthread_create(&thread, NULL, consumer, NULL);
    for (int pid = 1; pid <= EVENTS; pid++)
        publish(bus, pid);
    pthread_join(thread, NULL);
    return 0;
}
