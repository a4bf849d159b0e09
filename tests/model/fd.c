/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A consumer by descriptor: never left waiting while there is something to receive. */
#include "model_test.h"
#include <poll.h>
#include <sched.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct pollfd polled = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    int next = 1;
    while (next <= 2) {
        poll(&polled, 1, -1);
        while (exitbus_receive(sub, &event, 0) == 0)
            assert(event.pid == next++);
        sched_yield(); /* readable with nothing there: a publisher is still at it */
    }
    assert(next == 3);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    pthread_create(&thread, NULL, consumer, NULL);
    publish(bus, 1);
    publish(bus, 2);
    pthread_join(thread, NULL);
    return 0;
}
