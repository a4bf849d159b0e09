/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events of several cells, that leave gaps, beside events of one; a receiver meanwhile. */
#include "model_test.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct exitbus *bus;

static void *narrow(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

static void *wide(void *nothing)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC, .container_id = ID, .exec_id = ID};
    assert(exitbus_publish(bus, &event, NULL) == 0);
    return nothing;
}

static void check(const struct exitbus_event *event)
{
    if (event->kind == EXITBUS_EVENT_PID)
        assert(event->pid == 1);
    else
        assert(event->kind == EXITBUS_EVENT_EXEC && strcmp(event->container_id, ID) == 0 &&
               strcmp(event->exec_id, ID) == 0);
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    pthread_create(&threads[0], NULL, narrow, NULL);
    pthread_create(&threads[1], NULL, wide, NULL);
    uint64_t next = 1;
    if (exitbus_receive(all, &event, 0) == 0) {
        assert(event.seq == next++);
        check(&event);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    while (exitbus_receive(all, &event, 0) == 0) {
        assert(event.seq == next++);
        check(&event);
    }
    assert(next == 3);
    return 0;
}
