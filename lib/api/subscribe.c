/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls for subscriptions, except those that receive. */
#include "api/check.h"
#include "bus/bus.h"

int exitbus_subscribe(struct exitbus *bus, struct exitbus_topic topic, uint32_t flags,
                      struct exitbus_subscription **subscription)
{
    CHECK_ARGUMENTS(bus && subscription &&
                    (flags == 0 || flags == EXITBUS_SUBSCRIBE_ONE_SHOT ||
                     flags == EXITBUS_SUBSCRIBE_STICKY));
    if (flags & EXITBUS_SUBSCRIBE_STICKY)
        flags |= EXITBUS_SUBSCRIBE_ONE_SHOT;
    CHECK_GENERATION(&bus->core);
    if (bus_closed(bus))
        return -ESHUTDOWN;
    struct exitbus_subscription *sub;
    reclaim_enter();
    int result = subscription_create(&bus->core, &topic, flags, &sub);
    if (result == 0) {
        result = subscription_activate(sub);
        if (result == 0)
            *subscription = sub;
        else
            subscription_release(sub);
    }
    reclaim_leave();
    return result;
}

int exitbus_unsubscribe(struct exitbus_subscription *sub)
{
    if (!sub)
        return 0;
    CHECK_SUBSCRIPTION_GENERATION(sub);
    subscription_unsubscribe(sub);
    return 0;
}

int exitbus_subscription_ref(struct exitbus_subscription *sub)
{
    CHECK_ARGUMENTS(sub);
    CHECK_SUBSCRIPTION_GENERATION(sub);
    return subscription_retain(sub) ? 0 : -ESHUTDOWN;
}

int exitbus_subscription_unref(struct exitbus_subscription *sub)
{
    if (!sub)
        return 0;
    CHECK_SUBSCRIPTION_GENERATION(sub);
    subscription_release(sub);
    return 0;
}
