/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two publishers, two subscriptions and a receiver: everything once, and in one order (G1, G2). */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *one, *all;

static void *publisher(void *pid)
{
    publish(bus, (int)(intptr_t)pid);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    int seen[3] = {0}, first = 0;
    bus = bus_new();
    one = subscribe(bus, exitbus_topic_pid(1));
    all = subscribe(bus, exitbus_topic_all());
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, publisher, (void *)(i + 1));
    struct exitbus_event event;
    uint64_t latest = 0;
    for (int tries = 0; tries < 2; tries++)
        if (exitbus_receive(all, &event, 0) == 0) {
            assert(event.seq > latest && (event.pid == 1 || event.pid == 2));
            latest = event.seq;
            seen[event.pid]++;
            first = first ? first : event.pid;
        }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    while (exitbus_receive(all, &event, 0) == 0) {
        assert(event.seq == latest + 1);
        latest = event.seq;
        seen[event.pid]++;
    }
    assert(latest == 2 && seen[1] == 1 && seen[2] == 1);
    assert(exitbus_receive(one, &event, 0) == 0 && event.pid == 1);
    assert(exitbus_receive(one, &event, 0) == -EAGAIN);
    return 0;
}
