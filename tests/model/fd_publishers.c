/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two publishers, and an edge-triggered consumer that they wake at once. */
#include "model_test.h"
#include <sys/epoll.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int set;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    int count = 0, result;
    while (count < 2) {
        epoll_wait(set, &edge, 1, -1);
        while ((result = exitbus_receive(sub, &event, 0)) == 0)
            count++;
        assert(result == -EAGAIN);
    }
    return nothing;
}

static void *publisher(void *nothing)
{
    publish(bus, 2);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    set = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(set, EPOLL_CTL_ADD, exitbus_subscription_fd(sub), &edge);
    pthread_create(&threads[0], NULL, consumer, NULL);
    pthread_create(&threads[1], NULL, publisher, NULL);
    publish(bus, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
