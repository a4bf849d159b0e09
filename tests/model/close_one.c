/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two subscriptions of a channel have receivers asleep. One is closed, and then an event comes: the
 * first is told, and the other gets the event.
 */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *subs[2];

static void *receiver(void *number)
{
    int which = (int)(intptr_t)number;
    struct exitbus_event event;
    int result = exitbus_receive(subs[which], &event, -1);
    assert(which == 0 ? result == -ESHUTDOWN : result == 0 && event.pid == 1);
    exitbus_subscription_unref(subs[which]);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    for (intptr_t i = 0; i < 2; i++) {
        subs[i] = subscribe(bus, exitbus_topic_all());
        exitbus_subscription_ref(subs[i]);
        pthread_create(&threads[i], NULL, receiver, (void *)i);
    }
    exitbus_unsubscribe(subs[0]);
    publish(bus, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
