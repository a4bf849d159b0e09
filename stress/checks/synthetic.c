/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Synthetic events: see synthetic.h. */
#include "synthetic.h"
#include "../engine/world.h"

#include <string.h>

/* Ids of all lengths: a container's depends on which it is, an exec's too. The first container has
 * the longest id, the last exec is "": the container itself. */
static const char id_text[EXITBUS_ID_MAX + 1] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba987654321";
static const size_t container_sizes[CONTAINERS] = {EXITBUS_ID_MAX, 64, 12, 1};
static const size_t exec_sizes[EXECS] = {EXITBUS_ID_MAX, 40, 7, 0};

/* A string that ends where id_text ends: its length is `size`. */
static const char *id_of(size_t size)
{
    return id_text + EXITBUS_ID_MAX - size;
}

struct shape {
    bool exec;
    unsigned pid, container, id;
};

static struct shape shape_of(unsigned producer, uint64_t number)
{
    uint64_t bits = mix(number << 8 | producer);
    return (struct shape){.exec = (bits & 7) == 0,
                          .pid = (unsigned)(bits >> 8) % SYNTHETIC_PIDS,
                          .container = (unsigned)(bits >> 16) % CONTAINERS,
                          .id = (unsigned)(bits >> 24) % EXECS};
}

static uint64_t checksum(const struct exitbus_event *event)
{
    uint64_t sum = mix(event->user_us * 31 + event->system_us);
    sum = mix(sum ^ (uint64_t)(uint32_t)event->pid << 32 ^ (uint32_t)event->status);
    return mix(sum ^ (uint64_t)(uint32_t)event->exit_code << 8 ^ event->kind);
}

void synthetic_make(unsigned producer, uint64_t number, struct exitbus_event *event)
{
    struct shape shape = shape_of(producer, number);
    memset(event, 0, offsetof(struct exitbus_event, container_id));
    event->user_us = producer;
    event->system_us = number;
    event->status = (int32_t)(number & 0xff) << 8;
    event->exit_code = (int32_t)(number & 0xff);
    event->monotonic_ns = event->realtime_ns = number;
    if (shape.exec) {
        event->kind = EXITBUS_EVENT_EXEC;
        strcpy(event->container_id, id_of(container_sizes[shape.container]));
        strcpy(event->exec_id, id_of(exec_sizes[shape.id]));
    } else {
        event->kind = EXITBUS_EVENT_PID;
        event->pid = (int32_t)(SYNTHETIC_PID + shape.pid);
    }
    event->max_rss_kib = checksum(event);
}

bool synthetic_is(const struct exitbus_event *event)
{
    return event->kind == EXITBUS_EVENT_EXEC || event->pid >= SYNTHETIC_PID;
}

unsigned synthetic_producer(const struct exitbus_event *event)
{
    return (unsigned)event->user_us;
}

uint64_t synthetic_number(const struct exitbus_event *event)
{
    return event->system_us;
}

bool synthetic_whole(const struct exitbus_event *event)
{
    if (event->user_us >= PRODUCERS_MAX || event->max_rss_kib != checksum(event) ||
        event->monotonic_ns != event->system_us || event->realtime_ns != event->system_us ||
        event->flags != 0)
        return false;
    struct shape shape = shape_of((unsigned)event->user_us, event->system_us);
    if (!shape.exec)
        return event->kind == EXITBUS_EVENT_PID &&
               event->pid == (int32_t)(SYNTHETIC_PID + shape.pid) && !event->container_id[0] &&
               !event->exec_id[0];
    return event->kind == EXITBUS_EVENT_EXEC &&
           strcmp(event->container_id, id_of(container_sizes[shape.container])) == 0 &&
           strcmp(event->exec_id, id_of(exec_sizes[shape.id])) == 0;
}

struct exitbus_topic synthetic_topic(unsigned kind, unsigned which)
{
    const char *container = id_of(container_sizes[which % CONTAINERS]);
    switch (kind % 6) {
    case 0:
        return exitbus_topic_all();
    case 1:
        return exitbus_topic_any_pid();
    case 2:
        return exitbus_topic_pid((pid_t)(SYNTHETIC_PID + which % SYNTHETIC_PIDS));
    case 3:
        return exitbus_topic_any_exec();
    case 4:
        return exitbus_topic_container(container);
    default:
        return exitbus_topic_exec(container, id_of(exec_sizes[which / CONTAINERS % EXECS]));
    }
}

bool synthetic_matches(const struct exitbus_topic *topic, unsigned producer, uint64_t number)
{
    struct shape shape = shape_of(producer, number);
    switch (topic->kind) {
    case EXITBUS_TOPIC_ALL:
        return true;
    case EXITBUS_TOPIC_ANY_PID:
        return !shape.exec;
    case EXITBUS_TOPIC_PID:
        return !shape.exec && (unsigned)(topic->pid - SYNTHETIC_PID) == shape.pid;
    case EXITBUS_TOPIC_ANY_EXEC:
        return shape.exec;
    case EXITBUS_TOPIC_CONTAINER:
        return shape.exec && topic->container_id == id_of(container_sizes[shape.container]);
    default:
        return shape.exec && topic->container_id == id_of(container_sizes[shape.container]) &&
               topic->exec_id == id_of(exec_sizes[shape.id]);
    }
}

uint64_t synthetic_next(const struct exitbus_topic *topic, unsigned producer, uint64_t number)
{
    do
        number++;
    while (!synthetic_matches(topic, producer, number));
    return number;
}
