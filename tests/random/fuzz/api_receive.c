/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Fuzzing the API: receive. See fuzz_api.c. */
#include "scene.h"

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
    if (result != -EAGAIN || timeout_ns == 0)
        return result;
    return scene.sections > 0 ? -EDEADLK : -ETIMEDOUT;
}

/*
 * An event that is ordered may be waiting for memory: a try says so, and a wait ends without. So
 * may a short wait when the memory is there again, since waits try at most each 200 ms.
 */
static bool excused(ssize_t result, int64_t timeout_ns)
{
    if (!scene.stalled)
        return false;
    return result == -ETIMEDOUT ||
           (refusing() &&
            result == (timeout_ns == 0 ? -ENOMEM : with_timeout(-EAGAIN, timeout_ns)));
}

static void received(uint64_t seq, const struct exitbus_event *event)
{
    const char *field = reference_differs(&scene.model, seq, event);
    if (field)
        fprintf(stderr, "event %llu: %s differs\n", (unsigned long long)seq, field);
    must(!field);
}

void receive(struct subscriber *subscriber, size_t capacity, int64_t timeout_ns)
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
    if (excused(result, timeout_ns))
        return;
    if (result > 0) /* "up to" capacity: it may stop where a segment ends */
        capacity = count;
    ssize_t expected = reference_receive(&scene.model, &subscriber->model, seqs, capacity);
    must_equal(result, with_timeout(expected, timeout_ns));
    for (size_t i = 0; i < count; i++)
        received(seqs[i], &events[i]);
}

void do_receive(void)
{
    struct subscriber *subscriber = held_subscriber();
    if (subscriber)
        receive(subscriber, 1, input_timeout(subscriber));
}

void do_receive_batch(void)
{
    struct subscriber *subscriber = held_subscriber();
    size_t capacity = byte() % (EXITBUS_BATCH_MAX * 2);
    if (subscriber && capacity > 1)
        receive(subscriber, capacity, input_timeout(subscriber));
}

/* What a wait that has timed out took, it dropped: none of it may be what it waited for. */
static void dropped_by_wait(struct subscriber *subscriber, pid_t pid)
{
    ssize_t left = exitbus_subscription_pending(subscriber->handle);
    uint64_t seq;
    while ((ssize_t)reference_pending(&scene.model, &subscriber->model) > left) {
        must_equal(reference_receive(&scene.model, &subscriber->model, &seq, 1), 1);
        const struct exitbus_event *event = &scene.model.log[seq - 1].event;
        must(event->kind != EXITBUS_EVENT_PID || event->pid != pid);
    }
}

void do_wait_pid(void)
{
    struct subscriber *subscriber = held_subscriber();
    pid_t pid = input_pid(&scene.input);
    if (!subscriber)
        return;
    /* It waits for good if the pid never comes. */
    int64_t timeout_ns = byte() & 1;
    struct exitbus_event event;
    memset((void *)&event, UNTOUCHED, sizeof event);
    int result = exitbus_receive_pid(subscriber->handle, pid, &event, &(uint64_t){0}, timeout_ns);
    trace("wait_pid(s%td, %d) = %d", subscriber - scene.subscribers, pid, result);
    if (result != 0)
        must_be_untouched(event);
    if (pid <= 0) {
        must_equal(result, -EINVAL);
        return;
    }
    /* How many it has dropped before can't be known then. */
    if (excused(result, timeout_ns)) {
        unsubscribe(subscriber);
        return;
    }
    uint64_t seq;
    if (result == -ETIMEDOUT) { /* it may be over before all that is pending was looked at */
        dropped_by_wait(subscriber, pid);
        return;
    }
    ssize_t expected = reference_wait_pid(&scene.model, &subscriber->model, pid, &seq);
    must_equal(result, with_timeout(expected, timeout_ns));
    if (result == 0)
        received(seq, &event);
}
