/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Destroy against subscribe, publish and unsubscribe: each of them succeeds or says that the bus is
 * closed; and the last one to leave, whichever it is, frees the bus. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *keeps; /* the bus alive */

static void *subscriber(void *nothing)
{
    struct exitbus_subscription *sub;
    struct exitbus_event event;
    int result = exitbus_subscribe(bus, exitbus_topic_all(), 0, &sub);
    assert(result == 0 || result == -ESHUTDOWN);
    if (result == 0) {
        result = exitbus_receive(sub, &event, -1);
        assert(result == 0 || result == -ESHUTDOWN);
        exitbus_unsubscribe(sub);
    }
    assert(exitbus_unsubscribe(keeps) == 0);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    keeps = subscribe(bus, exitbus_topic_pid(9));
    pthread_create(&thread, NULL, subscriber, NULL);
    publish(bus, 1);
    assert(exitbus_destroy(bus) == 0);
    pthread_join(thread, NULL);
    return 0;
}
