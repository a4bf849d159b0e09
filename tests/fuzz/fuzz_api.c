/* SPDX-License-Identifier: LGPL-2.1-or-later */
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
#include "differential/reference.h"
#include "differential/stage.h"
#include "input.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <urcu-bp.h>

#define SUBSCRIPTIONS 12
#define DESCRIPTORS_MAX 8 /* per input: 32 buses at a time, 1024 descriptors */
#define SECTIONS_MAX 3

/* A byte that no failed call may touch. */
#define UNTOUCHED 0x5c

struct subscriber {
    struct exitbus_subscription *handle; /* NULL: free */
    struct reference_subscription model;
    unsigned references; /* besides the handle's own */
    int fd;
};

static struct {
    struct input input;
    struct exitbus *bus;
    struct stage *stage;
    struct reference model;
    struct subscriber subscribers[SUBSCRIPTIONS];
    unsigned descriptors, sections;
    bool over;    /* the bus's memory is gone */
    bool stalled; /* an ordered event may lack memory */
    bool was_stalled;
} scene;

static bool tracing;

static void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void trace(const char *format, ...)
{
    if (!tracing)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

#define must_be_untouched(object)                                                                  \
    do {                                                                                           \
        for (size_t byte_ = 0; byte_ < sizeof(object); byte_++)                                    \
            must_equal(((const unsigned char *)&(object))[byte_], UNTOUCHED);                      \
    } while (0)

static uint8_t byte(void)
{
    return input_byte(&scene.input);
}

static bool refusing(void)
{
    return atomic_load(&scene.stage->account.refuse);
}

static struct subscriber *some_subscriber(void)
{
    return &scene.subscribers[byte() % SUBSCRIPTIONS];
}

/* One that may be received from: not unsubscribed, or held by a reference. */
static struct subscriber *held_subscriber(void)
{
    struct subscriber *subscriber = some_subscriber();
    return subscriber->handle ? subscriber : NULL;
}

/* ------------------------------------------------------------------------------------ publish */

/* The bus has returned `result`; the specification has its word. */
static void published(const struct exitbus_event *events, size_t count, uint64_t began_ns,
                      int result, const uint64_t *seq)
{
    trace("    = %d", result);
    if (result == -ENOMEM && refusing()) {
        if (seq)
            must_be_untouched(*seq);
        return;
    }
    uint64_t first;
    int expected = reference_publish(&scene.model, events, count, began_ns, &first);
    must(reference_error_same(&scene.model, expected, result));
    if (result == 0 && seq)
        must_equal(*seq, first);
    if (result != 0 && seq)
        must_be_untouched(*seq);
    if (result == 0) /* and so whatever came before is complete */
        scene.stalled = refusing();
    scene.was_stalled |= scene.stalled;
}

static void do_publish(void)
{
    struct exitbus_event event;
    input_event(&scene.input, &event);
    uint64_t seq, began_ns = reference_now();
    memset(&seq, UNTOUCHED, sizeof seq);
    bool want_seq = event.exit_code & 1;
    trace("publish(kind %u, flags %#x, pid %d, \"%.128s\", \"%.128s\")", event.kind, event.flags,
          event.pid, event.container_id, event.exec_id);
    int result = exitbus_publish(scene.bus, &event, want_seq ? &seq : NULL);
    published(&event, 1, began_ns, result, want_seq ? &seq : NULL);
}

static void do_publish_pid(void)
{
    pid_t pid = input_pid(&scene.input);
    int exit_code = (int)input_number(&scene.input, 2) - 256;
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID,
                                  .pid = pid,
                                  .exit_code = exit_code,
                                  .status = (int)((unsigned)exit_code << 8 & 0xff00)};
    uint64_t began_ns = reference_now();
    trace("publish_pid(%d, %d)", pid, exit_code);
    published(&event, 1, began_ns, exitbus_publish_pid(scene.bus, pid, exit_code), NULL);
}

static void do_publish_exec(void)
{
    char container_id[EXITBUS_ID_MAX + 2], exec_id[EXITBUS_ID_MAX + 2];
    input_id(&scene.input, container_id);
    input_id(&scene.input, exec_id);
    int exit_code = byte();
    struct exitbus_event event = {
        .kind = EXITBUS_EVENT_EXEC, .exit_code = exit_code, .status = exit_code << 8};
    memcpy(event.container_id, container_id, sizeof event.container_id);
    memcpy(event.exec_id, exec_id, sizeof event.exec_id);
    uint64_t began_ns = reference_now();
    trace("publish_exec(\"%s\", \"%s\", %d)", container_id, exec_id, exit_code);
    int result = exitbus_publish_exec(scene.bus, container_id, exec_id, exit_code);
    published(&event, 1, began_ns, result, NULL);
}

