/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A helper is late for an event whose publish has returned, and a channel is made meanwhile: the
 * event does not come to it.
 */
#include "model_test.h"

static struct exitbus *bus;

static void *publisher(void *pid)
{
    publish(bus, (int)(intptr_t)pid);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, publisher, (void *)(i + 1));
    pthread_join(threads[0], NULL);
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    pthread_join(threads[1], NULL);
    publish(bus, 3);
    int own = 0;
    while (exitbus_receive(sub, &event, 0) == 0) {
        assert(event.pid != 1);
        own += event.pid == 3;
    }
    assert(own == 1);
    return 0;
}
