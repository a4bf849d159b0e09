/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Fuzzes the public API, on one thread: the input is a sequence of calls, each of which is made on
 * a bus and on the specification (differential/reference.h). Any result that differs ends the
 * program: a return value, an event received, its fields, a count, whether a descriptor polls
 * readable. A call that fails must have changed nothing, not even what its result pointers point
 * at. The bus runs on an allocator that can be told to refuse, so running out of memory is part of
 * it; the allocator also sees every byte come back.
 *
 * EXITBUS_FUZZ_TRACE=1 prints the calls of an input.
 */
#include "scene.h"

#include <poll.h>
#include <stdarg.h>
#include <urcu-bp.h>

#define SECTIONS_MAX 3

struct scene scene;
static bool tracing;

void trace(const char *format, ...)
{
    if (!tracing)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* --------------------------------------------------------------------------- looking at things */

static void check_fd(const struct subscriber *subscriber)
{
    struct pollfd pollfd = {.fd = subscriber->fd, .events = POLLIN};
    int ready = poll(&pollfd, 1, 0);
    must(ready >= 0 && !(pollfd.revents & ~POLLIN));
    bool expected = reference_closed(&scene.model, &subscriber->model) ||
                    reference_pending(&scene.model, &subscriber->model) > 0;
    if (scene.was_stalled) /* it may be readable for another subscription's sake */
        must(ready >= expected);
    else
        must_equal(ready, expected);
}

static void check_subscriber(const struct subscriber *subscriber)
{
    size_t expected = reference_pending(&scene.model, &subscriber->model);
    ssize_t pending = exitbus_subscription_pending(subscriber->handle);
    if (scene.stalled) {
        must(pending >= 0 && (size_t)pending <= expected);
        return;
    }
    must_equal(pending, expected);
    if (subscriber->fd >= 0)
        check_fd(subscriber);
}

static void check_subscribers(void)
{
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (scene.subscribers[i].handle)
            check_subscriber(&scene.subscribers[i]);
}

static void check_stats(void)
{
    struct exitbus_stats stats;
    must_equal(exitbus_stats(scene.bus, &stats), 0);
    must_equal(stats.published, scene.model.published);
    must_equal(stats.subscriptions, scene.model.subscriptions);
    must_equal(stats.sleeping_receivers, 0);
    must(stats.bytes > 0);
    if (scene.was_stalled) /* an event that is dropped before it is queued is not counted */
        return;
    must_equal(stats.delivered, scene.model.delivered);
    must_equal(stats.dropped, scene.model.dropped);
    must_equal(stats.helped, 0);
}

/* -------------------------------------------------------------------------- the surroundings */

static void do_refuse(void)
{
    bool refuse = byte() & 1;
    trace("memory is %s", refuse ? "refused" : "given");
    atomic_store(&scene.stage->account.refuse, refuse);
}

/* All calls but destroy are legal inside the caller's own read-side section. */
static void do_section(void)
{
    bool enter = byte() & 1;
    if (enter && scene.sections < SECTIONS_MAX) {
        scene.sections++;
        urcu_bp_read_lock();
    } else if (!enter && scene.sections > 0) {
        scene.sections--;
        urcu_bp_read_unlock();
    }
    trace("%u sections", scene.sections);
}

static void do_others(void)
{
    int error = (int)input_number(&scene.input, 4);
    must(exitbus_strerror(error) && exitbus_strerror(error)[0]);
    must(strcmp(exitbus_strerror(EINVAL), exitbus_strerror(-EINVAL)) == 0);
    must(exitbus_version()[0] >= '0');
    must_equal(exitbus_thread_prepare(), 0);
    struct exitbus *bus = exitbus_default();
    must(bus && bus == exitbus_default());
    if (scene.sections == 0)
        must_equal(exitbus_destroy(bus), -EPERM);
}

/* --------------------------------------------------------------------------------- the sequence */

static void (*const calls[])(void) = {
    do_subscribe,     do_subscribe,     do_subscribe,    do_publish,
    do_publish,       do_publish_pid,   do_publish_pid,  do_publish_pid,
    do_receive,       do_publish_exec,  do_publish_exec, do_publish_wait,
    do_publish_batch, do_publish_batch, do_receive,      do_receive_batch,
    do_receive_batch, do_wait_pid,      do_unsubscribe,  do_unsubscribe,
    do_ref,           do_unref,         do_fd,           check_stats,
    do_refuse,        do_section,       do_destroy,      do_bad_calls,
    do_bad_create,    do_others,
};

static void scene_begin(void)
{
    uint8_t shape = byte();
    scene.stage = stage_new(!(shape & 1));
    scene.bus = scene.stage->bus;
    reference_init(&scene.model);
    memset(scene.subscribers, 0, sizeof scene.subscribers);
    scene.descriptors = scene.sections = 0;
    scene.over = scene.stalled = scene.was_stalled = false;
}

/* Whatever is still in the queues must be what the specification has there. */
static void scene_end(void)
{
    trace("the end");
    atomic_store(&scene.stage->account.refuse, false);
    while (scene.sections > 0) {
        scene.sections--;
        urcu_bp_read_unlock();
    }
    if (!scene.over)
        check_stats();
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        struct subscriber *subscriber = &scene.subscribers[i];
        while (subscriber->handle && subscriber->model.stuck == 0 &&
               reference_pending(&scene.model, &subscriber->model) > 0)
            receive(subscriber, EXITBUS_BATCH_MAX, 0);
        if (subscriber->handle && !subscriber->model.gone)
            unsubscribe(subscriber);
        while (subscriber->handle)
            unref(subscriber);
    }
    if (!scene.over)
        check_stats();
    reference_finish(&scene.model);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    tracing = getenv("EXITBUS_FUZZ_TRACE") != NULL;
    scene.input = (struct input){bytes, size};
    scene_begin();
    while (scene.input.size > 0 && !scene.over) {
        calls[byte() % (sizeof calls / sizeof calls[0])]();
        if (!scene.over)
            check_subscribers();
    }
    scene_end();
    return 0;
}
