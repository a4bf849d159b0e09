/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The scene of a test in which threads are stopped: a bus with a witness that sees every event,
 * readers of every manner (asleep, by descriptor) on several topics, others who publish, subscribe,
 * receive and unsubscribe from beginning to end, and a judge who compares what everybody has got.
 * The judgement: the witness has the bus's order without a gap, and every reader has exactly the
 * matching part of it.
 */
#ifndef SCENE_H
#define SCENE_H

#include "support/halt.h"

#include <exitbus/exitbus.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#define LOG_MAX 4096

/* Events that victims publish; nobody else publishes for these topics. */
#define VICTIM_PID 4001
#define VICTIM_CODE 1000 /* exit code of the first victim's first event; each has ten */
#define FILL_CODE 1
#define OTHER_CODE 2
#define LAST_CODE 3

enum how { ASLEEP, BY_FD };

/* Somebody who receives on a subscription, and what has come. */
struct reader {
    struct exitbus_subscription *subscription;
    struct exitbus_topic topic;
    enum how how;
    pthread_t thread;
    struct exitbus_event *log;
    struct halt_note note;
    _Atomic unsigned drained_at; /* by descriptor: taken + 1 when it last found nothing */
};

static inline struct exitbus_event pid_event(pid_t pid, int code)
{
    return (struct exitbus_event){.kind = EXITBUS_EVENT_PID,
                                  .pid = pid,
                                  .exit_code = code,
                                  .monotonic_ns = 1,
                                  .realtime_ns = 2,
                                  .max_rss_kib = (uint64_t)code};
}

static inline struct exitbus_event exec_event(const char *container, const char *exec, int code)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_EXEC, .exit_code = code};
    snprintf(event.container_id, sizeof event.container_id, "%s", container);
    snprintf(event.exec_id, sizeof event.exec_id, "%s", exec);
    return event;
}

static inline bool topic_takes(const struct exitbus_topic *topic, const struct exitbus_event *event)
{
    bool is_pid = event->kind == EXITBUS_EVENT_PID;
    switch (topic->kind) {
    case EXITBUS_TOPIC_ALL:
        return true;
    case EXITBUS_TOPIC_ANY_PID:
        return is_pid;
    case EXITBUS_TOPIC_PID:
        return is_pid && event->pid == topic->pid;
    case EXITBUS_TOPIC_ANY_EXEC:
        return !is_pid;
    case EXITBUS_TOPIC_CONTAINER:
        return !is_pid && strcmp(event->container_id, topic->container_id) == 0;
    default:
        return !is_pid && strcmp(event->container_id, topic->container_id) == 0 &&
               strcmp(event->exec_id, topic->exec_id) == 0;
    }
}

static inline bool same_event(const struct exitbus_event *a, const struct exitbus_event *b)
{
    return memcmp(a, b, offsetof(struct exitbus_event, container_id)) == 0 &&
           strcmp(a->container_id, b->container_id) == 0 && strcmp(a->exec_id, b->exec_id) == 0;
}

/* --------------------------------------------------------------------------------- readers */

static inline void reader_init(struct reader *reader, struct exitbus *bus,
                               struct exitbus_topic topic, uint32_t flags)
{
    memset(reader, 0, sizeof *reader);
    reader->topic = topic;
    reader->log = malloc(LOG_MAX * sizeof *reader->log);
    must(reader->log);
    must(exitbus_subscribe(bus, topic, flags, &reader->subscription) == 0);
}

/* Take what comes next. The result of the receive. */
static inline int reader_take(struct reader *reader, int64_t timeout)
{
    unsigned count = atomic_load(&reader->note.taken);
    must(count < LOG_MAX);
    int result = exitbus_receive(reader->subscription, &reader->log[count], timeout);
    if (result == 0)
        atomic_store(&reader->note.taken, count + 1);
    return result;
}

static inline void *reader_asleep(void *argument)
{
    struct reader *reader = argument;
    halt_note_here = &reader->note;
    int result;
    while ((result = reader_take(reader, -1)) == 0)
        continue;
    must_equal(result, -ESHUTDOWN);
    halt_note_here = NULL;
    return NULL;
}

static inline void *reader_by_fd(void *argument)
{
    struct reader *reader = argument;
    struct pollfd polled = {.fd = exitbus_subscription_fd(reader->subscription), .events = POLLIN};
    must(polled.fd >= 0);
    int result;
    while ((result = reader_take(reader, 0)) != -ESHUTDOWN) {
        if (result == 0)
            continue;
        must_equal(result, -EAGAIN);
        atomic_store(&reader->drained_at, atomic_load(&reader->note.taken) + 1);
        must(poll(&polled, 1, -1) == 1);
    }
    return NULL;
}

static inline void reader_start(struct reader *reader, enum how how)
{
    must(exitbus_subscription_ref(reader->subscription) == 0);
    reader->how = how;
    reader->thread = thread_start(how == ASLEEP ? reader_asleep : reader_by_fd, reader);
}

/* Unsubscribe, unless that was done, and wait for the end of its thread. */
static inline void reader_stop(struct reader *reader, bool unsubscribe)
{
    if (unsubscribe)
        must(exitbus_unsubscribe(reader->subscription) == 0);
    must(pthread_join(reader->thread, NULL) == 0);
    must(exitbus_subscription_unref(reader->subscription) == 0);
}

