/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A helper is late to wake: its event has been received, and the receiver goes to sleep for the
 * next one meanwhile. The next publisher must not rely on the late helper.
 */
#include "stop_test.h"

static struct exitbus *bus;
static _Atomic int delivered, helping, go_on;

static void await_flag(_Atomic int *flag)
{
    while (!atomic_load_explicit(flag, memory_order_acquire))
        sched_yield();
}

/* The first thread with the event waits until the other one helps. That one waits to go on. */
static void hold(enum probe step)
{
    if (step == PROBE_DELIVER_BEFORE_WAKE && atomic_fetch_add(&delivered, 1) == 0)
        await_flag(&helping);
    if (step == PROBE_CHANNEL_WAKING && atomic_fetch_add(&helping, 1) == 0)
        await_flag(&go_on);
}

static void *publisher(void *pid)
{
    publish(bus, (int)(intptr_t)pid);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    /* Announced, and asleep no more: publishers look for sleepers. */
    assert(exitbus_receive(sub, &event, 1) == -ETIMEDOUT);
    exitbus_probe_hook = hold;
    pthread_create(&threads[0], NULL, publisher, (void *)1);
    await_flag(&delivered);
    pthread_create(&threads[1], NULL, publisher, (void *)2);
    pthread_join(threads[0], NULL);
    assert(exitbus_receive(sub, &event, 0) == 0);
    assert(exitbus_receive(sub, &event, 1) == -ETIMEDOUT);
    atomic_store_explicit(&go_on, 1, memory_order_release);
    assert(exitbus_receive(sub, &event, -1) == 0);
    pthread_join(threads[1], NULL);
    return 0;
}
