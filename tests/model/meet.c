/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A publish meets a subscription that has just come, or that is leaving, whose thread tells it of
 * that by nothing but the list. */
#include "model_test.h"

static struct exitbus *bus;

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

static void *subscriber(void *nothing)
{
    struct exitbus_event event;
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_pid(1));
    int result = exitbus_receive(sub, &event, 0);
    assert(result == -EAGAIN || (result == 0 && event.pid == 1));
    exitbus_unsubscribe(sub);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    pthread_create(&threads[0], NULL, publisher, NULL);
    pthread_create(&threads[1], NULL, subscriber, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
