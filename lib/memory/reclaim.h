/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Deferred freeing (G6). Memory that another thread may still touch goes through reclaim_defer(),
 * and comes out in a callback on the worker, a thread of our own, after a grace period: when every
 * section of the library that could have seen it has ended (epoch.h), and every read-side section
 * of the caller's own (liburcu, flavour bp), so that a subscription may be looked up in one.
 *
 * No thread of the caller's is registered with liburcu by us, and call_rcu() is not used: both
 * abort where memory or threads are lacking, both hold locks, neither survives a fork, and from
 * 0.13.3 on liburcu's destructor waits for call_rcu's thread, which a forked child does not have.
 *
 * ThreadSanitizer does not see fences; the annotations here tell it: what happened in a section
 * that ended before a grace period, and before reclaim_defer(), happened before the callback. Uses:
 * platform, epoch, fork_guard.
 */
#ifndef EXITBUS_RECLAIM_H
#define EXITBUS_RECLAIM_H

#include "base/compiler.h"
#include "base/probe.h"
#include "memory/epoch.h"

#ifndef URCU_API_MAP
#define URCU_API_MAP
#endif
#include <stdbool.h>
#include <urcu-bp.h>

/* Its address stands for the grace periods, in what ThreadSanitizer is told. */
extern char reclaim_grace_periods;

/* Part of anything that can be given to reclaim_defer(). Other threads never look at it. */
struct reclaim_head {
    struct rcu_head
        rcu; /* liburcu's type, so that the model checker's fits; its code is not used */
};

/* For fork_guard_begin(): all but the worker. 0 or -ENOMEM. */
int reclaim_begin(bool forked);

/* Begin, if need be, and start the worker, if this process has none. 0, -ENOMEM or -EAGAIN (no
 * thread can be had). Context: may block. */
int reclaim_init(void);

/* A read-side section: may nest, never blocks, never fails. (The model checker has a test for
 * epoch.c alone, and one kind of section everywhere else.) */
static inline void reclaim_enter(void)
{
#ifdef RECLAIM_WITHOUT_EPOCH
    rcu_read_lock();
#else
    epoch_enter();
#endif
}

static inline void reclaim_leave(void)
{
    tsan_released(&reclaim_grace_periods);
#ifdef RECLAIM_WITHOUT_EPOCH
    rcu_read_unlock();
#else
    epoch_leave();
#endif
}

/* Is this thread in a section of ours, or in a read-side section of its own? */
bool reclaim_inside(void);

/*
 * Call `callback` once, on the worker, after a grace period; callbacks are called in the order in
 * which this was. Non-blocking and without malloc. The callback must begin with
 * reclaim_callback_begin().
 */
void reclaim_defer(struct reclaim_head *head, void (*callback)(struct rcu_head *));

static inline struct reclaim_head *reclaim_callback_begin(struct rcu_head *rcu)
{
    tsan_acquired(&reclaim_grace_periods);
    return container_of(rcu, struct reclaim_head, rcu);
}

/* Wake the worker, as a thread stopped behind its reclaim_defer() might not have done. */
void reclaim_hurry(void);

/* Wait for a grace period. Not inside a section. */
void reclaim_wait(void);

#endif
