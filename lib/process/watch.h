/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A set of children that one reaper at a time looks after by pidfd: an epoll descriptor, a table by
 * pid, and a lock-free list through which other threads hand children over. Uses: bus, sys.
 *
 * A hand-over is a transaction of the thread that watches or spawns (the maker):
 *     reserve   the watch is in the set, without a pid yet or with one; the reaper may meet it
 *     commit    the child is there and its pidfd lies in the epoll set: the reaper owns the watch
 *     abort     there is no such child: the reaper drops the watch when it meets it
 * The argument stands in watch.c.
 */
#ifndef EXITBUS_WATCH_H
#define EXITBUS_WATCH_H

#include "base/sys.h"
#include "bus/bus.h"

#define WATCH_BUCKETS 1024

/* Keys of the epoll set that are no watch's: a watch's key has its pid in the upper half. */
enum { WATCH_KEY_WAKE = 1, WATCH_KEY_TIMER, WATCH_KEY_SIGNAL, WATCH_KEY_PENDING };

/* What to look at: those that epoll does not name; all, since names may be lost. */
enum { RESCAN_UNPOLLED = 1, RESCAN_ALL = 2 };

enum watch_state {
    WATCH_RESERVED,  /* by its maker; the reaper may settle it */
    WATCH_COMMITTED, /* the reaper's */
    WATCH_ABORTED,   /* the reaper's, to be dropped */
    WATCH_SETTLED,   /* the maker's, to be dropped: its exit is out, or the set has closed */
    WATCH_DOUBTED,   /* likewise, but it may be an earlier child's exit that is out */
};

struct child_watch {
    struct block block;
    struct child_watch *next; /* in `incoming`, later in its bucket; the reaper's once listed */
    _Atomic int32_t pid;      /* 0: not known yet; written by the maker */
    _Atomic int32_t pidfd; /* -1: none, or lost; written by the maker, after commit by the reaper */
    uint32_t cookie;       /* lower half of its key; constant */
    _Atomic uint32_t state; /* enum watch_state */
    bool spawned;           /* constant: made by exitbus_spawn() */
    bool polled;            /* its pidfd lies in the epoll set; the maker's until commit */
    bool held;              /* exited, but its tracer has not seen that yet; the reaper's */
    bool leaving;           /* the exit of its process is being published; the reaper's */
    bool named;             /* by epoll, which names it once, and not collected; the reaper's */
};

_Static_assert(sizeof(struct child_watch) <= WATCH_BYTES, "a watch fits its memory class");

struct watch_set {
    struct exitbus *bus;
    int epoll_fd;
    int wake_fd;  /* eventfd: look around */
    int timer_fd; /* the next attempt at what was put off */
    _Atomic(struct child_watch *) incoming;
    _Atomic uint32_t cookies; /* given out */
    _Atomic uint32_t spawned; /* watches of spawn's, and spawns in flight: the set is needed */
    _Atomic uint32_t rescan;  /* which watches to look at in the next pass, unasked */
    _Atomic uint32_t aborted; /* since they were last swept out */
    /* The rest belongs to the thread that makes the pass, or that has stopped all passes. */
    bool repoll; /* the epoll descriptor is new: no watch lies in it yet */
    bool put_off;
    int refused;                /* waits in a row that the kernel has refused */
    int64_t retry_ns;           /* the interval before the latest retry; 0: all is well */
    struct child_watch *unborn; /* reserved, without a pid yet */
    struct child_watch *buckets[WATCH_BUCKETS];
};

/* Memory for a set, without descriptors. NULL: none. */
struct watch_set *watch_set_new(struct exitbus *bus);
/* No other thread uses it any more. Drops what is left in it. */
void watch_set_free(struct watch_set *set);

/* Open its descriptors, or those that are not open. 0, -EMFILE, -ENFILE, -ENOMEM. */
int watch_set_open(struct watch_set *set);
void watch_set_close(struct watch_set *set);

/* Make the reaper that waits for the set look around. 0 or -errno: the descriptor is not ours. */
int watch_set_wake(struct watch_set *set);

/* ------------------------------------------------------------------ the maker, on any thread */

/*
 * Reserve a watch for the child `pid` (0: to be said by watch_set_pid). NULL: no memory.
 * Lock-free; takes and leaves a read-side section.
 */
struct child_watch *watch_reserve(struct watch_set *set, pid_t pid, bool spawned);

/* Say the pid of a reserved watch, before that child can have exited. One atomic store. */
static inline void watch_set_pid(struct child_watch *watch, pid_t pid)
{
    /* Release; pairs with the load in watch_pid(). */
    store_release(&watch->pid, pid);
}

/*
 * Hand the child over; takes `pidfd`, -1 if none could be had. False: the watch was doubted
 * meanwhile, so look at the child once more. Can't fail otherwise; lock-free. The watch is gone for
 * the caller.
 */
bool watch_commit(struct watch_set *set, struct child_watch *watch, int pidfd);

/* There is no such child. The watch is gone for the caller. */
void watch_abort(struct watch_set *set, struct child_watch *watch);

/* --------------------------------------------------- the reaper, one thread at a time */

/* Take over what was handed in since the last look. */
void watch_absorb(struct watch_set *set);

static inline pid_t watch_pid(const struct child_watch *watch)
{
    /* Acquire; pairs with the store in watch_set_pid(). */
    return load_acquire(&watch->pid);
}

static inline enum watch_state watch_state(const struct child_watch *watch)
{
    /* Acquire; pairs with the maker's change of state. */
    return (enum watch_state)load_acquire(&watch->state);
}

static inline int watch_pidfd(const struct child_watch *watch)
{
    /* Acquire; pairs with the store in watch_commit(). */
    return load_acquire(&watch->pidfd);
}

static inline struct child_watch **watch_bucket(struct watch_set *set, pid_t pid)
{
    return &set->buckets[(size_t)pid % WATCH_BUCKETS];
}

/* The watch that an epoll key stands for; NULL: gone meanwhile. After watch_absorb(). */
struct child_watch *watch_of_key(struct watch_set *set, uint64_t key);

/* Drop what was aborted, if that is many. */
void watch_sweep(struct watch_set *set);

/* Any watch of a pid, or NULL. After watch_absorb(). */
struct child_watch *watch_find(struct watch_set *set, pid_t pid);

/*
 * The exit is out (or nobody's): take the watch out of the set. `named`: epoll has just named it,
 * and so will not again. `to`: what a watch becomes that its maker still holds.
 */
void watch_end(struct watch_set *set, struct child_watch *watch, bool named, enum watch_state to);

/* Take its pidfd out of the epoll set. */
void watch_unpoll(struct watch_set *set, struct child_watch *watch);

/* Put its pidfd into the epoll set, opened anew if it was lost. False: it can't be polled now. */
bool watch_poll(struct watch_set *set, struct child_watch *watch);

/* Set the timer for another attempt, at growing intervals. */
void watch_retry_later(struct watch_set *set);

/* Drop all watches; or only those that spawn has not made. No pass may be in progress. */
void watch_drop(struct watch_set *set, bool also_spawned);

#endif
