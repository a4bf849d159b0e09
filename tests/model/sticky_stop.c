/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A publisher stops for ever before it wakes the receiver of a sticky subscription that sleeps.
 * Another receiver finds the event, and wakes it.
 */
#include "stop_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *sleeper(void *nothing)
{
    struct exitbus_event event;
    int result = exitbus_receive(sub, &event, -1);
    assert(result == 0);
    return nothing;
}

int main(void)
{
    static const enum probe steps[] = {PROBE_DELIVER_BEFORE_WAKE};
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_STICKY);
    stop_at(steps, 1);
    pthread_create(&threads[0], NULL, sleeper, NULL);
    pthread_create(&threads[1], NULL, stopping_publisher, bus);
    stop_await();
    while (exitbus_receive(sub, &event, 0) == -EAGAIN)
        sched_yield();
    pthread_join(threads[0], NULL);
    return 0;
}