static void do_publish_wait(void)
{
    pid_t pid = input_pid(&scene.input);
    uint8_t shape = byte();
    int status = shape & 1 ? (int)input_number(&scene.input, 4) : (int)input_number(&scene.input, 2);
    struct rusage usage = {.ru_utime = {.tv_sec = byte(), .tv_usec = byte()},
                           .ru_stime = {.tv_sec = 0, .tv_usec = 999999},
                           .ru_maxrss = shape};
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = pid};
    if (!reference_status(status, &event))
        event.kind = 0; /* which is refused, too */
    if (shape & 2) {
        event.user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
        event.system_us = 999999;
        event.max_rss_kib = shape;
    }
    uint64_t began_ns = reference_now();
    trace("publish_wait(%d, %#x)", pid, (unsigned)status);
    int result = exitbus_publish_wait(scene.bus, pid, status, shape & 2 ? &usage : NULL);
    published(&event, 1, began_ns, result, NULL);
}

static void do_publish_batch(void)
{
    static struct exitbus_event events[EXITBUS_BATCH_MAX + 1];
    uint8_t shape = byte();
    size_t count = shape < 250 ? shape % 8u : EXITBUS_BATCH_MAX - 4 + shape % 6u; /* 60 to 65 */
    for (size_t i = 0; i < count; i++) {
        if (i < 8)
            input_event(&scene.input, &events[i]);
        else
            events[i] = events[i % 8];
    }
    uint64_t seq, began_ns = reference_now();
    memset(&seq, UNTOUCHED, sizeof seq);
    trace("publish_batch(%zu)", count);
    int result = exitbus_publish_batch(scene.bus, events, count, &seq);
    published(events, count, began_ns, result, &seq);
}

/* ---------------------------------------------------------------------------------- subscribe */

/* Fields that the kind does not name are ignored: they are no valid pointers here. */
static struct exitbus_topic input_topic(char *container_id, char *exec_id)
{
    const char *nothing = (const char *)(uintptr_t)1;
    uint8_t shape = byte();
    struct exitbus_topic topic = {.kind = (enum exitbus_topic_kind)(shape % 8),
                                  .pid = -7,
                                  .container_id = nothing,
                                  .exec_id = nothing};
    if (topic.kind == EXITBUS_TOPIC_PID)
        topic.pid = input_pid(&scene.input);
    if (topic.kind == EXITBUS_TOPIC_CONTAINER || topic.kind == EXITBUS_TOPIC_EXEC) {
        input_id(&scene.input, container_id);
        topic.container_id = (shape & 0xf0) == 0xf0 ? NULL : container_id;
    }
    if (topic.kind == EXITBUS_TOPIC_EXEC) {
        input_id(&scene.input, exec_id);
        topic.exec_id = (shape & 0xf0) == 0xe0 ? NULL : exec_id;
    }
    return topic;
}

static void do_subscribe(void)
{
    struct subscriber *subscriber = some_subscriber();
    char container_id[EXITBUS_ID_MAX + 2] = "", exec_id[EXITBUS_ID_MAX + 2] = "";
    struct exitbus_topic topic = input_topic(container_id, exec_id);
    uint8_t shape = byte();
    uint32_t flags = shape < 192 ? shape & 1 : shape;
    if (subscriber->handle)
        return;
    struct exitbus_subscription *handle;
    memset(&handle, UNTOUCHED, sizeof handle);
    int result = exitbus_subscribe(scene.bus, topic, flags, &handle);
    trace("subscribe({%d, %d, \"%s\", \"%s\"}, %#x) = %d to s%td", topic.kind, topic.pid,
          container_id, exec_id, flags, result, subscriber - scene.subscribers);
    if (result != 0)
        must_be_untouched(handle);
    if (result == -ENOMEM && refusing())
        return;
    struct reference_subscription model;
    int expected = reference_subscribe(&scene.model, &topic, flags, &model);
    must(reference_error_same(&scene.model, expected, result));
    /* What was given belongs to the caller again. */
    memset(container_id, 'X', sizeof container_id);
    memset(exec_id, 'X', sizeof exec_id);
    if (result == 0)
        *subscriber = (struct subscriber){.handle = handle, .model = model, .fd = -1};
}

