/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A plugin with the static library inside: see ../unloaded_plugin.c. */
#include <exitbus/exitbus.h>

int plugin_work(void);

/* All that there is, in order, and no bus is left. */
int plugin_work(void)
{
    struct exitbus_subscription *subscription;
    struct exitbus_event event;
    struct exitbus *bus;
    int result = exitbus_create(&bus, NULL);
    if (result < 0)
        return result;
    result = exitbus_subscribe(bus, exitbus_topic_all(), 0, &subscription);
    if (result == 0)
        result = exitbus_publish_pid(bus, 1, 0);
    if (result == 0)
        result = exitbus_receive(subscription, &event, 0);
    exitbus_unsubscribe(subscription);
    return result < 0 ? result : exitbus_destroy(bus);
}
