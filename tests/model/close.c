/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unsubscribe against a sleeping receiver, and a publish: nothing comes after it has returned (G3),
 * the sleeper wakes, and the memory is not touched any more. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    int result = exitbus_receive(sub, &event, -1);
    assert(result == 0 || result == -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    return nothing;
}

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    exitbus_subscription_ref(sub);
    exitbus_subscription_ref(sub);
    pthread_create(&threads[0], NULL, receiver, NULL);
    pthread_create(&threads[1], NULL, publisher, NULL);
    exitbus_unsubscribe(sub);
    assert(exitbus_receive(sub, &event, 0) == -ESHUTDOWN);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(exitbus_receive(sub, &event, 0) == -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    publish(bus, 2);
    return 0;
}
