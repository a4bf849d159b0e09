/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A batch keeps together, whoever distributes it. */
#include "model_test.h"

static struct exitbus *bus;

static void *batch(void *nothing)
{
    struct exitbus_event events[2] = {{.kind = EXITBUS_EVENT_PID, .pid = 1},
                                      {.kind = EXITBUS_EVENT_PID, .pid = 2}};
    assert(exitbus_publish_batch(bus, events, 2, NULL) == 0);
    return nothing;
}

static void *single(void *nothing)
{
    publish(bus, 3);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    int place[4] = {0};
    bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    pthread_create(&threads[0], NULL, batch, NULL);
    pthread_create(&threads[1], NULL, single, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i <= 3; i++) {
        assert(exitbus_receive(all, &event, 0) == 0 && event.seq == (uint64_t)i);
        place[event.pid] = i;
    }
    assert(place[2] == place[1] + 1 && place[3] > 0);
    return 0;
}
