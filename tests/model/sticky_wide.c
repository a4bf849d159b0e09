/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A wide and a narrow event race to be the one of a sticky subscription. The wide one does not fit
 * the first segment. What is read once is read again, whole.
 */
#include "model_test.h"

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *publish_wide(void *nothing)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC, .container_id = ID, .exec_id = ID};
    int result = exitbus_publish(bus, &event, NULL);
    assert(result == 0);
    return nothing;
}

static void *publish_narrow(void *nothing)
{
    publish(bus, 1);
    return nothing;
}

static void check_whole(const struct exitbus_event *event)
{
    assert(event->seq == 1);
    if (event->kind == EXITBUS_EVENT_EXEC)
        assert(strcmp(event->container_id, ID) == 0 && strcmp(event->exec_id, ID) == 0);
    else
        assert(event->pid == 1);
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event first, again;
    bus = bus_new();
    sub = subscribe_flags(bus, exitbus_topic_all(), EXITBUS_SUBSCRIBE_STICKY);
    pthread_create(&threads[0], NULL, publish_wide, NULL);
    pthread_create(&threads[1], NULL, publish_narrow, NULL);
    int early = exitbus_receive(sub, &first, 0);
    if (early == 0)
        check_whole(&first);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    int result = exitbus_receive(sub, &again, 0);
    assert(result == 0);
    check_whole(&again);
    assert(early != 0 || first.kind == again.kind);
    exitbus_unsubscribe(sub);
    return 0;
}
