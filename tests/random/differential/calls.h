/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls as data: a sequence of them can be made up from a seed, made on a bus and on the reference
 * side by side, shrunk, and printed as C. An argument is a small number, and 0 is the simplest
 * value it can have, so that shrinking knows where to go.
 */
#ifndef CALLS_H
#define CALLS_H

#include <exitbus/exitbus.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum call_kind {
    CALL_SUBSCRIBE,     /* slot, topic kind - 1, pid or container id, exec id, one-shot */
    CALL_PUBLISH_PID,   /* pid, exit code */
    CALL_PUBLISH_EXEC,  /* container id, exec id, exit code */
    CALL_PUBLISH,       /* event */
    CALL_PUBLISH_BATCH, /* event, events that follow it */
    CALL_RECEIVE,       /* slot */
    CALL_RECEIVE_BATCH, /* slot, capacity - 1 */
    CALL_RECEIVE_ALL,   /* slot */
    CALL_WAIT_PID,      /* slot, pid */
    CALL_UNSUBSCRIBE,   /* slot */
    CALL_REF,           /* slot */
    CALL_UNREF,         /* slot */
    CALL_POLL,          /* slot */
    CALL_PENDING,       /* slot */
    CALL_STATS,
    CALL_DESTROY,
    CALL_KINDS
};

#define CALL_ARGUMENTS 5
#define CALL_SLOTS 24
#define CALL_PIDS 9
#define CALL_IDS 7

struct call {
    enum call_kind kind;
    uint32_t arguments[CALL_ARGUMENTS];
};

/* Some share a bucket of the registry, which has 65,536. */
static const int32_t call_pids[CALL_PIDS] = {
    1, 2, 3, 65537, 131073, 65538, 4194304, INT32_MAX, INT32_MAX - 65536};

/* Sizes below, at and above what fits one continuation cell, the longest, and none. */
static const struct {
    char filling;
    uint8_t size;
} call_ids[CALL_IDS] = {{'a', 1}, {'b', 1}, {'a', 2}, {'c', 55}, {'c', 127}, {'c', 56}, {' ', 0}};

/* Of a container there is always an id. */
#define CALL_CONTAINERS (CALL_IDS - 1)

/* The bounds of each argument of a call; 0: it has no such argument. */
static const uint32_t call_bounds[CALL_KINDS][CALL_ARGUMENTS] = {
    [CALL_SUBSCRIBE] = {CALL_SLOTS, 6, CALL_PIDS, CALL_IDS, 3},
    [CALL_PUBLISH_PID] = {CALL_PIDS, 200},
    [CALL_PUBLISH_EXEC] = {CALL_CONTAINERS, CALL_IDS, 200},
    [CALL_PUBLISH] = {1000},
    [CALL_PUBLISH_BATCH] = {1000, 63},
    [CALL_RECEIVE] = {CALL_SLOTS},
    [CALL_RECEIVE_BATCH] = {CALL_SLOTS, 80},
    [CALL_RECEIVE_ALL] = {CALL_SLOTS},
    [CALL_WAIT_PID] = {CALL_SLOTS, CALL_PIDS},
    [CALL_UNSUBSCRIBE] = {CALL_SLOTS},
    [CALL_REF] = {CALL_SLOTS},
    [CALL_UNREF] = {CALL_SLOTS},
    [CALL_POLL] = {CALL_SLOTS},
    [CALL_PENDING] = {CALL_SLOTS},
};

/* How often each is made, in so many of call_weights' sum. */
static const uint32_t call_weights[CALL_KINDS] = {
    [CALL_SUBSCRIBE] = 120,    [CALL_PUBLISH_PID] = 120,  [CALL_PUBLISH_EXEC] = 80,
    [CALL_PUBLISH] = 80,       [CALL_PUBLISH_BATCH] = 40, [CALL_RECEIVE] = 200,
    [CALL_RECEIVE_BATCH] = 80, [CALL_RECEIVE_ALL] = 20,   [CALL_WAIT_PID] = 20,
    [CALL_UNSUBSCRIBE] = 60,   [CALL_REF] = 20,           [CALL_UNREF] = 20,
    [CALL_POLL] = 30,          [CALL_PENDING] = 40,       [CALL_STATS] = 5,
    [CALL_DESTROY] = 1,
};

/* What the numbers mean: an id, an event (every number is another one), a subscription's topic. */
void id_make(char *id, uint32_t number);
void event_make(struct exitbus_event *event, uint32_t number);
struct exitbus_topic topic_make(const struct call *call, char *container_id, char *exec_id);

/* Run a sequence on a new bus and on the reference. NULL, or what differs (until the next run). */
const char *calls_run(const struct call *calls, size_t count, bool own_allocator);

/* One call as C, without a line's end. */
void call_print(FILE *stream, const struct call *call);

#endif
