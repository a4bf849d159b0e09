/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Waking the receivers of one subscription: an event count for blocking receives, and an eventfd
 * for event loops.
 *
 * - No wake-up is lost, and none costs a system call while no receiver sleeps.
 * - A thread stopped for ever anywhere in here costs the others a repeated wake-up, and no more.
 * - Publishers load one struct after each append. Receivers own the other.
 *
 * The protocols and the arguments: event_count.c and event_fd.c.
 */
#ifndef EXITBUS_WAKEUP_H
#define EXITBUS_WAKEUP_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct wake_publisher {           /* on the publishers' line */
    _Atomic uint64_t fd_state;    /* of the eventfd: see event_fd.c */
    _Atomic uint32_t slept_epoch; /* latest epoch in which a receiver may have gone to sleep */
    _Atomic uint32_t woken_epoch; /* sleepers of earlier epochs have all been woken */
};

struct wake_receiver {         /* on the receivers' line */
    _Atomic uint32_t epoch;    /* the futex; written by threads that wake */
    _Atomic uint32_t sleepers; /* threads in a blocking receive; one_shot_wake() and statistics */
    _Atomic int32_t fd;        /* the eventfd, or -1; with this flag: */
};

/*
 * Every publisher sees in fd_state that there is a descriptor. No descriptor has so high a number.
 */
#define WAKEUP_FD_KNOWN (1 << 30)

/* Bits that name all sleepers. */
#define WAKEUP_ALL UINT32_MAX

void wakeup_init(struct wake_publisher *publisher, struct wake_receiver *receiver);

/* Close the eventfd as soon as no thread uses it. Called when the last reference is gone. */
void wakeup_fd_close_when_unused(struct wake_publisher *publisher, struct wake_receiver *receiver);
/*
 * Close the eventfd if it is still open. Context: a grace period after the last reference is gone.
 */
void wakeup_destroy(struct wake_receiver *receiver);

void wakeup_notify_slow(struct wake_publisher *publisher, struct wake_receiver *receiver);

/* fd_state while no call has asked for a descriptor. */
#define WAKEUP_FD_NONE 0

/* Returns whether a receiver may be asleep. Context: as wakeup_notify(). */
static inline bool wakeup_may_sleep(const struct wake_publisher *publisher)
{
    /* Sequentially consistent; pairs with the fence in wakeup_announce(): order.c, 5. */
    uint32_t slept = load_seq_cst(&publisher->slept_epoch);
    uint32_t woken = load_relaxed(&publisher->woken_epoch);
    return (int32_t)(slept - woken) >= 0;
}

/*
 * Wake sleeping receivers. Each thread that distributes an event calls it for every matching
 * subscription after the append, even if another thread has appended. Context: in a turn, which it
 * has opened or helps; or behind a fence. Lock-free; without sleepers and descriptor, three loads
 * on one line.
 */
static inline void wakeup_notify(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    bool may_sleep = wakeup_may_sleep(publisher);
    /* Sequentially consistent; pairs with the fence in wakeup_fd(). */
    uint64_t fd = load_seq_cst(&publisher->fd_state);
    if (unlikely(may_sleep || fd != WAKEUP_FD_NONE))
        wakeup_notify_slow(publisher, receiver);
}

/*
 * Wake all receivers, and leave the eventfd readable for good. Called after the queue was closed.
 */
void wakeup_notify_closed(struct wake_publisher *publisher, struct wake_receiver *receiver);

/* Only the second half of that. */
void wakeup_notify_fd_closed(struct wake_publisher *publisher, struct wake_receiver *receiver);

/*
 * The sleeper's side: announce, settle (order.h), look at the queue once more, then sleep on the
 * epoch that wakeup_announce() returned. wakeup_sleep() returns 0 (look again) or -ETIMEDOUT. A
 * close may wake only those sleepers of a shared epoch whose `bits` it names. Context: blocks.
 */
uint32_t wakeup_announce(struct wake_publisher *publisher, const _Atomic uint32_t *epoch);
int wakeup_sleep(_Atomic uint32_t *epoch, uint32_t value, uint32_t bits,
                 const struct timespec *deadline);

/*
 * Make the eventfd, if there is none. Its state is then "readable". The caller settles, and then
 * calls wakeup_fd_known(). Returns the descriptor, -EMFILE, -ENFILE or -ENOMEM.
 */
int wakeup_fd(struct wake_publisher *publisher, struct wake_receiver *receiver);
/* Let receivers take tokens. Context: behind wakeup_fd(), and settled. */
void wakeup_fd_known(struct wake_receiver *receiver);

/*
 * Make the eventfd unreadable, for a receiver that has found the queue empty. Asks `pending` after
 * the announcement whether there is something to receive, or the queue is closed. Returns true if
 * the receiver may return -EAGAIN, and the next publish makes an edge; false: look again. Context:
 * wakeup_fd_clearable() is true; lock-free.
 */
bool wakeup_fd_clear(struct wake_publisher *publisher, struct wake_receiver *receiver,
                     bool (*pending)(const void *context), const void *context);

/*
 * Let the next publish make an edge. The eventfd stays as readable as it is. Callers then look at
 * the queue once more.
 */
void wakeup_fd_rearm(struct wake_publisher *publisher);

/*
 * Returns whether there is a descriptor. It loads the receivers' line, which is written before
 * fd_state is.
 */
static inline bool wakeup_fd_used(const struct wake_receiver *receiver)
{
    return load_relaxed(&receiver->fd) >= 0;
}

static inline bool wakeup_fd_clearable(const struct wake_receiver *receiver)
{
    /* Acquire; pairs with wakeup_fd_known(). */
    return load_acquire(&receiver->fd) >= WAKEUP_FD_KNOWN;
}

#endif
