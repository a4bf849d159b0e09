/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subscribe while two publish: what is received is an end of the order without a gap, whatever
 * helps whom; and an event published after subscribe has returned is in it.
 */
#include "model_test.h"

static struct exitbus *bus;

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
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, publisher, (void *)(i + 1));
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    publish(bus, 3);
    uint64_t latest = 0;
    int own = 0;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    while (exitbus_receive(all, &event, 0) == 0) {
        assert(latest == 0 || event.seq == latest + 1);
        latest = event.seq;
        own += event.pid == 3;
    }
    assert(own == 1 && latest == 3);
    return 0;
}
