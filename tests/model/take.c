/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One publisher; a receiver that tries meanwhile: what it takes is whole. */
#include "model_test.h"

static struct exitbus *bus;

static void *publisher(void *nothing)
{
    publish(bus, 7);
    publish(bus, 8);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    pthread_create(&thread, NULL, publisher, NULL);
    int next = 7;
    for (int tries = 0; tries < 3; tries++)
        if (exitbus_receive(all, &event, 0) == 0) {
            assert(event.pid == next && event.kind == EXITBUS_EVENT_PID);
            next++;
        }
    pthread_join(thread, NULL);
    for (; next <= 8; next++)
        assert(exitbus_receive(all, &event, 0) == 0 && event.pid == next);
    assert(exitbus_receive(all, &event, 0) == -EAGAIN);
    return 0;
}
