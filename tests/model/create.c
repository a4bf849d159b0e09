/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Two threads ask for the bus of the process at once, which nobody has yet, and use it. */
#include "model_test.h"

static void *user(void *pid)
{
    struct exitbus *bus = exitbus_default();
    assert(bus);
    struct exitbus_subscription *own = subscribe(bus, exitbus_topic_pid((int)(intptr_t)pid));
    struct exitbus_event event;
    publish(bus, (int)(intptr_t)pid);
    assert(exitbus_receive(own, &event, 0) == 0 && event.pid == (int)(intptr_t)pid);
    return bus;
}

int main(void)
{
    pthread_t threads[2];
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, user, (void *)(i + 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
