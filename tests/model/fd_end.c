/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unsubscribe closes the descriptor at once, but never when a publisher is about to write there. */
#include "model_test.h"

static struct exitbus *bus;

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    assert(exitbus_subscription_fd(sub) >= 0);
    pthread_create(&thread, NULL, publisher, NULL);
    assert(exitbus_unsubscribe(sub) == 0);
    struct exitbus_subscription *next = subscribe(bus, exitbus_topic_pid(2));
    assert(exitbus_subscription_fd(next) >= 0);
    assert(exitbus_unsubscribe(next) == 0);
    pthread_join(thread, NULL);
    return 0;
}
