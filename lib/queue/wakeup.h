/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Waking the receivers of one subscription: an event count for blocking receives and an eventfd for
 * event loops. No wake-up is lost, none costs a system call while nobody sleeps, and a thread that
 * is stopped for ever anywhere in here costs the others nothing but a repeated wake. The protocols
 * and the arguments stand in wakeup.c. Uses: barrier, sys.
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

struct wakeup_watch {             /* on the publishers' line */
    _Atomic uint64_t fd_state;    /* of the eventfd: see wakeup.c */
    _Atomic uint32_t slept_epoch; /* the latest epoch in which a receiver may have gone to sleep */
    _Atomic uint32_t woken_epoch; /* sleepers of earlier epochs have all been woken */
};

struct wakeup {                /* on the receivers' line */
    _Atomic uint32_t epoch;    /* the futex */
    _Atomic uint32_t sleepers; /* threads in a blocking receive; for the statistics */
    _Atomic int32_t fd;        /* the eventfd, or -1; with a flag: */
};

/* Every publisher sees from its watch that there is a descriptor. No descriptor is that high. */
#define WAKEUP_FD_KNOWN (1 << 30)

void wakeup_init(struct wakeup_watch *watch, struct wakeup *wakeup);

/* The last reference is gone: close the eventfd, if nobody is using it. */
void wakeup_end(struct wakeup_watch *watch, struct wakeup *wakeup);
/* Close it if that has not been done. A grace period later. */
void wakeup_finish(struct wakeup *wakeup);

void wakeup_notify_slow(struct wakeup_watch *watch, struct wakeup *wakeup);

/* fd_state while no descriptor was asked for. */
#define WAKEUP_FD_NONE 0

/*
 * After an append: wake who sleeps. Lock-free; two loads if nobody does. Every thread that
 * distributes an event calls it for every matching subscription, whoever appended.
 */
static inline void wakeup_notify(struct wakeup_watch *watch, struct wakeup *wakeup)
{
    barrier_light(); /* the append before the look; pairs with barrier_heavy in wakeup.c */
    uint32_t slept = load_relaxed(&watch->slept_epoch);
    uint32_t woken = load_relaxed(&watch->woken_epoch);
    uint64_t fd = load_relaxed(&watch->fd_state);
    if (unlikely((int32_t)(slept - woken) >= 0 || fd != WAKEUP_FD_NONE))
        wakeup_notify_slow(watch, wakeup);
}

/* After the queue was closed: wake everybody, and leave the eventfd readable for good. */
void wakeup_closed(struct wakeup_watch *watch, struct wakeup *wakeup);

/*
 * The sleeper's side: announce, then look at the queue once more, then sleep on what announce
 * returned. wakeup_sleep: 0 (look again) or -ETIMEDOUT.
 */
uint32_t wakeup_announce(struct wakeup_watch *watch, struct wakeup *wakeup);
int wakeup_sleep(struct wakeup *wakeup, uint32_t epoch, const struct timespec *deadline);

/* The eventfd, made if need be; its state is then "readable". -EMFILE, -ENFILE, -ENOMEM. */
int wakeup_fd(struct wakeup_watch *watch, struct wakeup *wakeup);

/*
 * A receiver has found the queue empty: make the eventfd unreadable, unless `pending` says, asked
 * again after the announcement, that there is something to receive (or the queue is closed). Only
 * if it is clearable. True: the receiver may say -EAGAIN, and the next publish makes an edge.
 * False: look again.
 */
bool wakeup_fd_clear(struct wakeup_watch *watch, struct wakeup *wakeup,
                     bool (*pending)(const void *context), const void *context);

/* The next publish makes an edge; the eventfd stays as readable as it is. Then look once more. */
void wakeup_fd_rearm(struct wakeup_watch *watch);

/* Asked on the receivers' line; it is set before fd_state is. */
static inline bool wakeup_fd_used(const struct wakeup *wakeup)
{
    return load_relaxed(&wakeup->fd) >= 0;
}

static inline bool wakeup_fd_clearable(const struct wakeup *wakeup)
{
    /* Acquire: pairs with the store in wakeup_fd. */
    return load_acquire(&wakeup->fd) >= WAKEUP_FD_KNOWN;
}

#endif
