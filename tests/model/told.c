/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Whoever is told that a subscription is closed, or the bus, knows what was done before: here, to a
 * plain variable. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub, *one_shot;
static int before_unsubscribe, before_destroy;

static void *subscriber(void *nothing)
{
    struct exitbus_subscription *fresh;
    int result = exitbus_subscribe(bus, exitbus_topic_all(), 0, &fresh);
    if (result == 0)
        exitbus_unsubscribe(fresh);
    else
        assert(result == -ESHUTDOWN && before_destroy == 1);
    return nothing;
}

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    int result = exitbus_receive(one_shot, &event, 0);
    assert(result == -EAGAIN || (result == -ESHUTDOWN && before_destroy == 1));
    result = exitbus_receive(sub, &event, 0);
    assert(result == -EAGAIN || (result == -ESHUTDOWN && before_unsubscribe == 1));
    exitbus_subscription_unref(sub);
    return nothing;
}

static void *ender(void *nothing)
{
    before_unsubscribe = 1;
    assert(exitbus_unsubscribe(sub) == 0);
    before_destroy = 1;
    assert(exitbus_destroy(bus) == 0);
    return nothing;
}

int main(void)
{
    pthread_t threads[3];
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    assert(exitbus_subscription_ref(sub) == 0);
    one_shot = subscribe_flags(bus, exitbus_topic_all(), EXITBUS_SUBSCRIBE_ONE_SHOT);
    pthread_create(&threads[0], NULL, subscriber, NULL);
    pthread_create(&threads[1], NULL, receiver, NULL);
    pthread_create(&threads[2], NULL, ender, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    struct exitbus_event event;
    assert(exitbus_receive(one_shot, &event, 0) == -ESHUTDOWN);
    assert(exitbus_unsubscribe(one_shot) == 0);
    return 0;
}
