/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two receivers follow a publisher over two ends of a segment: one may find itself far behind. */
#include "model_test.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define EVENTS 3

static struct exitbus *bus;
static struct exitbus_subscription *all;
static int taken[2][EVENTS + 1];

static void take(int *mine, int tries)
{
    struct exitbus_event event;
    uint64_t latest = 0;
    while (tries-- > 0)
        if (exitbus_receive(all, &event, 0) == 0) {
            assert(event.seq > latest && event.seq <= EVENTS);
            latest = event.seq;
            mine[event.seq]++;
        }
}

static void *receiver(void *number)
{
    take(taken[(intptr_t)number], EVENTS);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event wide = {.kind = EXITBUS_EVENT_EXEC, .container_id = ID, .exec_id = ID};
    bus = bus_new();
    all = subscribe(bus, exitbus_topic_all());
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, receiver, (void *)i);
    publish(bus, 1);
    publish(bus, 2);                                /* needs a second segment */
    assert(exitbus_publish(bus, &wide, NULL) == 0); /* and this a third, which is larger */
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    take(taken[0], EVENTS);
    for (int seq = 1; seq <= EVENTS; seq++)
        assert(taken[0][seq] + taken[1][seq] == 1);
    return 0;
}
