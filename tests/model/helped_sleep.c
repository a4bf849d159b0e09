/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The same with two publishers, who may help each other. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    assert(exitbus_receive(sub, &event, -1) == 0 && event.pid == 1);
    return nothing;
}

static void *other(void *nothing)
{
    publish(bus, 2);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_pid(1));
    pthread_create(&threads[0], NULL, receiver, NULL);
    pthread_create(&threads[1], NULL, other, NULL);
    publish(bus, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
