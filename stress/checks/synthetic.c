/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Synthetic events: see synthetic.h. */
#include "synthetic.h"

#include <string.h>

struct shape {
    uint8_t kind, container, exec;
    int32_t pid;
};

static int32_t own_pid(unsigned producer)
{
    /* Equal to one of the common ones in its lower bits, as real pids may be. */
    return (int32_t)(SYNTHETIC_PID + (producer + 1) * 65536 + producer % SYNTHETIC_PIDS);
}

static struct shape shape_of(unsigned producer, uint64_t number)
{
    uint64_t bits = mix(number << 8 | producer);
    if (producer >= PRODUCERS_COMMON)
        return (struct shape){.kind = SUBJECT_EVENT_PID, .pid = own_pid(producer)};
    if ((bits & 7) == 0)
        return (struct shape){.kind = SUBJECT_EVENT_EXEC,
                              .container = (uint8_t)((bits >> 16) % CONTAINERS),
                              .exec = (uint8_t)((bits >> 24) % EXECS)};
    return (struct shape){.kind = SUBJECT_EVENT_PID,
                          .pid = (int32_t)(SYNTHETIC_PID + (bits >> 8) % SYNTHETIC_PIDS)};
}

static uint64_t checksum(const struct subject_event *event)
{
    uint64_t sum = mix(event->number * 31 + event->producer);
    sum = mix(sum ^ (uint64_t)(uint32_t)event->pid << 32 ^ (uint32_t)event->status);
    sum = mix(sum ^ event->begin_ns ^ event->pattern);
    return mix(sum ^ (uint64_t)event->kind << 16 ^ (uint64_t)event->container << 8 ^ event->exec);
}

void synthetic_make(unsigned producer, uint64_t number, struct subject_event *event)
{
    synthetic_remake(producer, number, now_ns(), event);
}

void synthetic_remake(unsigned producer, uint64_t number, uint64_t begin_ns,
                      struct subject_event *event)
{
    struct shape shape = shape_of(producer, number);
    *event = (struct subject_event){.pid = shape.pid,
                                    .kind = shape.kind,
                                    .container = shape.container,
                                    .exec = shape.exec,
                                    .status = (int32_t)(number & 0xff) << 8,
                                    .producer = producer,
                                    .number = number,
                                    .begin_ns = begin_ns,
                                    .pattern = mix(number)};
    event->collected_ns = begin_ns;
    event->checksum = checksum(event);
}

bool synthetic_is(const struct subject_event *event)
{
    bool of_a_task =
        event->container >= SUBJECT_TASK && event->container < SUBJECT_TASK + SUBJECT_TASKS;
    return (event->kind == SUBJECT_EVENT_EXEC && !of_a_task) || event->pid >= SYNTHETIC_PID;
}

bool synthetic_whole(const struct subject_event *event)
{
    if (event->producer >= PRODUCERS_MAX || event->checksum != checksum(event) ||
        event->collected_ns != event->begin_ns || event->reserved != 0)
        return false;
    struct shape shape = shape_of(event->producer, event->number);
    return event->kind == shape.kind && event->pid == shape.pid &&
           event->container == shape.container && event->exec == shape.exec;
}

struct subject_topic synthetic_topic(struct random *random)
{
    int kind;
    do
        kind = 1 + (int)random_below(random, SUBJECT_TOPIC_EXEC);
    while (!knows_topic(kind));
    return (struct subject_topic){
        .kind = kind,
        .pid = (int32_t)(SYNTHETIC_PID + random_below(random, SYNTHETIC_PIDS)),
        .container = (uint8_t)random_below(random, CONTAINERS),
        .exec = (uint8_t)random_below(random, EXECS)};
}

struct subject_topic synthetic_own_topic(unsigned producer)
{
    return (struct subject_topic){.kind = SUBJECT_TOPIC_PID, .pid = own_pid(producer)};
}

bool synthetic_matches(const struct subject_topic *topic, unsigned producer, uint64_t number)
{
    struct shape shape = shape_of(producer, number);
    const struct subject_event event = {
        .kind = shape.kind, .pid = shape.pid, .container = shape.container, .exec = shape.exec};
    return subject_matches(topic, &event);
}

bool synthetic_concerns(const struct subject_topic *topic, unsigned producer)
{
    if (topic->kind == SUBJECT_TOPIC_ALL || topic->kind == SUBJECT_TOPIC_ANY_PID)
        return true;
    bool own = topic->kind == SUBJECT_TOPIC_PID && topic->pid >= own_pid(PRODUCERS_COMMON);
    return producer >= PRODUCERS_COMMON ? own && topic->pid == own_pid(producer) : !own;
}

uint64_t synthetic_next(const struct subject_topic *topic, unsigned producer, uint64_t number)
{
    if (!synthetic_concerns(topic, producer))
        return UINT64_MAX;
    do
        number++;
    while (!synthetic_matches(topic, producer, number));
    return number;
}