/* Once a destroyed bus has no handle left, its memory may be gone. */
static void forget_if_unheld(struct subscriber *subscriber)
{
    if (!subscriber->model.gone || subscriber->references > 0)
        return;
    subscriber->handle = NULL;
    if (!scene.model.closed)
        return;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (scene.subscribers[i].handle)
            return;
    scene.over = true;
}

static void unsubscribe(struct subscriber *subscriber)
{
    trace("unsubscribe(s%td)", subscriber - scene.subscribers);
    must_equal(exitbus_unsubscribe(subscriber->handle), 0);
    reference_unsubscribe(&scene.model, &subscriber->model);
    forget_if_unheld(subscriber);
}

static void unref(struct subscriber *subscriber)
{
    trace("unref(s%td)", subscriber - scene.subscribers);
    must_equal(exitbus_subscription_unref(subscriber->handle), 0);
    subscriber->references--;
    forget_if_unheld(subscriber);
}

static void do_unsubscribe(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (subscriber && !subscriber->model.gone)
        unsubscribe(subscriber);
}

static void do_ref(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (!subscriber)
        return;
    trace("ref(s%td)", subscriber - scene.subscribers);
    must_equal(exitbus_subscription_ref(subscriber->handle), 0);
    subscriber->references++;
}

static void do_unref(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (subscriber && subscriber->references > 0)
        unref(subscriber);
}

/* ------------------------------------------------------------------------------------ receive */

/* A timeout that can't make this thread wait for good, or for long. */
static int64_t input_timeout(const struct subscriber *subscriber)
{
    static const int64_t timeouts[] = {0, 0, 0, 1, -1, INT64_MAX, INT64_MIN, 1000000000};
    int64_t timeout_ns = timeouts[byte() % 8];
    bool ready = reference_pending(&scene.model, &subscriber->model) > 0 ||
                 reference_closed(&scene.model, &subscriber->model);
    if (ready && !scene.stalled)
        return timeout_ns;
    return timeout_ns == 0 ? 0 : 1;
}

/* What the specification says, as this timeout puts it. */
static ssize_t with_timeout(ssize_t result, int64_t timeout_ns)
{
    return result == -EAGAIN && timeout_ns != 0 ? -ETIMEDOUT : result;
}

/* An event that is ordered may be waiting for memory: the bus says so. */
static bool excused(ssize_t result)
{
    return result == -ENOMEM && scene.stalled && refusing();
}

static void received(uint64_t seq, const struct exitbus_event *event)
{
    const char *field = reference_differs(&scene.model, seq, event);
    if (field)
        fprintf(stderr, "event %llu: %s differs\n", (unsigned long long)seq, field);
    must(!field);
}

static void receive(struct subscriber *subscriber, size_t capacity, int64_t timeout_ns)
{
    static struct exitbus_event events[EXITBUS_BATCH_MAX * 2];
    uint64_t seqs[EXITBUS_BATCH_MAX * 2];
    memset((void *)events, UNTOUCHED, (capacity + 1) * sizeof events[0]);
    ssize_t result;
    if (capacity == 1)
        result = exitbus_receive(subscriber->handle, events, timeout_ns);
    else
        result = exitbus_receive_batch(subscriber->handle, events, capacity, timeout_ns);
    trace("receive(s%td, %zu, %lld) = %zd", subscriber - scene.subscribers, capacity,
          (long long)timeout_ns, result);
    if (result == 0 && capacity == 1)
        result = 1;
    else
        must(result != 0);
    size_t count = result > 0 ? (size_t)result : 0;
    must(count <= capacity);
    must_be_untouched(events[count]);
    if (excused(result))
        return;
    if (result > 0) /* "up to" capacity: it may stop where a segment ends */
        capacity = count;
    ssize_t expected = reference_receive(&scene.model, &subscriber->model, seqs, capacity);
    must_equal(result, with_timeout(expected, timeout_ns));
    for (size_t i = 0; i < count; i++)
        received(seqs[i], &events[i]);
}

static void do_receive(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (subscriber)
        receive(subscriber, 1, input_timeout(subscriber));
}

static void do_receive_batch(void)
{
    struct subscriber *subscriber = held_subscriber();
    size_t capacity = byte() % (EXITBUS_BATCH_MAX * 2);
    if (subscriber && capacity > 1)
        receive(subscriber, capacity, input_timeout(subscriber));
}

