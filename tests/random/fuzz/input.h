/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The fuzzer's bytes, read as numbers, ids and events. Small values are the interesting ones: few
 * different pids and ids, so that topics match, some of which share a bucket of the registry; and
 * every kind of value that must be refused. Past the end all bytes are 0.
 */
#ifndef INPUT_H
#define INPUT_H

#include <exitbus/exitbus.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

struct input {
    const uint8_t *bytes;
    size_t size;
};

static inline uint8_t input_byte(struct input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->bytes++;
}

static inline uint64_t input_number(struct input *input, unsigned bytes)
{
    uint64_t number = 0;
    while (bytes-- > 0)
        number = number << 8 | input_byte(input);
    return number;
}

static inline pid_t input_pid(struct input *input)
{
    /* 65,536 buckets: the first three are in one, and the next two. */
    static const pid_t pids[] = {1,       65537, 131073, 2, 65538, 65536, 4194304,
                                 INT_MAX, 3,     4,      5, 0,     -1,    INT_MIN};
    uint8_t byte = input_byte(input);
    if (byte < sizeof pids / sizeof pids[0])
        return pids[byte];
    return byte < 240 ? byte : (pid_t)(int32_t)input_number(input, 4);
}

/* Into an array of EXITBUS_ID_MAX + 2 bytes; may be one byte too long. */
static inline void input_id(struct input *input, char *id)
{
    static const char *const ids[] = {"a", "b", "ab", "", "aa", "container", "ba", "b "};
    uint8_t byte = input_byte(input);
    if (byte < 8) {
        strcpy(id, ids[byte]);
        return;
    }
    size_t size = byte < 8 + EXITBUS_ID_MAX + 2 ? byte - 8u : 126 + byte % 3u;
    uint8_t filling = input_byte(input);
    for (size_t i = 0; i < size; i++)
        id[i] = (char)(filling | 1);
    id[size] = '\0';
}

static inline void input_event(struct input *input, struct exitbus_event *event)
{
    char id[EXITBUS_ID_MAX + 2];
    uint8_t shape = input_byte(input);
    memset((void *)event, shape, sizeof *event); /* what publish ignores may be anything */
    event->kind = (shape & 7) < 4   ? EXITBUS_EVENT_PID
                  : (shape & 7) < 7 ? EXITBUS_EVENT_EXEC
                                    : input_byte(input);
    event->flags = (shape & 0x18) == 0x18 ? input_byte(input) : shape >> 3 & 3;
    event->pid = input_pid(input);
    event->exit_code = (int32_t)input_byte(input);
    event->status = event->exit_code << 8;
    if (shape & 0x20) { /* every field of a value of its own */
        event->status = (int32_t)input_number(input, 4);
        event->user_us = input_number(input, 8);
        event->system_us = ~event->user_us;
        event->max_rss_kib = event->user_us << 1;
    }
    event->monotonic_ns = shape & 0x40 ? input_number(input, 2) : 0;
    event->realtime_ns = shape & 0x40 ? input_number(input, 2) : 0;
    if (event->kind == EXITBUS_EVENT_PID && !(shape & 0x80))
        return;
    input_id(input, id);
    memcpy(event->container_id, id, sizeof event->container_id); /* may cut off the NUL */
    input_id(input, id);
    memcpy(event->exec_id, id, sizeof event->exec_id);
}

#endif
