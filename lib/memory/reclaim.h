/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Deferred freeing (G6): callbacks after a grace period.
 *
 * - Memory that another thread may still touch goes through reclaim_defer(). Its callback runs on
 *   the worker, a thread of the library's own, after a grace period.
 * - The grace period covers every section of the library (epoch.h), and every read-side section of
 *   the caller's own (liburcu, flavour bp). So a subscription may be looked up in such a section.
 * - The library registers no thread of the caller's with liburcu, and does not use call_rcu(). Both
 *   abort where memory or threads are lacking, both hold locks, and neither survives a fork. From
 *   0.13.3 on, liburcu's destructor waits for call_rcu's thread, which a forked child lacks.
 * - ThreadSanitizer does not see fences, so annotations here state what they order. All that
 *   happened before reclaim_defer(), and in a section that ended before the grace period, happened
 *   before the callback.
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

/* Its address stands for the grace periods in the annotations for ThreadSanitizer. */
extern char reclaim_grace_periods;

/* Part of any object that is passed to reclaim_defer(). Only reclaim.c accesses it. */
struct reclaim_head {
    /* liburcu's type, because the model checker has its own; liburcu's code is not used. */
    struct rcu_head rcu;
};

/* Prepare everything but the worker; the argument for fork_guard_begin(). Returns 0 or -ENOMEM. */
int reclaim_begin(bool forked);

/*
 * Prepare reclaim, if need be, and start the worker, if this process has none. Returns 0, -ENOMEM,
 * or -EAGAIN if no thread can be made. Context: may block.
 */
int reclaim_init(void);

/*
 * Enter and leave a read-side section. Sections may nest. Context: never blocks, never fails. (The
 * model checker tests epoch.c alone, and uses one kind of section everywhere else.)
 */
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

/*
 * Returns whether this thread is in a section of the library, or in a read-side section of its own.
 * Where liburcu is not to be compiled in, the latter is known only to a call that registers the
 * thread: reclaim_inside_registering() makes it, and reclaim_inside() does without.
 */
bool reclaim_inside(void);
bool reclaim_inside_registering(void);

/*
 * Call `callback` once, on the worker, after a grace period. Callbacks run in the order of these
 * calls. The callback must begin with reclaim_callback_begin(). Context: never blocks; no malloc.
 */
void reclaim_defer(struct reclaim_head *head, void (*callback)(struct rcu_head *));

static inline struct reclaim_head *reclaim_callback_begin(struct rcu_head *rcu)
{
    tsan_acquired(&reclaim_grace_periods);
    return container_of(rcu, struct reclaim_head, rcu);
}

/*
 * Wake the worker, and end its nap. A thread that was stopped inside reclaim_defer() may not have
 * woken it.
 */
void reclaim_hurry(void);

/* Wait for a grace period. Context: blocks; not inside a section. */
void reclaim_wait(void);

#endif
