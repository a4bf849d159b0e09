/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An event lacks memory. Its sleeping receiver is told, tries again, and gets it once there is some
 * again, though nobody publishes any more. */
#include "library.h"
#include "model_test.h"
#include <stdatomic.h>

static struct exitbus *bus;
static struct exitbus_subscription *sub;

static void *receiver(void *nothing)
{
    struct exitbus_event event;
    for (int tries = 0; tries < 3; tries++) {
        int result = exitbus_receive(sub, &event, -1);
        if (result == 0) {
            assert(event.pid == 2);
            return nothing;
        }
        assert(result == -ENOMEM);
        model_blocks_left = INT_MAX;
    }
    assert(!"it never came");
    return nothing;
}

int main(void)
{
    pthread_t thread;
    struct exitbus_event event;
    bus = bus_new();
    sub = subscribe(bus, exitbus_topic_all());
    publish(bus, 1);
    assert(exitbus_receive(sub, &event, 0) == 0);
    model_blocks_left = 0;
    pthread_create(&thread, NULL, receiver, NULL);
    publish(bus, 2); /* needs a second segment */
    pthread_join(thread, NULL);
    return 0;
}
