/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The slowest cursor leaves, and with it several segments go, while another cursor moves on, and a
 * publisher links one more.
 */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *fast, *slow;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    for (int pid = 1; pid <= 5; pid++)
        assert(exitbus_receive(fast, &event, 0) == 0 && event.pid == pid);
    return nothing;
}

static void *leaver(void *nothing)
{
    exitbus_unsubscribe(slow);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    slow = subscribe(bus, exitbus_topic_all());
    fast = subscribe(bus, exitbus_topic_all());
    for (int pid = 1; pid <= 5; pid++)
        publish(bus, pid);
    pthread_create(&threads[0], NULL, receiver, NULL);
    pthread_create(&threads[1], NULL, leaver, NULL);
    /* A queue gets the segments that come back. */
    struct exitbus_subscription *other = subscribe(bus, exitbus_topic_pid(6));
    publish(bus, 6);
    publish(bus, 6);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        assert(exitbus_receive(fast, &event, 0) == 0 && event.pid == 6);
        assert(exitbus_receive(other, &event, 0) == 0 && event.pid == 6);
    }
    assert(exitbus_receive(fast, &event, 0) == -EAGAIN);
    assert(exitbus_receive(other, &event, 0) == -EAGAIN);
    return 0;
}
