/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls on a bus and on the reference, side by side: see calls.h. */
#include "calls.h"
#include "random/differential/reference.h"
#include "random/differential/stage.h"

#include <poll.h>
#include <stdarg.h>

#define EVENTS_MAX 128

struct subscriber {
    struct exitbus_subscription *handle; /* NULL: the slot is free */
    struct reference_subscription model;
    unsigned references; /* besides the handle's own */
    int fd;              /* -1: none yet */
};

static struct exitbus *bus; /* NULL: its memory may be gone */
static struct stage *stage;
static struct reference reference;
static struct subscriber subscribers[CALL_SLOTS];

/* ------------------------------------------------------------------------- what numbers mean */

void id_make(char *id, uint32_t number)
{
    memset(id, call_ids[number].filling, call_ids[number].size);
    id[call_ids[number].size] = '\0';
}

/* Every number is another event, the lower ones by their topics. */
void event_make(struct exitbus_event *event, uint32_t number)
{
    *event = (struct exitbus_event){.kind = EXITBUS_EVENT_PID,
                                    .pid = call_pids[number % CALL_PIDS],
                                    .exit_code = (int32_t)number,
                                    .status = -(int32_t)number,
                                    .flags = number & 3,
                                    .user_us = (uint64_t)number << 40,
                                    .realtime_ns = number % 5};
    if ((number / CALL_PIDS & 1) == 0)
        return;
    event->kind = EXITBUS_EVENT_EXEC;
    id_make(event->container_id, number % CALL_CONTAINERS);
    id_make(event->exec_id, number / CALL_CONTAINERS % CALL_IDS);
}

struct exitbus_topic topic_make(const struct call *call, char *container_id, char *exec_id)
{
    id_make(container_id, call->arguments[2] % CALL_CONTAINERS);
    id_make(exec_id, call->arguments[3]);
    return (struct exitbus_topic){.kind = (enum exitbus_topic_kind)(call->arguments[1] + 1),
                                  .pid = call_pids[call->arguments[2]],
                                  .container_id = container_id,
                                  .exec_id = exec_id};
}

/* --------------------------------------------------------------------------------- comparing */

static char difference[256];

static const char *differs(const char *format, ...) __attribute__((format(printf, 1, 2)));

static const char *differs(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(difference, sizeof difference, format, arguments);
    va_end(arguments);
    return difference;
}

static const char *compare(const char *what, long long expected, long long got)
{
    return expected == got ? NULL : differs("%s is %lld, expected %lld", what, got, expected);
}

static const char *compare_event(uint64_t seq, const struct exitbus_event *event)
{
    if (event->seq != seq)
        return differs("received event %llu, expected %llu", (unsigned long long)event->seq,
                       (unsigned long long)seq);
    const char *field = reference_differs(&reference, seq, event);
    return field ? differs("event %llu: %s differs", (unsigned long long)seq, field) : NULL;
}

/* ----------------------------------------------------------------------------------- publish */

static const char *published(const struct exitbus_event *events, size_t count, uint64_t began_ns,
                             int result, const uint64_t *got_seq)
{
    uint64_t seq = 0;
    int expected = reference_publish(&reference, events, count, began_ns, &seq);
    const char *found = compare("the result", expected, result);
    if (!found && result == 0 && got_seq)
        found = compare("seq", (long long)seq, (long long)*got_seq);
    return found;
}

static const char *run_publish_pid(const struct call *call)
{
    pid_t pid = call_pids[call->arguments[0]];
    int code = (int)call->arguments[1];
    struct exitbus_event event = {
        .kind = EXITBUS_EVENT_PID, .pid = pid, .exit_code = code, .status = code << 8};
    uint64_t began_ns = reference_now();
    return published(&event, 1, began_ns, exitbus_publish_pid(bus, pid, code), NULL);
}

static const char *run_publish_exec(const struct call *call)
{
    int code = (int)call->arguments[2];
    struct exitbus_event event = {
        .kind = EXITBUS_EVENT_EXEC, .exit_code = code, .status = code << 8};
    id_make(event.container_id, call->arguments[0]);
    id_make(event.exec_id, call->arguments[1]);
    uint64_t began_ns = reference_now();
    int result = exitbus_publish_exec(bus, event.container_id, event.exec_id, code);
    return published(&event, 1, began_ns, result, NULL);
}

