/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The next event needs a new segment: its publisher links one, and so does a helper. */
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
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    publish(bus, 1); /* fills the first segment */
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, publisher, (void *)(i + 2));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    int pids = 0;
    for (uint64_t seq = 1; seq <= 3; seq++) {
        assert(exitbus_receive(all, &event, 0) == 0 && event.seq == seq);
        pids |= 1 << event.pid;
    }
    assert(pids == (1 << 1 | 1 << 2 | 1 << 3));
    assert(exitbus_receive(all, &event, 0) == -EAGAIN);
    return 0;
}