static void do_wait_pid(void)
{
    struct subscriber *subscriber = held_subscriber();
    pid_t pid = input_pid(&scene.input);
    if (!subscriber)
        return;
    /* It waits for good if the pid never comes. */
    int64_t timeout_ns = byte() & 1;
    struct exitbus_event event;
    memset((void *)&event, UNTOUCHED, sizeof event);
    int result = exitbus_wait_pid(subscriber->handle, pid, timeout_ns, &event);
    trace("wait_pid(s%td, %d) = %d", subscriber - scene.subscribers, pid, result);
    if (result != 0)
        must_be_untouched(event);
    if (pid <= 0) {
        must_equal(result, -EINVAL);
        return;
    }
    if (excused(result)) { /* how many it has dropped before can't be known */
        unsubscribe(subscriber);
        return;
    }
    uint64_t seq;
    ssize_t expected = reference_wait_pid(&scene.model, &subscriber->model, pid, &seq);
    must_equal(result, with_timeout(expected, timeout_ns));
    if (result == 0)
        received(seq, &event);
}

/* --------------------------------------------------------------------------- looking at things */

static void check_fd(const struct subscriber *subscriber)
{
    struct pollfd pollfd = {.fd = subscriber->fd, .events = POLLIN};
    int ready = poll(&pollfd, 1, 0);
    must(ready >= 0 && !(pollfd.revents & ~POLLIN));
    bool expected = reference_closed(&scene.model, &subscriber->model) ||
                    reference_pending(&scene.model, &subscriber->model) > 0;
    must_equal(ready, expected);
}

static void do_fd(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (!subscriber)
        return;
    if (subscriber->fd < 0) {
        if (scene.descriptors == DESCRIPTORS_MAX)
            return;
        scene.descriptors++;
        subscriber->fd = exitbus_subscription_fd(subscriber->handle);
    }
    trace("fd(s%td)", subscriber - scene.subscribers);
    must(subscriber->fd >= 0);
    must_equal(exitbus_subscription_fd(subscriber->handle), subscriber->fd);
}

static void check_subscriber(const struct subscriber *subscriber)
{
    size_t expected = reference_pending(&scene.model, &subscriber->model);
    ssize_t pending = exitbus_pending(subscriber->handle);
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

/* ------------------------------------------------------------------------------- everything else */

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

static void do_destroy(void)
{
    if (byte() != 0xd5 || scene.model.closed) /* it takes 10 ms */
        return;
    trace("destroy()");
    int result = exitbus_destroy(scene.bus);
    if (scene.sections > 0) {
        must_equal(result, -EDEADLK);
        return;
    }
    must_equal(result, 0);
    scene.stage->bus = NULL;
    scene.model.closed = true;
    scene.over = true;
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
        if (scene.subscribers[i].handle)
            scene.over = false;
}

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
    must_equal(exitbus_wait_pid(NULL, 1, -1, &event), -EINVAL);
    must_equal(exitbus_subscription_ref(NULL), -EINVAL);
    must_equal(exitbus_subscription_fd(NULL), -EINVAL);
    must_equal(exitbus_pending(NULL), -EINVAL);
    must_equal(exitbus_unsubscribe(NULL), 0);
    must_equal(exitbus_subscription_unref(NULL), 0);
    if (sub) {
        must_equal(exitbus_receive(sub, NULL, -1), -EINVAL);
        must_equal(exitbus_receive_batch(sub, NULL, 1, -1), -EINVAL);
        must_equal(exitbus_receive_batch(sub, &event, 0, -1), -EINVAL);
        must_equal(exitbus_wait_pid(sub, 1, -1, NULL), -EINVAL);
        must_equal(exitbus_wait_pid(sub, 0, -1, &event), -EINVAL);
    }
    must_be_untouched(event);
}

static void do_bad_calls(void)
{
    struct subscriber *subscriber = held_subscriber();
    trace("calls with NULL");
    bad_bus_calls(scene.bus);
    bad_subscription_calls(subscriber ? subscriber->handle : NULL);
}

static void do_create(void)
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
    do_subscribe,   do_subscribe,   do_subscribe, do_publish,       do_publish,       do_publish_pid,
    do_publish_pid, do_publish_pid, do_receive,   do_publish_exec,  do_publish_exec,  do_publish_wait,
    do_publish_batch, do_publish_batch, do_receive, do_receive_batch, do_receive_batch, do_wait_pid,
    do_unsubscribe, do_unsubscribe, do_ref,       do_unref,         do_fd,            check_stats,
    do_refuse,      do_section,     do_destroy,   do_bad_calls,     do_create,        do_others,
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
        while (subscriber->handle && reference_pending(&scene.model, &subscriber->model) > 0)
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
