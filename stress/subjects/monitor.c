/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subjects `mutex` and `bounded`: a monitor as container shims have it, one mutex over the list of
 * subscriptions, held while an event is handed to all of them. With unbounded channels that is
 * sound, if slow: the reference model. With bounded ones the publisher waits, lock in hand, until
 * the slowest receiver has made room; a receiver that wants the lock meanwhile, to unsubscribe, and
 * everybody behind it, waits for ever.
 *
 * `mutex` has tasks, too, as shims kept them at first: a map from pids to execs, under the same
 * lock. The start of an exec is published behind its entry, and exits as they come. So an exit may
 * come before its start, or be lost before the entry, and the leader's before those of the others.
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
struct exec;

struct monitor {
    pthread_mutex_t lock;
    struct channel *first;
    uint64_t seq;
    size_t bound;         /* events a channel takes; 0: any number */
    struct exec *started; /* the map from pids */
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

/* Under the monitor's lock, like what tells of the exits of execs. */
static void notify(struct monitor *monitor, struct subject_event event)
{
    event.seq = ++monitor->seq;
    for (struct channel *channel = monitor->first; channel; channel = channel->next)
        if (subject_matches(&channel->topic, &event))
            send(channel, &event);
}

static void tell_exec(struct monitor *monitor, const struct subject_event *ended);

static int publish(void *bus, const struct subject_event *events, size_t count, uint64_t *first_seq)
{
    struct monitor *monitor = bus;
    pthread_mutex_lock(&monitor->lock);
    *first_seq = monitor->seq + 1;
    for (size_t i = 0; i < count; i++)
        notify(monitor, events[i]);
    if (count == 1 && events->kind == SUBJECT_EVENT_PID)
        tell_exec(monitor, events);
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

/* ------------------------------------------------------------------------------------- tasks */

struct task {
    struct monitor *monitor;
    uint8_t container;
    bool has_leader, dead;
    unsigned references; /* its own, and one of each exec; all under the monitor's lock */
};

struct exec {
    struct task *task;
    struct exec *next; /* in the map */
    uint8_t number;
    pid_t pid;
    pthread_cond_t over;
    bool exited, cancelled;
    int status;
};

static int task_create(void *bus, uint8_t container, void **task)
{
    struct task *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    *made = (struct task){.monitor = bus, .container = container, .references = 1};
    *task = made;
    return 0;
}

/* Under the monitor's lock. */
static void task_put(struct task *task)
{
    if (--task->references == 0)
        free(task);
}

static int task_release(void *task)
{
    struct monitor *monitor = ((struct task *)task)->monitor;
    pthread_mutex_lock(&monitor->lock);
    task_put(task);
    pthread_mutex_unlock(&monitor->lock);
    return 0;
}

static int exec_reserve(void *task_, uint8_t number, void **handle)
{
    struct task *task = task_;
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec)
        return -ENOMEM;
    exec->task = task;
    exec->number = number;
    pthread_mutex_lock(&task->monitor->lock);
    int result = task->dead ? -EOWNERDEAD : number == 0 && task->has_leader ? -EEXIST : 0;
    if (result == 0) {
        task->references++;
        task->has_leader |= number == 0;
    }
    pthread_mutex_unlock(&task->monitor->lock);
    if (result < 0) {
        free(exec);
        return result;
    }
    cond_init(&exec->over);
    *handle = exec;
    return 0;
}

static struct subject_event event_of(const struct exec *exec, enum subject_event_kind kind)
{
    return (struct subject_event){.kind = (uint8_t)kind,
                                  .pid = exec->pid,
                                  .status = exec->status,
                                  .container = exec->task->container,
                                  .exec = exec->number};
}

static int exec_started(void *handle, pid_t pid)
{
    struct exec *exec = handle;
    struct monitor *monitor = exec->task->monitor;
    pthread_mutex_lock(&monitor->lock);
    if (exec->cancelled) {
        pthread_mutex_unlock(&monitor->lock);
        return -ECANCELED;
    }
    exec->pid = pid;
    exec->next = monitor->started;
    monitor->started = exec;
    pthread_mutex_unlock(&monitor->lock);
    uint64_t seq;
    struct subject_event started = event_of(exec, SUBJECT_EVENT_STARTED);
    started.status = 0;
    return publish(monitor, &started, 1, &seq);
}

static void forget(struct monitor *monitor, const struct exec *exec)
{
    for (struct exec **link = &monitor->started; *link; link = &(*link)->next)
        if (*link == exec) {
            *link = exec->next;
            return;
        }
}

static void tell_exec(struct monitor *monitor, const struct subject_event *ended)
{
    struct exec *exec = monitor->started;
    while (exec && exec->pid != ended->pid)
        exec = exec->next;
    if (!exec)
        return;
    forget(monitor, exec);
    exec->exited = true;
    exec->status = ended->status;
    if (exec->number == 0) {
        exec->task->dead = true;
        notify(monitor, event_of(exec, SUBJECT_EVENT_LEADER_DIED));
    }
    notify(monitor, event_of(exec, SUBJECT_EVENT_EXEC));
    pthread_cond_broadcast(&exec->over);
}

static int exec_cancel(void *handle)
{
    struct exec *exec = handle;
    pthread_mutex_lock(&exec->task->monitor->lock);
    exec->cancelled = exec->pid == 0;
    pthread_cond_broadcast(&exec->over);
    pthread_mutex_unlock(&exec->task->monitor->lock);
    return 0;
}

static int exec_wait(void *handle, int *status, int64_t timeout_ns)
{
    struct exec *exec = handle;
    pthread_mutex_t *lock = &exec->task->monitor->lock;
    struct timespec deadline = deadline_after(timeout_ns > 0 ? timeout_ns : 0);
    int error = 0;
    pthread_mutex_lock(lock);
    while (!exec->exited && !exec->cancelled && !error)
        error = timeout_ns < 0 ? pthread_cond_wait(&exec->over, lock)
                               : pthread_cond_timedwait(&exec->over, lock, &deadline);
    *status = exec->status;
    int result = exec->exited ? 0 : exec->cancelled ? -ECANCELED : -ETIMEDOUT;
    pthread_mutex_unlock(lock);
    return result == -ETIMEDOUT && timeout_ns == 0 ? -EAGAIN : result;
}

static int exec_release(void *handle)
{
    struct exec *exec = handle;
    struct monitor *monitor = exec->task->monitor;
    pthread_mutex_lock(&monitor->lock);
    forget(monitor, exec);
    task_put(exec->task);
    pthread_mutex_unlock(&monitor->lock);
    pthread_cond_destroy(&exec->over);
    free(exec);
    return 0;
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
    .task_create = task_create,
    .task_release = task_release,
    .exec_reserve = exec_reserve,
    .exec_started = exec_started,
    .exec_cancel = exec_cancel,
    .exec_wait = exec_wait,
    .exec_release = exec_release,
};

const struct subject subject_bounded = {
    SUBJECT_HEAD("bounded", "the shim design before: bounded channels, a blocking send"),
    .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER | SUBJECT_G3 | SUBJECT_REST,
    .features = SUBJECT_WAITS | SUBJECT_SHARED | SUBJECT_ONE_SHOT,
    .create = create_bounded,
    MONITOR_FUNCTIONS,
};
