/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Join a channel at the end of a segment, while two publish and one of them may help, and another
 * subscription leaves that segment: the new one gets an end of the order without a gap, with all
 * that is published after it.
 */
#include "model_test.h"

#define FILL 4 /* one event in the first segment, three in the second */

static struct exitbus *bus;
static struct exitbus_subscription *old;
static int taken_meanwhile;

static void *publisher(void *pid)
{
    struct exitbus_event event;
    publish(bus, (int)(intptr_t)pid);
    while (pid == (void *)2 && exitbus_receive(old, &event, 0) == 0)
        taken_meanwhile++;
    return NULL;
}

/* Takes all that is there: without a gap, and up to `last`. Returns how many. */
static int take_up_to(struct exitbus_subscription *sub, uint64_t last)
{
    struct exitbus_event event;
    uint64_t latest = 0;
    int count = 0;
    for (; exitbus_receive(sub, &event, 0) == 0; count++) {
        assert(latest == 0 || event.seq == latest + 1);
        latest = event.seq;
    }
    assert(latest == last);
    return count;
}

int main(void)
{
    pthread_t threads[2];
    bus = bus_new();
    old = subscribe(bus, exitbus_topic_all());
    for (int i = 0; i < FILL; i++)
        publish(bus, 1);
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, publisher, (void *)(i + 2));
    struct exitbus_subscription *fresh = subscribe(bus, exitbus_topic_all());
    publish(bus, 4);
    publish(bus, 4);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    struct exitbus_event event;
    while (exitbus_receive(old, &event, 0) == 0)
        taken_meanwhile++;
    assert(taken_meanwhile == FILL + 4);
    assert(take_up_to(fresh, FILL + 4) >= 2);
    return 0;
}
