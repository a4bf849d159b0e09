/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a bus must do, as a specification that can be run: one array of all events, and for each
 * subscription the place in it up to which it has received. A receive looks through the array for
 * the next event that matches. It shares no idea with the library: no queues, no hashes, no
 * helping. Written from include/exitbus/exitbus.h alone.
 *
 * For one thread. Where a call has more than one reason to fail, -EINVAL is given here; the library
 * may give either (reference_error_same).
 */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <errno.h>
#include <exitbus/exitbus.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* An event as receivers must get it. Times that the bus fills in are 0 until one was received. */
struct reference_entry {
    struct exitbus_event event;
    uint64_t earliest_ns, latest_ns; /* monotonic, of a time that the bus fills in */
};

struct reference {
    struct reference_entry *log; /* event `seq` is log[seq - 1] */
    size_t published, capacity;
    uint64_t delivered, dropped;
    size_t subscriptions; /* not unsubscribed */
    bool closed;
};

struct reference_subscription {
    struct exitbus_topic topic; /* ids point at the copies below */
    char container_id[EXITBUS_ID_MAX + 1], exec_id[EXITBUS_ID_MAX + 1];
    bool one_shot, closed, gone; /* gone: unsubscribed */
    bool sticky;
    uint64_t stuck; /* the event that stays, once it was received; 0: none yet */
    size_t next;    /* place in the log of the first event not yet looked at */
};

static inline uint64_t reference_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline void reference_init(struct reference *bus)
{
    *bus = (struct reference){0};
}

static inline void reference_finish(struct reference *bus)
{
    free(bus->log);
}

static inline bool reference_error_same(const struct reference *bus, ssize_t expected, ssize_t got)
{
    return got == expected || (bus->closed && expected == -EINVAL && got == -ESHUTDOWN);
}

/* -------------------------------------------------------------------------- what is well-formed */

/* An id in at most `room` bytes; NULL is none. */
static inline bool reference_id_good(const char *id, size_t room, bool may_be_empty)
{
    if (!id)
        return false;
    for (size_t size = 0; size < room && size <= EXITBUS_ID_MAX; size++)
        if (id[size] == '\0')
            return size > 0 || may_be_empty;
    return false;
}

/* 32 bytes from the ninth byte of the container id on: two words, and a name of at most 15 bytes.
 */
static inline bool reference_details_good(const struct exitbus_event *event)
{
    uint64_t start_ns;
    memcpy(&start_ns, event->container_id + 8, sizeof start_ns);
    return event->kind == EXITBUS_EVENT_PID && event->container_id[0] == '\0' && start_ns > 0 &&
           event->container_id[39] == '\0';
}

static inline bool reference_event_good(const struct exitbus_event *event)
{
    if ((event->flags | 15) != 15 || (event->flags & 8 && !reference_details_good(event)))
        return false;
    switch (event->kind) {
    case EXITBUS_EVENT_PID:
        return event->pid > 0;
    case EXITBUS_EVENT_EXEC:
    case EXITBUS_EVENT_EMPTY:
    case EXITBUS_EVENT_STARTED:
    case EXITBUS_EVENT_LEADER_DIED:
    case EXITBUS_EVENT_OOM:
        return event->pid >= 0 &&
               reference_id_good(event->container_id, sizeof event->container_id, false) &&
               reference_id_good(event->exec_id, sizeof event->exec_id, true);
    default:
        return false;
    }
}

static inline bool reference_topic_good(const struct exitbus_topic *topic)
{
    switch (topic->kind) {
    case EXITBUS_TOPIC_ALL:
    case EXITBUS_TOPIC_ANY_PID:
    case EXITBUS_TOPIC_ANY_EXEC:
        return true;
    case EXITBUS_TOPIC_PID:
        return topic->pid > 0;
    case EXITBUS_TOPIC_CONTAINER:
        return reference_id_good(topic->container_id, SIZE_MAX, false);
    case EXITBUS_TOPIC_EXEC:
        return reference_id_good(topic->container_id, SIZE_MAX, false) &&
               reference_id_good(topic->exec_id, SIZE_MAX, true);
    }
    return false;
}

