/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * For the tests in this folder, which are plain C11 programs on the public interface. Against the
 * model they run through all executions up to a bound; natively (cc -I include …, with the real
 * library) through one of them.
 */
#ifndef MODEL_TEST_H
#define MODEL_TEST_H

#include <assert.h>
#include <errno.h>
#include <exitbus/exitbus.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

static inline struct exitbus *bus_new(void)
{
    struct exitbus *bus;
    int result = exitbus_create(&bus, NULL);
    assert(result == 0);
    return bus;
}

static inline struct exitbus_subscription *subscribe_flags(struct exitbus *bus,
                                                           struct exitbus_topic topic,
                                                           uint32_t flags)
{
    struct exitbus_subscription *subscription;
    int result = exitbus_subscribe(bus, topic, flags, &subscription);
    assert(result == 0);
    return subscription;
}

static inline struct exitbus_subscription *subscribe(struct exitbus *bus,
                                                     struct exitbus_topic topic)
{
    return subscribe_flags(bus, topic, 0);
}

static inline void publish(struct exitbus *bus, int pid)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    int result = exitbus_publish(bus, &event, NULL);
    assert(result == 0);
}

#endif
