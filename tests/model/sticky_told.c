/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A receive of a sticky subscription says that it is closed, with its event or without. What was
 * done before the unsubscribe happens before that: here, to a plain variable.
 */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int before_unsubscribe;

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    for (int i = 0; i < 2; i++) {
        int result = exitbus_receive(sub, &event, 0);
        assert(result == 0 || result == -EAGAIN ||
               (result == -ESHUTDOWN && before_unsubscribe == 1));
    }
    exitbus_subscription_unref(sub);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_STICKY);
    exitbus_subscription_ref(sub);
    pthread_create(&threads[0], NULL, publisher, NULL);
    pthread_create(&threads[1], NULL, receiver, NULL);
    before_unsubscribe = 1;
    exitbus_unsubscribe(sub);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
