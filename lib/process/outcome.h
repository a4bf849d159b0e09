/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An outcome: an event that is told once, and stays. Any number of threads may ask for it, sleep
 * until it is told, or wait at a descriptor, any number of times.
 *
 * Why no wake-up is lost: the thread that tells stores `state` and then looks for waiters and for a
 * descriptor. A waiter counts itself, and a call makes the descriptor known, before either looks at
 * `state`. All four are sequentially consistent, so one of the two sees the other.
 */
#ifndef EXITBUS_OUTCOME_H
#define EXITBUS_OUTCOME_H

#include "base/atomic.h"

#include <exitbus/exitbus.h>
#include <stdbool.h>
#include <stddef.h>

/* The words of an event that an outcome keeps: all but the ids. */
#define OUTCOME_WORDS (offsetof(struct exitbus_event, container_id) / sizeof(uint64_t))

enum outcome_state {
    OUTCOME_OPEN,
    OUTCOME_TOLD, /* `event` is it */
    OUTCOME_LEFT, /* there will be none: the bus was destroyed */
};

/* The thread that is to tell. It changes by CAS from NOBODY, and by a store of the waiter's. */
enum outcome_owner {
    OWNER_REAPER,
    OWNER_NOBODY, /* of a direct handle, for which no thread waits: direct.h */
    OWNER_WAITER, /* of a direct handle: a thread that waits */
};

struct outcome {
    _Atomic uint32_t state;        /* enum outcome_state, a futex; by the owner, once */
    _Atomic uint32_t waiters;      /* threads that may sleep on `state` */
    _Atomic int32_t fd;            /* the eventfd for event loops; -1: none yet */
    _Atomic uint32_t owner;        /* enum outcome_owner */
    uint64_t event[OUTCOME_WORDS]; /* by the owner, before `state` */
};

void outcome_init(struct outcome *outcome);

/* Close its descriptor. Context: no thread has it any more. */
void outcome_close(struct outcome *outcome);

static inline bool outcome_is_open(const struct outcome *outcome)
{
    /* Sequentially consistent; pairs with outcome_settle(): see above. */
    return load_seq_cst(&outcome->state) == OUTCOME_OPEN;
}

/* Note the event, without telling any thread. Context: the owner. */
void outcome_note(struct outcome *outcome, const struct exitbus_event *event);

/* Tell what was noted; or that there will be none. Context: the owner, once. */
void outcome_settle(struct outcome *outcome, enum outcome_state state);

/* Returns 0 with the event, without ids and details; -ESHUTDOWN; or -EAGAIN: it is open. */
int outcome_look(const struct outcome *outcome, struct exitbus_event *event);

/*
 * Sleep until it is told, or until a time of CLOCK_MONOTONIC; INT64_MAX: for ever. Returns as
 * outcome_look(), or -ETIMEDOUT; -EAGAIN: it has no owner, and the caller may become that.
 * Context: blocks.
 */
int outcome_sleep(struct outcome *outcome, struct exitbus_event *event, int64_t until_ns);

/* Returns the time that lies so far ahead, for outcome_sleep(); below 0: for ever. */
int64_t outcome_deadline(int64_t timeout_ns);

/*
 * Wait so long for what it is told, as a public call does; 0: only look; below 0: for ever.
 * Returns as outcome_sleep(), or -EDEADLK: it would sleep inside a section. Context: it has an
 * owner.
 */
int outcome_wait(struct outcome *outcome, struct exitbus_event *event, int64_t timeout_ns);

/* Set a time to an earlier one; a later one changes nothing. */
void outcome_bring_forward(_Atomic int64_t *time_ns, int64_t at_ns);

/* Returns an eventfd that is shared by threads, and made if there is none yet (-1); or -errno. */
int outcome_eventfd(_Atomic int *eventfd);

/* Returns a descriptor that is readable once it is told; or -errno. */
int outcome_fd(struct outcome *outcome);

#endif
