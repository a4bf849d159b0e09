/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unsubscribe while two others, one of whom may have taken the last event, clear the descriptor:
 * both are told (G3). */
#include "model_test.h"
#include <poll.h>

static struct exitbus_subscription *sub;
static int fd;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    for (;;) {
        int result = exitbus_receive(sub, &event, 0);
        if (result == -ESHUTDOWN)
            break;
        assert(result == 0 || result == -EAGAIN);
        if (result == -EAGAIN)
            poll(&polled, 1, -1);
    }
    exitbus_subscription_unref(sub);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    struct exitbus *bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    publish(bus, 1);
    fd = exitbus_subscription_fd(sub);
    for (int i = 0; i < 2; i++) {
        assert(exitbus_subscription_ref(sub) == 0);
        pthread_create(&threads[i], NULL, consumer, NULL);
    }
    assert(exitbus_unsubscribe(sub) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
