/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Segments end, are linked, drained, retired, and come back in another queue at once, while a late
 * helper may still be at work on them.
 */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *a, *b;

static void *fill_a(void *nothing)
{
    publish(bus, 1); /* the sixth: a third segment */
    return nothing;
}

static void *other(void *nothing)
{
    struct exitbus_event event;
    for (int i = 0; i < 6; i++)
        if (exitbus_receive(a, &event, 0) != 0)
            break;
    publish(bus, 2);
    publish(bus, 2); /* needs a segment: one that was A's, if it has come back */
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    a = subscribe(bus, exitbus_topic_pid(1));
    b = subscribe(bus, exitbus_topic_pid(2));
    for (int i = 0; i < 5; i++)
        publish(bus, 1);
    pthread_create(&threads[0], NULL, fill_a, NULL);
    pthread_create(&threads[1], NULL, other, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    while (exitbus_receive(a, &event, 0) == 0)
        assert(event.pid == 1);
    uint64_t latest = 0;
    for (int i = 0; i < 2; i++) {
        assert(exitbus_receive(b, &event, 0) == 0 && event.pid == 2 && event.seq > latest);
        latest = event.seq;
    }
    assert(exitbus_receive(b, &event, 0) == -EAGAIN);
    return 0;
}
