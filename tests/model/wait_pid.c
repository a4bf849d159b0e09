/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A wait for a pid, which passes over the exit of another, while its subscription ends: a call that
 * is blocked needs no reference of its caller's.
 */
#include "stop_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static _Atomic int asleep;

static void note_sleep(enum probe step)
{
    if (step == PROBE_RECEIVE_BEFORE_SLEEP)
        atomic_store_explicit(&asleep, 1, memory_order_relaxed);
}

static void *waiter(void *nothing)
{
    struct exitbus_event event;
    uint64_t discarded;
    int result = exitbus_receive_pid(sub, 2, &event, &discarded, -1);
    assert(result == -ESHUTDOWN && discarded <= 1);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_any_pid());
    exitbus_probe_hook = note_sleep;
    pthread_create(&thread, NULL, waiter, NULL);
    while (!atomic_load_explicit(&asleep, memory_order_relaxed))
        sched_yield();
    publish(bus, 1);
    exitbus_unsubscribe(sub);
    pthread_join(thread, NULL);
    return 0;
}
