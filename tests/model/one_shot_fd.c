/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A one-shot's event is taken by one receiver, while another makes the descriptor and waits there.
 * From then on the descriptor is readable for good.
 */
#include "model_test.h"
#include <poll.h>
#include <sched.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct pollfd polled = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    while (polled.fd >= 0 && exitbus_receive(sub, &event, 0) == -EAGAIN) {
        poll(&polled, 1, -1);
        sched_yield();
    }
    if (polled.fd >= 0)
        poll(&polled, 1, -1);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_ONE_SHOT);
    publish(bus, 1);
    pthread_create(&thread, NULL, consumer, NULL);
    int result = exitbus_receive(sub, &event, 0);
    assert(result == 0 || result == -ESHUTDOWN);
    pthread_join(thread, NULL);
    return 0;
}
