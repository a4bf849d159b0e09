/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Waking the receivers of one subscription: an event count for blocking receives and an eventfd for
 * event loops. No wake-up is lost, none costs a system call while nobody sleeps, and a thread that
 * is stopped for ever anywhere in here costs the others nothing but a repeated wake. The protocols
 * and the arguments stand in event_count.c and event_fd.c.
 *
 * Publishers look at one struct after each append; receivers own the other.
 */
#ifndef EXITBUS_WAKEUP_H
#define EXITBUS_WAKEUP_H

#include "base/atomic.h"
#include "base/barrier.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct wake_publisher {           /* on the publishers' line */
    _Atomic uint64_t fd_state;    /* of the eventfd: see event_fd.c */
    _Atomic uint32_t slept_epoch; /* the latest epoch in which a receiver may have gone to sleep */
    _Atomic uint32_t woken_epoch; /* sleepers of earlier epochs have all been woken */
};

struct wake_receiver {         /* on the receivers' line */
    _Atomic uint32_t epoch;    /* the futex */
    _Atomic uint32_t sleepers; /* threads in a blocking receive; for the statistics */
    _Atomic int32_t fd;        /* the eventfd, or -1; with a flag: */
};

/* Every publisher sees from its watch that there is a descriptor. No descriptor is that high. */
#define WAKEUP_FD_KNOWN (1 << 30)

void wakeup_init(struct wake_publisher *publisher, struct wake_receiver *receiver);

/* The last reference is gone: close the eventfd, if nobody is using it. */
void wakeup_fd_close_when_unused(struct wake_publisher *publisher, struct wake_receiver *receiver);
/* Close it if that has not been done. A grace period later. */
void wakeup_destroy(struct wake_receiver *receiver);

void wakeup_notify_slow(struct wake_publisher *publisher, struct wake_receiver *receiver);

/* fd_state while no descriptor was asked for. */
#define WAKEUP_FD_NONE 0

/*
 * After an append: wake who sleeps. Lock-free; two loads if nobody does. Every thread that
 * distributes an event calls it for every matching subscription, whoever appended.
 */
static inline void wakeup_notify(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    barrier_light(); /* the append before the look; pairs with barrier_heavy() in event_count.c and event_fd.c */
    uint32_t slept = load_relaxed(&publisher->slept_epoch);
    uint32_t woken = load_relaxed(&publisher->woken_epoch);
    uint64_t fd = load_relaxed(&publisher->fd_state);
    if (unlikely((int32_t)(slept - woken) >= 0 || fd != WAKEUP_FD_NONE))
        wakeup_notify_slow(publisher, receiver);
}

/* After the queue was closed: wake everybody, and leave the eventfd readable for good. */
void wakeup_notify_closed(struct wake_publisher *publisher, struct wake_receiver *receiver);

/*
 * The sleeper's side: announce, then look at the queue once more, then sleep on what announce
 * returned. wakeup_sleep: 0 (look again) or -ETIMEDOUT.
 */
uint32_t wakeup_announce(struct wake_publisher *publisher, struct wake_receiver *receiver);
int wakeup_sleep(struct wake_receiver *receiver, uint32_t epoch, const struct timespec *deadline);

/* The eventfd, made if need be; its state is then "readable". -EMFILE, -ENFILE, -ENOMEM. */
int wakeup_fd(struct wake_publisher *publisher, struct wake_receiver *receiver);

/*
 * A receiver has found the queue empty: make the eventfd unreadable, unless `pending` says, asked
 * again after the announcement, that there is something to receive (or the queue is closed). Only
 * if it is clearable. True: the receiver may say -EAGAIN, and the next publish makes an edge.
 * False: look again.
 */
bool wakeup_fd_clear(struct wake_publisher *publisher, struct wake_receiver *receiver,
                     bool (*pending)(const void *context), const void *context);

/* The next publish makes an edge; the eventfd stays as readable as it is. Then look once more. */
void wakeup_fd_rearm(struct wake_publisher *publisher);

/* Asked on the receivers' line; it is set before fd_state is. */
static inline bool wakeup_fd_used(const struct wake_receiver *receiver)
{
    return load_relaxed(&receiver->fd) >= 0;
}

static inline bool wakeup_fd_clearable(const struct wake_receiver *receiver)
{
    /* Acquire: pairs with the store in wakeup_fd. */
    return load_acquire(&receiver->fd) >= WAKEUP_FD_KNOWN;
}

#endif
