/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Grace periods: the one seam to liburcu (flavour bp: no thread registers itself). Memory that
 * another thread may still touch goes through reclaim_later(), and comes out in a callback when
 * every read-side section that could have seen it has ended (G6). A section is one of epoch.h, too,
 * which finds the end of a grace period sooner. Uses: platform, epoch.
 *
 * liburcu synchronises by inline assembly, which ThreadSanitizer can't see; the annotations here
 * tell it: what happened in a read-side section that ended before a grace period, and before
 * reclaim_later(), happened before the callback.
 */
#ifndef EXITBUS_RECLAIM_H
#define EXITBUS_RECLAIM_H

#include "epoch.h"
#include "platform.h"

#if !defined(_LGPL_SOURCE) && !defined(EXITBUS_URCU_CALLS)
#define _LGPL_SOURCE /* inline read-side sections: 1 ns instead of 8 */
#endif
#ifndef URCU_API_MAP
#define URCU_API_MAP
#endif
#include <stdbool.h>
#include <urcu-bp.h>

#if defined(__SANITIZE_THREAD__)
#define RECLAIM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RECLAIM_TSAN 1
#endif
#endif

#ifdef RECLAIM_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
extern char reclaim_tsan_domain;
#define reclaim_annotate_release() __tsan_release(&reclaim_tsan_domain)
#define reclaim_annotate_acquire() __tsan_acquire(&reclaim_tsan_domain)
#else
#define reclaim_annotate_release() ((void)0)
#define reclaim_annotate_acquire() ((void)0)
#endif

/* Part of anything that can be given to reclaim_later(). Other threads never look at it. */
struct reclaim_head {
    struct rcu_head rcu;
};

/* Start the callback thread, with all signals blocked in it. 0 or -EAGAIN. */
int reclaim_init(void);

/* A read-side section: may nest, never blocks, never fails. (The model checker has a test for
 * epoch.c alone, and one kind of section everywhere else.) */
static inline void reclaim_enter(void)
{
    rcu_read_lock();
#ifndef RECLAIM_WITHOUT_EPOCH
    epoch_enter(); /* the inner one: it is over when liburcu's is, so one look follows the other
                      once */
#endif
}

static inline void reclaim_leave(void)
{
    reclaim_annotate_release();
#ifndef RECLAIM_WITHOUT_EPOCH
    epoch_leave();
#endif
    rcu_read_unlock();
}

static inline bool reclaim_inside(void)
{
    return rcu_read_ongoing() != 0;
}

/*
 * Call `callback` once, on liburcu's thread, after a grace period. Non-blocking and without malloc.
 * The callback must begin with reclaim_callback_begin().
 */
void reclaim_later(struct reclaim_head *head, void (*callback)(struct rcu_head *));

static inline struct reclaim_head *reclaim_callback_begin(struct rcu_head *rcu)
{
    reclaim_annotate_acquire();
    return container_of(rcu, struct reclaim_head, rcu);
}

/* Wait for a grace period. Not inside a section. */
void reclaim_wait(void);

#endif