static const char *run_publish(const struct call *call)
{
    struct exitbus_event event;
    event_make(&event, call->arguments[0]);
    uint64_t seq = 0, began_ns = reference_now();
    int result = exitbus_publish(bus, &event, &seq);
    return published(&event, 1, began_ns, result, &seq);
}

static const char *run_publish_batch(const struct call *call)
{
    static struct exitbus_event events[EXITBUS_BATCH_MAX];
    size_t count = call->arguments[1] + 1;
    for (uint32_t i = 0; i < count; i++)
        event_make(&events[i], call->arguments[0] + i);
    uint64_t seq = 0, began_ns = reference_now();
    int result = exitbus_publish_batch(bus, events, count, &seq);
    return published(events, count, began_ns, result, &seq);
}

/* ---------------------------------------------------------------------------------- subscribe */

static const char *run_subscribe(const struct call *call, struct subscriber *subscriber)
{
    if (subscriber->handle)
        return NULL;
    char container_id[EXITBUS_ID_MAX + 1], exec_id[EXITBUS_ID_MAX + 1];
    struct exitbus_topic topic = topic_make(call, container_id, exec_id);
    uint32_t flags = call->arguments[4]; /* 0, ONE_SHOT, STICKY */
    struct exitbus_subscription *handle = NULL;
    struct reference_subscription model;
    int result = exitbus_subscribe(bus, topic, flags, &handle);
    int expected = reference_subscribe(&reference, &topic, flags, &model);
    if (result == 0)
        *subscriber = (struct subscriber){.handle = handle, .model = model, .fd = -1};
    return compare("the result", expected, result);
}

/* A destroyed bus lives as long as a handle on it. */
static void forget_unheld_bus(void)
{
    bool held = !reference.closed;
    for (unsigned i = 0; i < CALL_SLOTS; i++)
        held |= subscribers[i].handle != NULL;
    if (!held)
        bus = NULL;
}

static void let_go(struct subscriber *subscriber)
{
    if (!subscriber->model.gone || subscriber->references > 0)
        return;
    subscriber->handle = NULL;
    forget_unheld_bus();
}

static const char *run_unsubscribe(struct subscriber *subscriber)
{
    if (subscriber->model.gone)
        return NULL;
    int result = exitbus_unsubscribe(subscriber->handle);
    reference_unsubscribe(&reference, &subscriber->model);
    let_go(subscriber);
    return compare("the result", 0, result);
}

static const char *run_ref(struct subscriber *subscriber)
{
    subscriber->references++;
    return compare("the result", 0, exitbus_subscription_ref(subscriber->handle));
}

static const char *run_unref(struct subscriber *subscriber)
{
    if (subscriber->references == 0)
        return NULL;
    subscriber->references--;
    int result = exitbus_subscription_unref(subscriber->handle);
    let_go(subscriber);
    return compare("the result", 0, result);
}

/* ------------------------------------------------------------------------------------ receive */

static struct exitbus_event received[EVENTS_MAX];
static uint64_t seqs[EVENTS_MAX];

static const char *run_receive(struct subscriber *subscriber, size_t capacity, ssize_t *count)
{
    ssize_t result;
    if (capacity == 1) {
        result = exitbus_receive(subscriber->handle, received, 0);
        result += result == 0;
    } else {
        result = exitbus_receive_batch(subscriber->handle, received, capacity, 0);
    }
    /* A batch may be smaller than it could be, but not empty. */
    if (result > 0 && (size_t)result < capacity)
        capacity = (size_t)result;
    *count = reference_receive(&reference, &subscriber->model, seqs, capacity);
    const char *found = compare("the result", *count, result);
    for (ssize_t i = 0; i < *count && !found; i++)
        found = compare_event(seqs[i], &received[i]);
    return found;
}

static const char *run_receive_all(struct subscriber *subscriber)
{
    const char *found;
    ssize_t count;
    do
        found = run_receive(subscriber, EVENTS_MAX, &count);
    while (!found && count > 0 && !subscriber->model.sticky);
    return found;
}

static const char *run_wait_pid(struct subscriber *subscriber, pid_t pid)
{
    struct exitbus_event event;
    uint64_t seq = 0;
    int result = exitbus_receive_pid(subscriber->handle, pid, &event, &(uint64_t){0}, 0);
    int expected = reference_wait_pid(&reference, &subscriber->model, pid, &seq);
    const char *found = compare("the result", expected, result);
    return !found && result == 0 ? compare_event(seq, &event) : found;
}

