/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A receiver that sleeps is woken (else all threads wait for ever, which the explorer reports). */
#include "model_test.h"

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    for (int pid = 1; pid <= 2; pid++)
        assert(exitbus_receive(sub, &event, -1) == 0 && event.pid == pid);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    pthread_create(&thread, NULL, receiver, NULL);
    publish(bus, 1);
    publish(bus, 2);
    pthread_join(thread, NULL);
    return 0;
}
