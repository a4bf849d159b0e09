/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A publisher is about to append to a sticky subscription, which is closed meanwhile. The append
 * comes behind the return of unsubscribe. So no receive may return the event, also if it began
 * before (G3).
 */
#include "stop_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static _Atomic int appending, ended;

static void wait_for_the_end(enum probe step)
{
    if (step != PROBE_DELIVER_BEFORE_APPEND)
        return;
    atomic_store(&appending, 1);
    while (!atomic_load(&ended))
        sched_yield();
}

static void *publisher(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    int result = exitbus_receive(sub, &event, 0);
    assert(result == -EAGAIN || result == -ESHUTDOWN);
    exitbus_subscription_unref(sub);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_STICKY);
    exitbus_subscription_ref(sub);
    exitbus_probe_hook = wait_for_the_end;
    pthread_create(&threads[0], NULL, publisher, NULL);
    while (!atomic_load(&appending))
        sched_yield();
    pthread_create(&threads[1], NULL, receiver, NULL);
    exitbus_unsubscribe(sub);
    atomic_store(&ended, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
