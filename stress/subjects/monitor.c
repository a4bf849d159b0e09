/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subjects `mutex` and `bounded`: a monitor as container shims have it, one mutex over the list of
 * subscriptions, held while an event is handed to all of them. With unbounded channels that is
 * sound, if slow: the reference model. With bounded ones the publisher waits, lock in hand, until
 * the slowest receiver has made room; a receiver that wants the lock meanwhile, to unsubscribe, and
 * everybody behind it, waits for ever.
 */
#include "subjects.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BOUNDED_CAPACITY 32 /* as containerd's shims had */
#define FIRST_CAPACITY 4
#define KEPT_CAPACITY 1024 /* a larger ring is given back when it is empty */

struct channel;

struct monitor {
    pthread_mutex_t lock;
    struct channel *first;
    uint64_t seq;
    size_t bound; /* events a channel takes; 0: any number */
    uint64_t subscriptions;
    _Atomic(struct channel *) full; /* the publisher waits for this one */
    _Atomic pid_t publisher;        /* and this is it */
};

struct channel {
    struct monitor *monitor;
    struct channel *next, *previous; /* under the monitor's lock */
    struct subject_topic topic;
    pthread_mutex_t lock; /* for the rest; taken inside the monitor's */
    pthread_cond_t not_empty, not_full;
    unsigned references;
    bool closed, one_shot;
    struct subject_event *ring;
    size_t capacity, head, count;
    _Atomic pid_t receiver; /* who received last */
};

static void cond_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static int create(size_t bound, void **bus)
{
    struct monitor *monitor = calloc(1, sizeof *monitor);
    if (!monitor)
        return -ENOMEM;
    pthread_mutex_init(&monitor->lock, NULL);
    monitor->bound = bound;
    *bus = monitor;
    return 0;
}

static int create_mutex(const struct subject_host *host, void **bus)
{
    (void)host;
    return create(0, bus);
}

static int create_bounded(const struct subject_host *host, void **bus)
{
    (void)host;
    return create(BOUNDED_CAPACITY, bus);
}

static int destroy(void *bus)
{
    pthread_mutex_destroy(&((struct monitor *)bus)->lock);
    free(bus);
    return 0;
}

/* ---------------------------------------------------------------------------------- channels */

static bool ring_grow(struct channel *channel)
{
    size_t capacity = channel->capacity ? 2 * channel->capacity : FIRST_CAPACITY;
    struct subject_event *ring = malloc(capacity * sizeof *ring);
    if (!ring)
        return false;
    for (size_t i = 0; i < channel->count; i++)
        ring[i] = channel->ring[(channel->head + i) % channel->capacity];
    free(channel->ring);
    channel->ring = ring;
    channel->capacity = capacity;
    channel->head = 0;
    return true;
}

/* Under the monitor's lock. */
static void send(struct channel *channel, const struct subject_event *event)
{
    struct monitor *monitor = channel->monitor;
    pthread_mutex_lock(&channel->lock);
    while (monitor->bound && channel->count == monitor->bound && !channel->closed) {
        monitor->publisher = gettid();
        monitor->full = channel;
        pthread_cond_wait(&channel->not_full, &channel->lock);
        monitor->full = NULL;
    }
    if (!channel->closed && (channel->count < channel->capacity || ring_grow(channel))) {
        channel->ring[(channel->head + channel->count++) % channel->capacity] = *event;
        pthread_cond_signal(&channel->not_empty);
    }
    pthread_mutex_unlock(&channel->lock);
}

static void unlink_channel(struct channel *channel)
{
    if (channel->previous)
        channel->previous->next = channel->next;
    else
        channel->monitor->first = channel->next;
    if (channel->next)
        channel->next->previous = channel->previous;
    channel->monitor->subscriptions--;
}

static int publish(void *bus, const struct subject_event *events, size_t count, uint64_t *first_seq)
{
    struct monitor *monitor = bus;
    pthread_mutex_lock(&monitor->lock);
    *first_seq = monitor->seq + 1;
    for (size_t i = 0; i < count; i++) {
        struct subject_event event = events[i];
        event.seq = ++monitor->seq;
        for (struct channel *channel = monitor->first; channel; channel = channel->next)
            if (subject_matches(&channel->topic, &event))
                send(channel, &event);
    }
    pthread_mutex_unlock(&monitor->lock);
    return 0;
}

static int subscribe(void *bus, const struct subject_topic *topic, uint32_t flags,
                     void **subscription)
{
    struct monitor *monitor = bus;
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return -ENOMEM;
    channel->monitor = monitor;
    channel->topic = *topic;
    channel->one_shot = flags & SUBJECT_FLAG_ONE_SHOT;
    channel->references = 1;
    pthread_mutex_init(&channel->lock, NULL);
    cond_init(&channel->not_empty);
    cond_init(&channel->not_full);
    pthread_mutex_lock(&monitor->lock);
    channel->next = monitor->first;
    if (channel->next)
        channel->next->previous = channel;
    monitor->first = channel;
    monitor->subscriptions++;
    pthread_mutex_unlock(&monitor->lock);
    *subscription = channel;
    return 0;
}

static int ref(void *subscription)
{
    struct channel *channel = subscription;
    pthread_mutex_lock(&channel->lock);
    channel->references++;
    pthread_mutex_unlock(&channel->lock);
    return 0;
}

static int unref(void *subscription)
{
    struct channel *channel = subscription;
    pthread_mutex_lock(&channel->lock);
    bool last = --channel->references == 0;
    pthread_mutex_unlock(&channel->lock);
    if (last) {
        pthread_cond_destroy(&channel->not_empty);
        pthread_cond_destroy(&channel->not_full);
        pthread_mutex_destroy(&channel->lock);
        free(channel->ring);
        free(channel);
    }
    return 0;
}