static inline void reader_free(struct reader *reader)
{
    free(reader->log);
    reader->log = NULL;
}

/* Until it has taken `count` events and waits for more, so that a publisher has to wake it. */
static inline void reader_await_rest(struct reader *reader, unsigned count)
{
    if (reader->how == BY_FD)
        await(atomic_load(&reader->drained_at) == count + 1);
    else
        await(atomic_load(&reader->note.slept_at) == count + 1);
}

/* ------------------------------------------------------------------------------- the judge */

/* The witness sees every event, and is never waited for: it takes only when there is judgement. */
static inline void witness_drain(struct reader *witness)
{
    struct exitbus_event batch[7];
    ssize_t got;
    for (;;) {
        int result = reader_take(witness, 0); /* by turns alone and in batches */
        if (result == -EAGAIN)
            break;
        must_equal(result, 0);
        got = exitbus_receive_batch(witness->subscription, batch, 7, 0);
        must(got > 0 || got == -EAGAIN);
        unsigned count = atomic_load(&witness->note.taken);
        for (ssize_t i = 0; i < got; i++)
            witness->log[count++] = batch[i];
        must(count < LOG_MAX);
        atomic_store(&witness->note.taken, count);
    }
    for (unsigned i = 1; i < atomic_load(&witness->note.taken); i++)
        must_equal(witness->log[i].seq, witness->log[0].seq + i);
}

static inline unsigned expected_count(const struct reader *witness,
                                      const struct exitbus_topic *topic)
{
    unsigned expected = 0;
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++)
        expected += topic_takes(topic, &witness->log[i]);
    return expected;
}

/* A reader has, or is about to have, exactly what the witness has for its topic. */
static inline void judge_reader(const struct reader *witness, struct reader *reader)
{
    unsigned expected = expected_count(witness, &reader->topic);
    await(atomic_load(&reader->note.taken) >= expected);
    must_equal(atomic_load(&reader->note.taken), expected);
    unsigned at = 0;
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++)
        if (topic_takes(&reader->topic, &witness->log[i]))
            must(same_event(&reader->log[at++], &witness->log[i]));
}

/* How often an exit code is in the order. */
static inline unsigned occurrences(const struct reader *witness, int code)
{
    unsigned found = 0;
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++)
        found += witness->log[i].exit_code == code;
    return found;
}

/* ------------------------------------------------------------------------------- the others */

static inline void *others_publish(void *bus)
{
    for (int i = 0; i < 4; i++) {
        struct exitbus_event events[] = {pid_event(100 + i, OTHER_CODE),
                                         exec_event("other", "exec", OTHER_CODE),
                                         pid_event(200 + i, OTHER_CODE)};
        uint64_t first, second;
        must_equal(exitbus_publish(bus, &events[0], &first), 0);
        must_equal(exitbus_publish_batch(bus, events, 3, &second), 0);
        must(second > first);
        must_equal(exitbus_publish_exec(bus, "other", "", OTHER_CODE), 0);
    }
    return NULL;
}

/* Until its own event has come. */
static inline void others_take(struct exitbus_subscription *subscription, pid_t own,
                               int64_t timeout)
{
    struct exitbus_event event;
    do
        must_equal(exitbus_receive(subscription, &event, timeout), 0);
    while (event.pid != own);
}

static inline void *others_subscribe(void *bus)
{
    const pid_t own = 77;
    for (int i = 0; i < 2; i++) {
        struct exitbus_subscription *all, *exact, *once;
        struct exitbus_event event;
        must_equal(exitbus_subscribe(bus, exitbus_topic_all(), 0, &all), 0);
        must_equal(exitbus_subscribe(bus, exitbus_topic_pid(own), 0, &exact), 0);
        must_equal(
            exitbus_subscribe(bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_ONE_SHOT, &once), 0);
        struct pollfd polled = {.fd = exitbus_subscription_fd(exact), .events = POLLIN};
        must(polled.fd >= 0);
        must_equal(exitbus_receive(exact, &event, 0), -EAGAIN);
        must_equal(exitbus_publish_pid(bus, own, OTHER_CODE), 0);
        must(poll(&polled, 1, -1) == 1);
        others_take(exact, own, 0);
        others_take(all, own, -1);
        must_equal(exitbus_receive(once, &event, -1), 0);
        must_equal(exitbus_receive(once, &event, -1), -ESHUTDOWN);
        struct exitbus_stats stats;
        must_equal(exitbus_stats(bus, &stats), 0);
        must(exitbus_subscription_pending(all) >= 0);
        must_equal(exitbus_unsubscribe(once), 0);
        must_equal(exitbus_unsubscribe(exact), 0);
        must_equal(exitbus_unsubscribe(all), 0);
    }
    return NULL;
}

/* All of it, by threads of their own, from beginning to end. */
static inline void others_work(struct exitbus *bus)
{
    void *(*const bodies[])(void *) = {others_publish, others_publish, others_subscribe};
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        threads[i] = thread_start(bodies[i], bus);
    for (size_t i = 0; i < 3; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

#endif