/* --------------------------------------------------------------------------------- look, end */

static const char *run_poll(struct subscriber *subscriber)
{
    subscriber->fd = exitbus_subscription_fd(subscriber->handle);
    struct pollfd pollfd = {.fd = subscriber->fd, .events = POLLIN};
    if (subscriber->fd < 0 || poll(&pollfd, 1, 0) < 0)
        return differs("no descriptor to poll: %d", subscriber->fd);
    bool expected = reference_closed(&reference, &subscriber->model) ||
                    reference_pending(&reference, &subscriber->model) > 0;
    return compare("readable", expected, pollfd.revents == POLLIN);
}

static const char *run_pending(const struct subscriber *subscriber)
{
    return compare("pending", (long long)reference_pending(&reference, &subscriber->model),
                   exitbus_subscription_pending(subscriber->handle));
}

static const char *run_stats(void)
{
    struct exitbus_stats stats;
    const char *found = compare("the result", 0, exitbus_stats(bus, &stats));
    if (!found)
        found = compare("published", (long long)reference.published, (long long)stats.published);
    if (!found)
        found = compare("subscriptions", (long long)reference.subscriptions,
                        (long long)stats.subscriptions);
    if (!found)
        found = compare("delivered", (long long)reference.delivered, (long long)stats.delivered);
    if (!found)
        found = compare("dropped", (long long)reference.dropped, (long long)stats.dropped);
    return found;
}

static const char *run_destroy(void)
{
    if (reference.closed)
        return NULL;
    int result = exitbus_destroy(bus);
    stage->bus = NULL;
    reference.closed = true;
    forget_unheld_bus();
    return compare("the result", 0, result);
}

/* --------------------------------------------------------------------------------- sequences */

static const char *run_on_bus(const struct call *call)
{
    switch (call->kind) {
    case CALL_PUBLISH_PID:
        return run_publish_pid(call);
    case CALL_PUBLISH_EXEC:
        return run_publish_exec(call);
    case CALL_PUBLISH:
        return run_publish(call);
    case CALL_PUBLISH_BATCH:
        return run_publish_batch(call);
    case CALL_SUBSCRIBE:
        return run_subscribe(call, &subscribers[call->arguments[0]]);
    case CALL_STATS:
        return run_stats();
    default:
        return run_destroy();
    }
}

static const char *run_on_subscription(const struct call *call)
{
    struct subscriber *subscriber = &subscribers[call->arguments[0]];
    ssize_t count;
    if (!subscriber->handle)
        return NULL;
    switch (call->kind) {
    case CALL_RECEIVE:
        return run_receive(subscriber, 1, &count);
    case CALL_RECEIVE_BATCH:
        return run_receive(subscriber, call->arguments[1] + 1, &count);
    case CALL_RECEIVE_ALL:
        return run_receive_all(subscriber);
    case CALL_WAIT_PID:
        return run_wait_pid(subscriber, call_pids[call->arguments[1]]);
    case CALL_UNSUBSCRIBE:
        return run_unsubscribe(subscriber);
    case CALL_REF:
        return run_ref(subscriber);
    case CALL_UNREF:
        return run_unref(subscriber);
    case CALL_POLL:
        return run_poll(subscriber);
    default:
        return run_pending(subscriber);
    }
}

static const char *run_call(const struct call *call)
{
    return call->kind <= CALL_PUBLISH_BATCH || call->kind >= CALL_STATS ? run_on_bus(call)
                                                                        : run_on_subscription(call);
}

static void leave_stage(void)
{
    for (unsigned i = 0; i < CALL_SLOTS; i++) {
        struct subscriber *subscriber = &subscribers[i];
        if (subscriber->handle && !subscriber->model.gone)
            exitbus_unsubscribe(subscriber->handle);
        for (; subscriber->references > 0; subscriber->references--)
            exitbus_subscription_unref(subscriber->handle);
        subscriber->handle = NULL;
    }
    reference_finish(&reference);
}

const char *calls_run(const struct call *calls, size_t count, bool own_allocator)
{
    stage = stage_new(own_allocator);
    bus = stage->bus;
    reference_init(&reference);
    const char *found = NULL;
    for (size_t i = 0; i < count && !found && bus; i++)
        found = run_call(&calls[i]);
    leave_stage();
    return found;
}