/* The event that a wait status tells of; false if of none. By the bits, as the kernel sets them. */
static inline bool reference_status(int status, struct exitbus_event *event)
{
    int signal = status & 0x7f;
    if (signal == 0x7f) /* stopped or continued */
        return false;
    event->status = status;
    event->exit_code = signal ? 128 + signal : status >> 8 & 0xff;
    event->flags = signal && (status & 0x80) ? EXITBUS_EVENT_CORE_DUMPED : 0;
    return true;
}

/* ------------------------------------------------------------------------------------ publish */

static inline void reference_append(struct reference *bus, const struct exitbus_event *given,
                                    uint64_t began_ns)
{
    if (bus->published == bus->capacity) {
        bus->capacity = bus->capacity ? 2 * bus->capacity : 64;
        bus->log = realloc(bus->log, bus->capacity * sizeof *bus->log);
        if (!bus->log)
            abort();
    }
    struct reference_entry *entry = &bus->log[bus->published++];
    entry->event = *given;
    entry->event.seq = bus->published;
    if (given->kind == EXITBUS_EVENT_PID)
        entry->event.container_id[0] = entry->event.exec_id[0] = '\0';
    entry->event.container_id_size = (uint8_t)strlen(entry->event.container_id);
    entry->event.exec_id_size = (uint8_t)strlen(entry->event.exec_id);
    entry->earliest_ns = began_ns;
    entry->latest_ns = reference_now();
}

/* To be called when the bus has done it; `began_ns` is the time before. */
static inline int reference_publish(struct reference *bus, const struct exitbus_event *events,
                                    size_t count, uint64_t began_ns, uint64_t *first_seq)
{
    if (count == 0 || count > EXITBUS_BATCH_MAX)
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        if (!reference_event_good(&events[i]))
            return -EINVAL;
    if (bus->closed)
        return -ESHUTDOWN;
    *first_seq = bus->published + 1;
    for (size_t i = 0; i < count; i++)
        reference_append(bus, &events[i], began_ns);
    return 0;
}

/* ---------------------------------------------------------------------------------- subscribe */

static inline int reference_subscribe(struct reference *bus, const struct exitbus_topic *topic,
                                      uint32_t flags, struct reference_subscription *sub)
{
    if ((flags != 0 && flags != EXITBUS_SUBSCRIBE_ONE_SHOT && flags != EXITBUS_SUBSCRIBE_STICKY) ||
        !reference_topic_good(topic))
        return -EINVAL;
    if (bus->closed)
        return -ESHUTDOWN;
    *sub = (struct reference_subscription){.topic = *topic,
                                           .one_shot = flags == EXITBUS_SUBSCRIBE_ONE_SHOT,
                                           .sticky = flags == EXITBUS_SUBSCRIBE_STICKY,
                                           .next = bus->published};
    if (topic->kind == EXITBUS_TOPIC_CONTAINER || topic->kind == EXITBUS_TOPIC_EXEC)
        strcpy(sub->container_id, topic->container_id);
    if (topic->kind == EXITBUS_TOPIC_EXEC)
        strcpy(sub->exec_id, topic->exec_id);
    sub->topic.container_id = sub->topic.exec_id = NULL;
    bus->subscriptions++;
    return 0;
}

static inline bool reference_matches(const struct reference_subscription *sub,
                                     const struct exitbus_event *event)
{
    if ((sub->one_shot || sub->sticky) && event->kind > EXITBUS_EVENT_EXEC)
        return false; /* no exit */
    switch (sub->topic.kind) {
    case EXITBUS_TOPIC_ALL:
        return true;
    case EXITBUS_TOPIC_ANY_PID:
        return event->kind == EXITBUS_EVENT_PID;
    case EXITBUS_TOPIC_PID:
        return event->kind == EXITBUS_EVENT_PID && event->pid == sub->topic.pid;
    case EXITBUS_TOPIC_ANY_EXEC:
        return event->kind != EXITBUS_EVENT_PID;
    case EXITBUS_TOPIC_CONTAINER:
        return event->kind != EXITBUS_EVENT_PID &&
               strcmp(event->container_id, sub->container_id) == 0;
    case EXITBUS_TOPIC_EXEC:
        return event->kind != EXITBUS_EVENT_PID &&
               strcmp(event->container_id, sub->container_id) == 0 &&
               strcmp(event->exec_id, sub->exec_id) == 0;
    }
    return false;
}

