/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A consumer by descriptor: never left waiting while there is something to receive. */
#include "library.h"
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    int fd = exitbus_subscription_fd(sub);
    int next = 1;
    for (int rounds = 0; next <= 2 && rounds < 6; rounds++) {
        model_await_readable(fd);
        while (exitbus_receive(sub, &event, 0) == 0)
            assert(event.pid == next++);
    }
    assert(next == 3);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    pthread_create(&thread, NULL, consumer, NULL);
    publish(bus, 1);
    publish(bus, 2);
    pthread_join(thread, NULL);
    return 0;
}
