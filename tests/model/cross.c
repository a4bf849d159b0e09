/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Two receivers move one cursor over the ends of segments, and it is closed meanwhile. The log
 * stays whole for another cursor, which is behind; and the segments come back when that has passed.
 */
#include "model_test.h"

#define EVENTS 5 /* one in the first segment, three in the second, one in the third */

static struct exitbus *bus;
static struct exitbus_subscription *fast, *slow;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    uint64_t latest = 0;
    for (int tries = 0; tries < EVENTS; tries++) {
        if (exitbus_receive(fast, &event, 0) != 0)
            break;
        assert(event.seq > latest);
        latest = event.seq;
    }
    exitbus_subscription_unref(fast);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    slow = subscribe(bus, exitbus_topic_all());
    fast = subscribe(bus, exitbus_topic_all());
    for (int pid = 1; pid <= EVENTS; pid++)
        publish(bus, pid);
    for (int i = 0; i < 2; i++) {
        exitbus_subscription_ref(fast);
        pthread_create(&threads[i], NULL, receiver, NULL);
    }
    for (int pid = 1; pid <= 2; pid++)
        assert(exitbus_receive(slow, &event, 0) == 0 && event.pid == pid);
    exitbus_unsubscribe(fast);
    for (int pid = 3; pid <= EVENTS; pid++)
        assert(exitbus_receive(slow, &event, 0) == 0 && event.pid == pid);
    publish(bus, 6);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(exitbus_receive(slow, &event, 0) == 0 && event.pid == 6);
    assert(exitbus_receive(slow, &event, 0) == -EAGAIN);
    return 0;
}
