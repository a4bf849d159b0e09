/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two consumers make the one descriptor at once, and wait at it. */
#include "model_test.h"
#include <poll.h>
#include <sched.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int taken[2];

static void *consumer(void *number)
{
    struct exitbus_event event;
    struct pollfd polled = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    int result;
    do {
        poll(&polled, 1, -1);
        result = exitbus_receive(sub, &event, 0);
        assert(result == 0 || result == -EAGAIN || result == -ESHUTDOWN);
        taken[(intptr_t)number] += result == 0;
        sched_yield();
    } while (result != -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    for (intptr_t i = 0; i < 2; i++) {
        assert(exitbus_subscription_ref(sub) == 0);
        pthread_create(&threads[i], NULL, consumer, (void *)i);
    }
    publish(bus, 1);
    assert(exitbus_unsubscribe(sub) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(taken[0] + taken[1] <= 1);
    return 0;
}
