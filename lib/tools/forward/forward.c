/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bus, written to a spool: see exitbus/forward.h. One thread receives in batches and writes each
 * batch by one write. The bus is its buffer: while the thread waits for room, events lie there.
 */
#include <exitbus/forward.h>

#include "tools/forward/alive.h"
#include "tools/forward/identity.h"
#include "tools/forward/spool.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS 256 /* received at once */
#define FLAGS (EXITBUS_FORWARD_WAIT | EXITBUS_FORWARD_SYNC)
#define RETRY_MS 100 /* to look whether there is room, or memory */

struct exitbus_forward {
    struct spool spool;
    pid_t owner; /* the process that started it: a forked child has a copy */
    struct exitbus_subscription *subscription;
    struct record_head head; /* instance and boot */
    int stop;                /* an eventfd: readable when it is to stop */
    pthread_t thread;
    pthread_mutex_t lock; /* of stats */
    struct exitbus_forward_stats stats;
    struct exitbus_event events[EVENTS];
};

static void tell_stats(struct exitbus_forward *forward, int waiting)
{
    const struct spool *spool = &forward->spool;
    pthread_mutex_lock(&forward->lock);
    forward->stats = (struct exitbus_forward_stats){.written = spool->written,
                                                    .dropped = spool->dropped,
                                                    .removed = spool->removed,
                                                    .failures = spool->failures,
                                                    .last_error = spool->last_error,
                                                    .waiting = waiting};
    pthread_mutex_unlock(&forward->lock);
}

/* Wait for the stop, and for `fd` if it is not negative. Returns true if it is to stop. */
static bool wait_for(struct exitbus_forward *forward, int fd, int timeout_ms)
{
    struct pollfd ready[2] = {{.fd = forward->stop, .events = POLLIN},
                              {.fd = fd, .events = POLLIN}};
    return poll(ready, 2, timeout_ms) > 0 && ready[0].revents != 0;
}

/* ------------------------------------------------------------------------------------- write */

/* Write the batch, and wait for room if that is wanted. */
static void flush(struct exitbus_forward *forward)
{
    while (spool_flush(&forward->spool) < 0) {
        tell_stats(forward, 1);
        if (wait_for(forward, -1, RETRY_MS))
            spool_give_up(&forward->spool);
    }
    tell_stats(forward, 0);
}

static void add(struct exitbus_forward *forward, enum record_kind kind,
                const struct exitbus_event *event, const struct exitbus_event_details *details)
{
    char body[sizeof(struct record_event)];
    size_t size = record_pack(event, details, body);
    forward->head.kind = (uint16_t)kind;
    forward->head.seq = event->seq;
    if (spool_add(&forward->spool, &forward->head, body, size))
        return;
    flush(forward);
    spool_add(&forward->spool, &forward->head, body, size); /* the batch is empty */
}

static void add_event(struct exitbus_forward *forward, struct exitbus_event *event)
{
    struct exitbus_event_details details;
    bool has_details = exitbus_event_details(event, &details) == 0;
    if (has_details) /* they lie where the ids would be */
        event->container_id[0] = event->exec_id[0] = '\0';
    add(forward, RECORD_EVENT, event, has_details ? &details : NULL);
}

static void add_alive(void *context, pid_t pid, const struct exitbus_event_details *details)
{
    struct exitbus_event event = {.pid = pid};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event.realtime_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    add(context, RECORD_ALIVE, &event, details);
}

/* A record of this bus: of its begin or its end. */
static void add_mark(struct exitbus_forward *forward, enum record_kind kind)
{
    struct exitbus_event event = {.pid = getpid(), .seq = forward->head.seq};
    struct exitbus_event_details details;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event.realtime_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    bool known = alive_details(getpid(), &details) == 0;
    add(forward, kind, &event, known ? &details : NULL);
}

/* ----------------------------------------------------------------------------------- receive */

/* Write all that is there. Returns the error that ended it: -EAGAIN, or another. */
static ssize_t drain(struct exitbus_forward *forward)
{
    ssize_t count;
    while ((count = exitbus_receive_batch(forward->subscription, forward->events, EVENTS, 0)) > 0) {
        for (ssize_t i = 0; i < count; i++)
            add_event(forward, &forward->events[i]);
        if (count < EVENTS)
            flush(forward);
    }
    flush(forward);
    return count;
}

static void *run(void *argument)
{
    struct exitbus_forward *forward = argument;
    ssize_t result;
    bool stopping = false;
    do {
        int fd = exitbus_subscription_fd(forward->subscription);
        result = drain(forward);
        if (stopping || (result != -EAGAIN && result != -ENOMEM))
            break;
        bool waits = result == -EAGAIN && fd >= 0;
        stopping = wait_for(forward, waits ? fd : -1, waits ? -1 : RETRY_MS);
    } while (true);
    add_mark(forward, RECORD_END);
    flush(forward);
    return NULL;
}

/* ------------------------------------------------------------------------------ start and stop */

static void release(struct exitbus_forward *forward)
{
    exitbus_unsubscribe(forward->subscription);
    spool_close(&forward->spool);
    if (forward->stop >= 0)
        close(forward->stop);
    pthread_mutex_destroy(&forward->lock);
    free(forward);
}

/* Returns 0 or -errno. The thread has all signals blocked. */
static int start_thread(struct exitbus_forward *forward)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&forward->thread, NULL, run, forward);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -error;
}

/* Returns 0 or -errno. */
static int prepare(struct exitbus_forward *forward, struct exitbus *bus)
{
    int result = identity_random(forward->head.instance);
    if (result == 0)
        result = identity_boot(forward->head.boot);
    if (result == 0)
        result = (forward->stop = eventfd(0, EFD_CLOEXEC)) < 0 ? -errno : 0;
    if (result == 0)
        result = exitbus_subscribe(bus, exitbus_topic_all(), 0, &forward->subscription);
    if (result < 0)
        return result;
    add_mark(forward, RECORD_BEGIN);
    alive_children(add_alive, forward);
    return start_thread(forward);
}

int exitbus_forward_start(struct exitbus *bus, const struct exitbus_forward_options *options,
                          struct exitbus_forward **forward)
{
    _Static_assert(EXITBUS_FORWARD_WAIT == SPOOL_WAIT && EXITBUS_FORWARD_SYNC == SPOOL_SYNC,
                   "the flags are passed on");
    if (!bus || !options || !forward || !options->spool || (options->flags & ~FLAGS) ||
        (options->max_bytes && options->max_bytes < SPOOL_MIN_BYTES))
        return -EINVAL;
    struct exitbus_forward *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    made->stop = -1;
    made->owner = getpid();
    pthread_mutex_init(&made->lock, NULL);
    int result = spool_open(&made->spool, options->spool, options->flags, options->max_bytes);
    if (result == 0)
        result = prepare(made, bus);
    if (result < 0) {
        release(made);
        return result;
    }
    *forward = made;
    return 0;
}

int exitbus_forward_stop(struct exitbus_forward *forward)
{
    if (!forward)
        return 0;
    if (forward->owner != getpid())
        return -ESTALE;
    eventfd_write(forward->stop, 1);
    pthread_join(forward->thread, NULL);
    int result = forward->spool.dropped > 0 ? forward->spool.last_error : 0;
    release(forward);
    return result;
}

int exitbus_forward_stats(struct exitbus_forward *forward, struct exitbus_forward_stats *stats)
{
    if (!forward || !stats)
        return -EINVAL;
    if (forward->owner != getpid())
        return -ESTALE;
    pthread_mutex_lock(&forward->lock);
    *stats = forward->stats;
    pthread_mutex_unlock(&forward->lock);
    return 0;
}
