/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Events on their way: a record is a run of 64-bit words that fill one to six cells.
 *   - The first seven words are bytes 8 to 63 of the public struct: all but seq, which is the
 *     cell's tag.
 *   - The ids of an exec event follow in continuation cells: container id, then exec id, without
 *     NULs.
 *   - The details of a PID event follow in one continuation cell. In the public struct they lie in
 *     the container id, behind the NUL of the empty string. In the record their size stands for
 *     that of the container id, so that only the first word tells how many cells there are.
 */
#ifndef EXITBUS_EVENT_H
#define EXITBUS_EVENT_H

#include "base/compiler.h"
#include "base/probe.h"

#include <errno.h>
#include <exitbus/exitbus.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>

#define CELL_WORDS 7 /* of payload; the eighth word is the tag */
#define CELL_PAYLOAD (CELL_WORDS * sizeof(uint64_t))
/* The fixed part, and two ids of EXITBUS_ID_MAX bytes. */
#define RECORD_CELLS_MAX (1 + (2 * EXITBUS_ID_MAX + CELL_PAYLOAD - 1) / CELL_PAYLOAD)

/* gcc at -O2 does not unroll a loop over the words of a cell by itself. */
#define UNROLL_WORDS _Pragma("GCC unroll 7")

struct record {
    uint64_t words[RECORD_CELLS_MAX * CELL_WORDS];
};

_Static_assert(offsetof(struct exitbus_event, pid) == 8, "the words begin behind seq");
_Static_assert(offsetof(struct exitbus_event, container_id) == 64, "the fixed part is one line");

/* Returns the bits of a record's first word that hold the sizes of its ids. */
static inline uint64_t word_size_bits(void)
{
    const uint8_t sizes[8] = {[offsetof(struct exitbus_event, container_id_size) - 8] = UINT8_MAX,
                              [offsetof(struct exitbus_event, exec_id_size) - 8] = UINT8_MAX};
    uint64_t bits;
    memcpy(&bits, sizes, sizeof bits);
    return bits;
}

/* Returns whether a record has ids, from its first word. */
static inline bool word_has_ids(uint64_t first_word)
{
    return first_word & word_size_bits();
}

/* Returns the number of a record's cells, from its first word. */
static inline unsigned record_cells(uint64_t first_word)
{
    if (likely(!word_has_ids(first_word)))
        return 1;
    uint8_t bytes[8];
    memcpy(bytes, &first_word, sizeof bytes);
    unsigned size = (unsigned)bytes[offsetof(struct exitbus_event, container_id_size) - 8] +
                    bytes[offsetof(struct exitbus_event, exec_id_size) - 8];
    return 1 + (unsigned)((size + CELL_PAYLOAD - 1) / CELL_PAYLOAD);
}

/* Returns whether a record has no ids, and so lies in one cell. Nearly all records do. */
static inline bool record_is_single(const struct record *record)
{
    return !word_has_ids(record->words[0]);
}

/* What a record says about the process that has exited. The ids lie in the record, without NULs. */
struct record_key {
    uint8_t kind; /* enum exitbus_event_kind */
    uint8_t container_id_size;
    uint8_t exec_id_size;
    int32_t pid;
    const char *container_id;
    const char *exec_id;
};

/* Of every kind. */
#define EVENT_FLAGS                                                                                \
    (EXITBUS_EVENT_CORE_DUMPED | EXITBUS_EVENT_STATUS_LOST | EXITBUS_EVENT_CUT_SHORT)

/* event_check() for an event with ids or details, or of a wrong kind. */
int event_check_rest(const struct exitbus_event *event);

/* Returns 0; or -EINVAL for an event that may not be published. */
static inline int event_check(const struct exitbus_event *event)
{
    if (unlikely(event->kind != EXITBUS_EVENT_PID || event->flags & ~EVENT_FLAGS))
        return event_check_rest(event);
    return event->pid > 0 ? 0 : -EINVAL;
}

/* Encode what few events have: ids, details, or a time that is left to us. */
void event_encode_rest(const struct exitbus_event *event, struct record *record);

/* Encode an event that event_check() has passed. A time of 0 is filled in from its clock. */
static inline void event_encode(const struct exitbus_event *event, struct record *record)
{
    const char *bytes = (const char *)event + offsetof(struct exitbus_event, pid);
    /* Word by word: the caller has just written some of them. */
    UNROLL_WORDS
    for (unsigned w = 0; w < CELL_WORDS; w++)
        memcpy(&record->words[w], bytes + w * sizeof(uint64_t), sizeof(uint64_t));
    record->words[0] &= ~word_size_bits();
    if (unlikely(event->kind != EXITBUS_EVENT_PID || event->flags & EXITBUS_EVENT_DETAILS ||
                 event->monotonic_ns == 0 || event->realtime_ns == 0))
        event_encode_rest(event, record);
}

/* Returns an enum exitbus_event_kind. */
static inline uint8_t record_kind(const struct record *record)
{
    uint8_t bytes[8];
    memcpy(bytes, record->words, sizeof bytes);
    return bytes[offsetof(struct exitbus_event, kind) - 8];
}

static inline bool record_is_pid(const struct record *record)
{
    return record_kind(record) == EXITBUS_EVENT_PID;
}

/* Returns whether it tells of an exit, and not of a group or a task. */
static inline bool record_is_exit(const struct record *record)
{
    return record_kind(record) <= EXITBUS_EVENT_EXEC;
}

static inline pid_t record_pid(const struct record *record)
{
    int32_t pid;
    memcpy(&pid, record->words, sizeof pid);
    return pid;
}

/* Returns the key, which points into the record. */
static inline struct record_key record_key(const struct record *record)
{
    struct exitbus_event fixed;
    memcpy((char *)&fixed + offsetof(struct exitbus_event, pid), record->words,
           sizeof record->words[0]);
    const char *ids = (const char *)(record->words + CELL_WORDS);
    return (struct record_key){.kind = fixed.kind,
                               .container_id_size = fixed.container_id_size,
                               .exec_id_size = fixed.exec_id_size,
                               .pid = fixed.pid,
                               .container_id = ids,
                               .exec_id = ids + fixed.container_id_size};
}

/* Returns the bytes of an id; or -EINVAL if it is NULL or too long. */
int event_id_size(const char *id);

/*
 * Fill in the ids, or the details, from the continuation words. Context: the event's fixed part is
 * in place.
 */
void event_decode_ids(struct exitbus_event *event, const uint64_t *words);

/* Give a PID event details; and get them: returns 0, or -ENODATA if it has none. */
void event_set_details(struct exitbus_event *event, const struct exitbus_event_details *details);
int event_details(const struct exitbus_event *event, struct exitbus_event_details *details);

/*
 * Set exit_code, status and flags of an event from what its waiter has: a code, nothing, a wait
 * status, or the siginfo of waitid(). The last two return false, and leave the event as it was, if
 * the process has not ended.
 */
static inline void event_from_code(struct exitbus_event *event, int exit_code)
{
    event->exit_code = exit_code;
    event->status = (exit_code & 0xff) << 8; /* that of a process that has called exit(code) */
}

static inline void event_without_status(struct exitbus_event *event)
{
    event->flags |= EXITBUS_EVENT_STATUS_LOST;
    event->exit_code = event->status = -1; /* wait(2) gives no such status */
}

bool event_from_status(struct exitbus_event *event, int wait_status);
bool event_from_siginfo(struct exitbus_event *event, const siginfo_t *info);

/* Set the times and the memory that a process has used. */
void event_set_usage(struct exitbus_event *event, const struct rusage *usage);

#endif
