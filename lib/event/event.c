/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Records of events, and how a process has ended: see event.h. */
#include "event/event.h"
#include "base/sys.h"

#include <sys/wait.h>

/* Bit of a wait status: the process has left a core dump. */
#define CORE_FLAG 0x80

int event_id_size(const char *id)
{
    if (!id)
        return -EINVAL;
    size_t size = strnlen(id, EXITBUS_ID_MAX + 1);
    return size <= EXITBUS_ID_MAX ? (int)size : -EINVAL;
}

/* ------------------------------------------------------------------------------------- details */

/* What of the details is carried, and where in the container id it lies. */
#define DETAILS_BYTES offsetof(struct exitbus_event_details, reserved)
#define DETAILS_AT 8

_Static_assert(DETAILS_BYTES <= CELL_PAYLOAD, "details fit one cell");
_Static_assert(DETAILS_AT + DETAILS_BYTES <= EXITBUS_ID_MAX, "and the container id");

void event_set_details(struct exitbus_event *event, const struct exitbus_event_details *details)
{
    event->flags |= EXITBUS_EVENT_DETAILS;
    memset(event->container_id, 0, DETAILS_AT);
    memcpy(event->container_id + DETAILS_AT, details, DETAILS_BYTES);
    event->exec_id[0] = '\0';
}

int event_details(const struct exitbus_event *event, struct exitbus_event_details *details)
{
    if (event->kind != EXITBUS_EVENT_PID || !(event->flags & EXITBUS_EVENT_DETAILS) ||
        event->container_id[0] != '\0')
        return -ENODATA;
    struct exitbus_event_details found = {0};
    memcpy(&found, event->container_id + DETAILS_AT, DETAILS_BYTES);
    if (found.start_ns == 0 || found.comm[sizeof found.comm - 1] != '\0')
        return -ENODATA; /* not by us */
    *details = found;
    return 0;
}

/* ------------------------------------------------------------------------------ check, encode */

/* A PID event with more flags than most. */
static int check_pid(const struct exitbus_event *event)
{
    struct exitbus_event_details details;
    bool known = (event->flags & ~EVENT_FLAGS) == EXITBUS_EVENT_DETAILS;
    return event->pid > 0 && known && event_details(event, &details) == 0 ? 0 : -EINVAL;
}

int event_check_rest(const struct exitbus_event *event)
{
    if (event->kind == EXITBUS_EVENT_PID)
        return check_pid(event);
    if (event->kind < EXITBUS_EVENT_EXEC || event->kind > EXITBUS_EVENT_OOM || event->pid < 0 ||
        event->flags & ~EVENT_FLAGS)
        return -EINVAL;
    if (event_id_size(event->container_id) <= 0 || event_id_size(event->exec_id) < 0)
        return -EINVAL;
    return 0;
}

/* Index of the word of a record that holds a field of the public struct. */
#define WORD_OF(field) (offsetof(struct exitbus_event, field) / 8 - 1)

static uint64_t with_sizes(uint64_t word, size_t container_size, size_t exec_size)
{
    uint8_t bytes[8];
    memcpy(bytes, &word, sizeof bytes);
    bytes[offsetof(struct exitbus_event, container_id_size) % 8] = (uint8_t)container_size;
    bytes[offsetof(struct exitbus_event, exec_id_size) % 8] = (uint8_t)exec_size;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static void encode_details(const struct exitbus_event *event, struct record *record)
{
    memset(record->words + CELL_WORDS, 0, CELL_PAYLOAD);
    memcpy(record->words + CELL_WORDS, event->container_id + DETAILS_AT, DETAILS_BYTES);
    record->words[0] = with_sizes(record->words[0], DETAILS_BYTES, 0);
}

static void encode_ids(const struct exitbus_event *event, struct record *record)
{
    size_t container_size = strnlen(event->container_id, EXITBUS_ID_MAX);
    size_t exec_size = strnlen(event->exec_id, EXITBUS_ID_MAX);
    char *ids = (char *)(record->words + CELL_WORDS);
    memset(ids, 0, sizeof record->words - CELL_PAYLOAD);
    memcpy(ids, event->container_id, container_size);
    memcpy(ids + container_size, event->exec_id, exec_size);
    record->words[0] = with_sizes(record->words[0], container_size, exec_size);
}

void event_encode_rest(const struct exitbus_event *event, struct record *record)
{
    if (event->kind != EXITBUS_EVENT_PID)
        encode_ids(event, record);
    else if (event->flags & EXITBUS_EVENT_DETAILS)
        encode_details(event, record);
    if (record->words[WORD_OF(monotonic_ns)] == 0)
        record->words[WORD_OF(monotonic_ns)] = (uint64_t)sys_clock_ns(CLOCK_MONOTONIC);
    if (record->words[WORD_OF(realtime_ns)] == 0)
        record->words[WORD_OF(realtime_ns)] = (uint64_t)sys_clock_ns(CLOCK_REALTIME);
}

void event_decode_ids(struct exitbus_event *event, const uint64_t *words)
{
    const char *ids = (const char *)words;
    if (event->kind == EXITBUS_EVENT_PID) {
        event->container_id_size = event->exec_id_size = 0;
        memset(event->container_id, 0, DETAILS_AT);
        memcpy(event->container_id + DETAILS_AT, words, DETAILS_BYTES);
        event->exec_id[0] = '\0';
        return;
    }
    memcpy(event->container_id, ids, event->container_id_size);
    event->container_id[event->container_id_size] = '\0';
    memcpy(event->exec_id, ids + event->container_id_size, event->exec_id_size);
    event->exec_id[event->exec_id_size] = '\0';
}

bool event_from_status(struct exitbus_event *event, int wait_status)
{
    if (WIFEXITED(wait_status)) {
        event->exit_code = WEXITSTATUS(wait_status);
    } else if (WIFSIGNALED(wait_status)) {
        event->exit_code = 128 + WTERMSIG(wait_status);
        if (WCOREDUMP(wait_status))
            event->flags |= EXITBUS_EVENT_CORE_DUMPED;
    } else {
        return false;
    }
    event->status = wait_status;
    return true;
}

bool event_from_siginfo(struct exitbus_event *event, const siginfo_t *info)
{
    switch (info->si_code) {
    case CLD_EXITED:
        return event_from_status(event, (info->si_status & 0xff) << 8);
    case CLD_KILLED:
        return event_from_status(event, info->si_status);
    case CLD_DUMPED:
        return event_from_status(event, info->si_status | CORE_FLAG);
    default:
        return false; /* it was stopped or continued */
    }
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

void event_set_usage(struct exitbus_event *event, const struct rusage *usage)
{
    event->user_us = microseconds(usage->ru_utime);
    event->system_us = microseconds(usage->ru_stime);
    event->max_rss_kib = (uint64_t)usage->ru_maxrss;
}