/* Events that are left in the array for it, whether or not it may still take them. */
static inline size_t reference_left(const struct reference *bus,
                                    const struct reference_subscription *sub)
{
    size_t left = 0;
    for (size_t i = sub->next; i < bus->published; i++)
        left += reference_matches(sub, &bus->log[i].event);
    if (sub->sticky)
        return sub->stuck == 0 && left > 0;
    if (sub->one_shot)
        return sub->closed ? 0 : left > 0;
    return left;
}

static inline bool reference_closed(const struct reference *bus,
                                    const struct reference_subscription *sub)
{
    return bus->closed || sub->closed || sub->gone;
}

static inline size_t reference_pending(const struct reference *bus,
                                       const struct reference_subscription *sub)
{
    return reference_closed(bus, sub) ? 0 : sub->stuck != 0 ? 1 : reference_left(bus, sub);
}

static inline void reference_unsubscribe(struct reference *bus, struct reference_subscription *sub)
{
    bus->dropped += reference_left(bus, sub);
    bus->subscriptions--;
    sub->gone = true;
}

/* ------------------------------------------------------------------------------------ receive */

/* Take up to `capacity` events: their seqs. Returns how many, -EAGAIN or -ESHUTDOWN. */
static inline ssize_t reference_receive(struct reference *bus, struct reference_subscription *sub,
                                        uint64_t *seqs, size_t capacity)
{
    if (reference_closed(bus, sub))
        return -ESHUTDOWN;
    size_t count = 0;
    if (sub->stuck != 0) {
        seqs[0] = sub->stuck;
        return 1;
    }
    if (sub->sticky)
        capacity = 1;
    while (sub->next < bus->published && count < capacity && !sub->closed) {
        const struct exitbus_event *event = &bus->log[sub->next++].event;
        if (!reference_matches(sub, event))
            continue;
        seqs[count++] = event->seq;
        sub->closed = sub->one_shot;
    }
    if (sub->sticky && count > 0)
        sub->stuck = seqs[0];
    bus->delivered += count;
    return count ? (ssize_t)count : -EAGAIN;
}

static inline int reference_wait_pid(struct reference *bus, struct reference_subscription *sub,
                                     pid_t pid, uint64_t *seq)
{
    for (;;) {
        ssize_t count = reference_receive(bus, sub, seq, 1);
        if (count < 0)
            return (int)count;
        const struct exitbus_event *event = &bus->log[*seq - 1].event;
        if (event->kind == EXITBUS_EVENT_PID && event->pid == pid)
            return 0;
        if (sub->sticky)
            return -ESRCH;
    }
}

/* A time that the bus fills in must be plausible once, and the same for everybody. */
static inline bool reference_time_same(uint64_t *expected, uint64_t got, uint64_t earliest,
                                       uint64_t latest)
{
    if (*expected == 0 && got >= earliest && got <= latest)
        *expected = got;
    return got != 0 && got == *expected;
}

/* NULL if `got` is event `seq`; else the name of a field that differs. */
static inline const char *reference_differs(struct reference *bus, uint64_t seq,
                                            const struct exitbus_event *got)
{
    struct reference_entry *entry = &bus->log[seq - 1];
    struct exitbus_event *event = &entry->event;
#define REFERENCE_FIELD(field)                                                                     \
    if (got->field != event->field)                                                                \
    return #field
    REFERENCE_FIELD(seq);
    REFERENCE_FIELD(pid);
    REFERENCE_FIELD(kind);
    REFERENCE_FIELD(flags);
    REFERENCE_FIELD(container_id_size);
    REFERENCE_FIELD(exec_id_size);
    REFERENCE_FIELD(status);
    REFERENCE_FIELD(exit_code);
    REFERENCE_FIELD(user_us);
    REFERENCE_FIELD(system_us);
    REFERENCE_FIELD(max_rss_kib);
#undef REFERENCE_FIELD
    if (event->flags & 8 && memcmp(got->container_id + 8, event->container_id + 8, 32) != 0)
        return "details";
    if (memcmp(got->container_id, event->container_id, event->container_id_size + 1u) != 0)
        return "container_id";
    if (memcmp(got->exec_id, event->exec_id, event->exec_id_size + 1u) != 0)
        return "exec_id";
    if (!reference_time_same(&event->monotonic_ns, got->monotonic_ns, entry->earliest_ns,
                             entry->latest_ns))
        return "monotonic_ns";
    if (!reference_time_same(&event->realtime_ns, got->realtime_ns, 1, UINT64_MAX))
        return "realtime_ns";
    return NULL;
}

#endif
