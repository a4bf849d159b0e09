/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A publisher uses its slot again while another may still be helping with what was in it. */
#include "model_test.h"

#ifdef NUMBERLESS
#include <stdbool.h>
extern bool model_numberless __attribute__((weak)); /* natively not there */
#endif

static struct exitbus *bus;

static void *twice(void *nothing)
{
    publish(bus, 1);
    publish(bus, 2);
    return nothing;
}

static void *once(void *nothing)
{
    publish(bus, 3);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    int place[4] = {0};
#ifdef NUMBERLESS
    if (&model_numberless)
        model_numberless = true;
#endif
    bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    pthread_create(&threads[0], NULL, twice, NULL);
    pthread_create(&threads[1], NULL, once, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 1; i <= 3; i++) {
        assert(exitbus_receive(all, &event, 0) == 0 && event.seq == (uint64_t)i);
        assert(event.pid >= 1 && event.pid <= 3 && place[event.pid] == 0);
        place[event.pid] = i;
    }
    assert(place[1] < place[2]);
    assert(exitbus_receive(all, &event, 0) == -EAGAIN);
    return 0;
}
