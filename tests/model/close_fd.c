/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Unsubscribe while another thread makes the descriptor and waits at it: it is told (G3). */
#include "model_test.h"
#include <poll.h>
#include <sched.h>

static struct exitbus_subscription *sub;

static void *consumer(void *nothing)
{
    struct exitbus_event event;
    struct pollfd polled = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    if (polled.fd >= 0) {
        for (;;) {
            poll(&polled, 1, -1);
            int result = exitbus_receive(sub, &event, 0);
            if (result == -ESHUTDOWN)
                break;
            assert(result == -EAGAIN);
            sched_yield();
        }
    } else {
        assert(polled.fd == -ESHUTDOWN);
    }
    exitbus_subscription_unref(sub);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    sub = subscribe(bus_new(), exitbus_topic_all());
    assert(exitbus_subscription_ref(sub) == 0);
    pthread_create(&thread, NULL, consumer, NULL);
    assert(exitbus_unsubscribe(sub) == 0);
    pthread_join(thread, NULL);
    return 0;
}
