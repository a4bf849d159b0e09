/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A one-shot subscription takes one event, wakes its other receiver, and is closed. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int results[2];

static void *receiver(void *number)
{
    struct exitbus_event event;
    results[(intptr_t)number] = exitbus_receive(sub, &event, -1);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_ONE_SHOT);
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, receiver, (void *)i);
    publish(bus, 1);
    publish(bus, 2);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert((results[0] == 0 && results[1] == -ESHUTDOWN) ||
           (results[1] == 0 && results[0] == -ESHUTDOWN));
    return 0;
}
