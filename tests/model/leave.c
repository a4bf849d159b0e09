/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two subscriptions on one list leave at once, a third comes: a publish meets the one that stays,
 * and the one that has come. */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *leaving[2], *staying;

static void *leave(void *number)
{
    exitbus_unsubscribe(leaving[(intptr_t)number]);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus_event event;
    bus = bus_new();
    staying = subscribe(bus, exitbus_topic_all());
    leaving[0] = subscribe(bus, exitbus_topic_all());
    leaving[1] = subscribe(bus, exitbus_topic_all());
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, leave, (void *)i);
    struct exitbus_subscription *fresh = subscribe(bus, exitbus_topic_all());
    publish(bus, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    publish(bus, 2);
    for (int pid = 1; pid <= 2; pid++) {
        assert(exitbus_receive(staying, &event, 0) == 0 && event.pid == pid);
        assert(exitbus_receive(fresh, &event, 0) == 0 && event.pid == pid);
    }
    return 0;
}