static int unsubscribe(void *subscription)
{
    struct channel *channel = subscription;
    struct monitor *monitor = channel->monitor;
    pthread_mutex_lock(&monitor->lock);
    unlink_channel(channel);
    /* Before others can publish again: an event that skips the channel must find it closed. */
    pthread_mutex_lock(&channel->lock);
    channel->closed = true;
    pthread_cond_broadcast(&channel->not_empty);
    pthread_mutex_unlock(&channel->lock);
    pthread_mutex_unlock(&monitor->lock);
    return unref(channel);
}

/* ----------------------------------------------------------------------------------- receive */

static struct timespec deadline_after(int64_t timeout_ns)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec +=
        timeout_ns / 1000000000 + (deadline.tv_nsec + timeout_ns % 1000000000) / 1000000000;
    deadline.tv_nsec = (deadline.tv_nsec + timeout_ns % 1000000000) % 1000000000;
    return deadline;
}

/* 0: there is something, or it is closed. */
static int wait_for_events(struct channel *channel, int64_t timeout_ns)
{
    if (channel->count > 0 || channel->closed)
        return 0;
    if (timeout_ns == 0)
        return -EAGAIN;
    struct timespec deadline = deadline_after(timeout_ns > 0 ? timeout_ns : 0);
    int error = 0;
    channel->references++; /* a waiting call needs none of its caller's */
    while (channel->count == 0 && !channel->closed && !error)
        error = timeout_ns < 0
                    ? pthread_cond_wait(&channel->not_empty, &channel->lock)
                    : pthread_cond_timedwait(&channel->not_empty, &channel->lock, &deadline);
    bool nothing = channel->count == 0 && !channel->closed;
    if (--channel->references == 0) { /* for unref to free it */
        channel->references++;
        pthread_mutex_unlock(&channel->lock);
        unref(channel);
        return -ESHUTDOWN;
    }
    return nothing ? -ETIMEDOUT : 0;
}

static size_t take(struct channel *channel, struct subject_event *events, size_t capacity)
{
    size_t count = channel->count < capacity ? channel->count : capacity;
    for (size_t i = 0; i < count; i++)
        events[i] = channel->ring[(channel->head + i) % channel->capacity];
    channel->head = (channel->head + count) % channel->capacity;
    channel->count -= count;
    if (channel->count == 0 && channel->capacity > KEPT_CAPACITY) {
        free(channel->ring);
        channel->ring = NULL;
        channel->capacity = channel->head = 0;
    }
    if (channel->one_shot)
        channel->closed = true;
    channel->receiver = gettid();
    pthread_cond_broadcast(&channel->not_full);
    return count;
}

static ssize_t receive(void *subscription, struct subject_event *events, size_t capacity,
                       int64_t timeout_ns)
{
    struct channel *channel = subscription;
    pthread_mutex_lock(&channel->lock);
    ssize_t result = wait_for_events(channel, timeout_ns);
    if (result == -ESHUTDOWN)
        return result; /* and the channel is gone */
    if (result == 0)
        result = channel->closed ? -ESHUTDOWN
                                 : (ssize_t)take(channel, events, channel->one_shot ? 1 : capacity);
    pthread_mutex_unlock(&channel->lock);
    return result;
}

static ssize_t pending(void *subscription)
{
    struct channel *channel = subscription;
    pthread_mutex_lock(&channel->lock);
    ssize_t count = (ssize_t)channel->count;
    pthread_mutex_unlock(&channel->lock);
    return count;
}

static int stats(void *bus, struct subject_stats *result)
{
    struct monitor *monitor = bus;
    pthread_mutex_lock(&monitor->lock);
    *result = (struct subject_stats){.subscriptions = monitor->subscriptions};
    pthread_mutex_unlock(&monitor->lock);
    return 0;
}

static void explain(void *bus, char *text, size_t size)
{
    struct monitor *monitor = bus;
    struct channel *full = monitor->full;
    if (!full) {
        snprintf(text, size, "nobody waits for room in a channel");
        return;
    }
    snprintf(text, size,
             "thread %d publishes: it holds the monitor's lock and waits for room in the channel "
             "of subscription %p, which has %zu of %zu events pending (%s%d); whoever publishes, "
             "subscribes or unsubscribes waits for that lock",
             monitor->publisher, (void *)full, full->count, monitor->bound,
             full->receiver ? "last received from by thread " : "nobody has received there yet: ",
             full->receiver);
}

#define MONITOR_FUNCTIONS                                                                          \
    .topics = SUBJECT_TOPICS_ALL, .batch_max = 64, .destroy = destroy, .publish = publish,         \
    .subscribe = subscribe, .unsubscribe = unsubscribe, .receive = receive, .ref = ref,            \
    .unref = unref, .pending = pending, .stats = stats, .explain = explain

const struct subject subject_mutex = {
    SUBJECT_HEAD("mutex", "the repaired shim design: one mutex, unbounded lists, notify under it"),
    .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER | SUBJECT_G3 | SUBJECT_REST,
    .features = SUBJECT_WAITS | SUBJECT_SHARED | SUBJECT_ONE_SHOT,
    .create = create_mutex,
    MONITOR_FUNCTIONS,
};

const struct subject subject_bounded = {
    SUBJECT_HEAD("bounded", "the shim design before: bounded channels, a blocking send"),
    .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER | SUBJECT_G3 | SUBJECT_REST,
    .features = SUBJECT_WAITS | SUBJECT_SHARED | SUBJECT_ONE_SHOT,
    .create = create_bounded,
    MONITOR_FUNCTIONS,
};
