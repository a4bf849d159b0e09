/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two receivers on one subscription: each event goes to one of them. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;
static int taken[2][3];

static void *receiver(void *number)
{
    struct exitbus_event event;
    int *mine = taken[(intptr_t)number], latest = 0;
    for (int tries = 0; tries < 2; tries++)
        if (exitbus_receive(sub, &event, 0) == 0) {
            assert(event.pid > latest && event.pid <= 2);
            latest = event.pid;
            mine[event.pid]++;
        }
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    publish(bus, 1);
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, receiver, (void *)i);
    publish(bus, 2);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    while (exitbus_receive(sub, &event, 0) == 0)
        taken[0][event.pid]++;
    assert(taken[0][1] + taken[1][1] == 1 && taken[0][2] + taken[1][2] == 1);
    return 0;
}
