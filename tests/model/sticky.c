/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The first event of a sticky subscription comes to each receiver that sleeps, and comes again. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    for (int i = 0; i < 2; i++) {
        int result = exitbus_receive(sub, &event, -1);
        assert(result == 0 && event.pid == 1);
    }
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_STICKY);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, receiver, NULL);
    publish(bus, 1);
    publish(bus, 2);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    exitbus_unsubscribe(sub);
    return 0;
}
