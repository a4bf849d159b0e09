/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Fuzzing the API: calls that must fail, whatever came before. See fuzz_api.c. */
#include "scene.h"

static void bad_bus_calls(struct exitbus *bus)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = 1};
    struct exitbus_stats stats;
    struct exitbus_subscription *none;
    uint64_t seq;
    memset(&seq, UNTOUCHED, sizeof seq);
    memset(&none, UNTOUCHED, sizeof none);
    memset(&stats, UNTOUCHED, sizeof stats);
    must_equal(exitbus_publish(NULL, &event, &seq), -EINVAL);
    must_equal(exitbus_publish(bus, NULL, &seq), -EINVAL);
    must_equal(exitbus_publish_pid(NULL, 1, 0), -EINVAL);
    must_equal(exitbus_publish_exec(NULL, "a", "b", 0), -EINVAL);
    must_equal(exitbus_publish_exec(bus, NULL, "b", 0), -EINVAL);
    must_equal(exitbus_publish_exec(bus, "a", NULL, 0), -EINVAL);
    must_equal(exitbus_publish_wait(NULL, 1, 0, NULL), -EINVAL);
    must_equal(exitbus_publish_batch(NULL, &event, 1, &seq), -EINVAL);
    must_equal(exitbus_publish_batch(bus, NULL, 1, &seq), -EINVAL);
    must_equal(exitbus_publish_batch(bus, &event, 0, &seq), -EINVAL);
    must_equal(exitbus_publish_batch(bus, &event, SIZE_MAX, &seq), -EINVAL);
    must_equal(exitbus_subscribe(NULL, exitbus_topic_all(), 0, &none), -EINVAL);
    must_equal(exitbus_subscribe(bus, exitbus_topic_all(), 0, NULL), -EINVAL);
    must_equal(exitbus_stats(NULL, &stats), -EINVAL);
    must_equal(exitbus_stats(bus, NULL), -EINVAL);
    must_be_untouched(seq);
    must_be_untouched(none);
    must_be_untouched(stats);
    must_equal(exitbus_destroy(NULL), 0);
}

static void bad_subscription_calls(struct exitbus_subscription *sub)
{
    struct exitbus_event event;
    memset((void *)&event, UNTOUCHED, sizeof event);
    must_equal(exitbus_receive(NULL, &event, -1), -EINVAL);
    must_equal(exitbus_receive_batch(NULL, &event, 1, -1), -EINVAL);
    must_equal(exitbus_receive_pid(NULL, 1, &event, &(uint64_t){0}, -1), -EINVAL);
    must_equal(exitbus_subscription_ref(NULL), -EINVAL);
    must_equal(exitbus_subscription_fd(NULL), -EINVAL);
    must_equal(exitbus_subscription_pending(NULL), -EINVAL);
    must_equal(exitbus_unsubscribe(NULL), 0);
    must_equal(exitbus_subscription_unref(NULL), 0);
    if (sub) {
        must_equal(exitbus_receive(sub, NULL, -1), -EINVAL);
        must_equal(exitbus_receive_batch(sub, NULL, 1, -1), -EINVAL);
        must_equal(exitbus_receive_batch(sub, &event, 0, -1), -EINVAL);
        must_equal(exitbus_receive_pid(sub, 1, NULL, &(uint64_t){0}, -1), -EINVAL);
        must_equal(exitbus_receive_pid(sub, 0, &event, &(uint64_t){0}, -1), -EINVAL);
    }
    must_be_untouched(event);
}

void do_bad_calls(void)
{
    struct subscriber *subscriber = held_subscriber();
    trace("calls with NULL");
    bad_bus_calls(scene.bus);
    bad_subscription_calls(subscriber ? subscriber->handle : NULL);
}

void do_bad_create(void)
{
    struct exitbus_allocator broken = scene.stage->account.allocator;
    struct exitbus_options options = {.flags = byte(), .allocator = &broken};
    struct exitbus *bus;
    memset(&bus, UNTOUCHED, sizeof bus);
    trace("create(flags %u)", options.flags);
    if (options.flags & 1)
        broken.allocate = NULL;
    else if (options.flags == 0)
        broken.release = NULL;
    must_equal(exitbus_create(&bus, &options), -EINVAL);
    must_equal(exitbus_create(NULL, NULL), -EINVAL);
    must_be_untouched(bus);
    if (!refusing())
        return;
    struct exitbus_options good = {.allocator = &scene.stage->account.allocator};
    must_equal(exitbus_create(&bus, &good), -ENOMEM);
    must_be_untouched(bus);
}
