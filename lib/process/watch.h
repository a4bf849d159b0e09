/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A set of watched children: an epoll descriptor with their pidfds, a table by pid, and a lock-free
 * list through which other threads hand children over. One reaper at a time makes passes over it.
 *
 * A child is handed over in a transaction of the thread that watches or spawns it (the maker):
 *   - reserve: the watch is in the set, with or without a pid; the reaper may find it;
 *   - commit: the child exists and its pidfd lies in the epoll set; the reaper owns the watch;
 *   - abort: there is no such child; the reaper drops the watch when it finds it.
 * Why an exit is published once is argued in watch.c.
 */
#ifndef EXITBUS_WATCH_H
#define EXITBUS_WATCH_H

#include "base/sys.h"
#include "bus/bus.h"

#define WATCH_BUCKETS 1024

/* What a watch is made for. */
#define WATCH_SPAWNED 1u   /* a child of exitbus_spawn(); the watch is there before the child is */
#define WATCH_IN_HANDLE 2u /* the watch is part of a process handle, which owns the pidfd */
#define WATCH_FOREIGN 4u   /* no child of ours; only its handle is told: process.h */

/* Epoll keys that stand for no child. A child's key is larger: its pid is the upper half. */
enum {
    WATCH_KEY_WAKE = 1,
    WATCH_KEY_TIMER,
    WATCH_KEY_SIGNAL,
    WATCH_KEY_PENDING,
    WATCH_KEY_GROUP,
};

/* Which children to look at: those that epoll does not name; or all, since names may be lost. */
enum { RESCAN_UNPOLLED = 1, RESCAN_ALL = 2 };

/* The owner of a watch may free it. It changes once, by a CAS from RESERVED. */
enum watch_state {
    WATCH_RESERVED,  /* by its maker; the reaper may settle or doubt it */
    WATCH_COMMITTED, /* owned by the reaper */
    WATCH_ABORTED,   /* owned by the reaper, to be dropped */
    WATCH_SETTLED,   /* owned by the maker: the exit is published, or the set has closed */
    WATCH_DOUBTED,   /* owned by the maker: the exit published may be an earlier child's */
};

/* One watched child. Fields without a remark are the reaper's. */
struct child_watch {
    struct block block;
    struct child_watch *next; /* in `incoming`, later in its bucket */
    _Atomic int32_t pid;      /* 0: not set yet; written by the maker; foreign: negative */
    _Atomic int32_t pidfd;    /* < 0: none, or lost; the maker's until commit */
    uint32_t cookie;          /* lower half of its epoll key; constant */
    _Atomic uint32_t state;   /* enum watch_state */
    uint8_t kind;             /* WATCH_…; constant */
    bool polled;              /* its pidfd lies in the epoll set; the maker's until commit */
    bool named;               /* epoll has named it, which it does once, and it is not collected */
    bool traced;              /* it has exited, but its tracer has not seen that yet */
    bool publishing;          /* the exit of its process is being published */
    bool present;             /* its process had the pid right before the peek */
    bool ending;              /* foreign: it has ended, and its parent has not reaped it */
};

_Static_assert(sizeof(struct child_watch) <= SMALL_BYTES, "a watch fits its memory class");

struct watch_set {
    struct exitbus *bus;      /* constant */
    int epoll_fd;             /* the three are opened and closed with reaper.c's lock */
    int wake_fd;              /* eventfd: makes the reaper look around */
    int timer_fd;             /* the time of the next attempt at what was put off */
    _Atomic int32_t ended_fd; /* eventfd, once there is a direct wait: direct.c; -1: none */
    _Atomic(struct child_watch *) incoming; /* a stack of watches that no pass has listed yet */
    _Atomic uint32_t references;            /* of the bus or the reaper; of spawns in progress */
    _Atomic uint32_t cookies;               /* given out */
    _Atomic(struct exitbus_process *) withdrawn; /* a stack of foreign ones without a handle */
    /* Watches of spawn's and of handles, and spawns in progress; 0: no reaper needed. */
    _Atomic uint32_t kept;
    _Atomic uint32_t rescan;  /* which watches the next pass looks at, unnamed */
    _Atomic uint32_t aborted; /* watches aborted since the last sweep */
    _Atomic(struct exitbus_group *) incoming_groups; /* a stack: group.h */
    _Atomic uint32_t group_news;                     /* a group was ended, or let go */
    _Atomic(struct exitbus_exec *) exec_news; /* a stack of what the reaper is to look at: task.h */
    _Atomic uint32_t reservations; /* execs that may yet be bound: exits are remembered */
    _Atomic bool no_timer; /* it can't be armed: the thread waits with a timeout; by the pass */
    /* The rest belongs to the thread that makes the pass, or that has halted the reaper. */
    bool repoll;         /* the epoll descriptor is new: no watch lies in it yet */
    bool put_off;        /* there will be a retry */
    int refused;         /* waits in a row that the kernel has refused */
    int64_t retry_ns;    /* the interval before the latest retry; 0: nothing was put off */
    int64_t retry_at_ns; /* when it is due */
    int64_t armed_ns;    /* when the timer expires; 0: it is not armed */
    struct exitbus_group *groups;
    uint32_t groups_ending;     /* of them */
    struct exitbus_exec *execs; /* that are not settled */
    struct exitbus_exec *timed_leaders;
    struct exitbus_process *remembered; /* exits, as handles that have ended, the latest first */
    size_t remembered_count, remembered_most; /* how many; when to look for old ones */
    struct child_watch *unborn; /* reserved, without a pid yet */
    struct child_watch *buckets[WATCH_BUCKETS];
};

/* Make a set, without descriptors and with one reference. Returns NULL if there is no memory. */
struct watch_set *watch_set_create(struct exitbus *bus);

/* Hold the set for a spawn, which needs a reaper over it. Context: with reaper.c's lock. */
static inline void watch_set_acquire(struct watch_set *set)
{
    fetch_add_relaxed(&set->references, 1);
    fetch_add_relaxed(&set->kept, 1);
}

/* Give up a reference. The last one drops what is left, closes the descriptors, frees the set. */
void watch_set_release(struct watch_set *set);

/* Does a watch, or a spawn in progress, need a reaper over this set? It may be NULL. */
static inline bool watch_set_needed(const struct watch_set *set)
{
    /* Acquire; pairs with reaper_set_release(): a spawn that is over has done with the set. */
    return set && load_acquire(&set->kept) > 0;
}

/*
 * Open its descriptors, or those of them that are not open. Returns 0, -EMFILE, -ENFILE, -ENOMEM.
 * Context: with reaper.c's lock.
 */
int watch_set_open(struct watch_set *set);

/* Close its descriptors. Context: with reaper.c's lock, and no pass can be made. */
void watch_set_close(struct watch_set *set);

/* Make the reaper look around. Returns 0, or -errno: the descriptor is not ours any more. */
int watch_set_wake(struct watch_set *set);

/* --------------------------------------------------------------- for makers, on any thread */

/*
 * Reserve a watch for the child `pid`; 0: child_watch_set_pid() will say it. `kind`: WATCH_SPAWNED
 * or 0. Returns NULL if there is no memory. Context: lock-free; enters and leaves a section.
 */
struct child_watch *child_watch_reserve(struct watch_set *set, pid_t pid, unsigned kind);

/* The same with a watch that lies in a handle, which holds a reference for it. It can't fail. */
void child_watch_enter(struct watch_set *set, struct child_watch *watch, pid_t pid, unsigned kind);

/* Returns whether a reaper is needed for it, and whether it passes on to the next reaper. */
static inline bool watch_is_kept(const struct child_watch *watch)
{
    return watch->kind & (WATCH_SPAWNED | WATCH_IN_HANDLE);
}

/*
 * Set the pid of a reserved watch, before that child can have exited. Context: one atomic store,
 * legal in a child that shares the caller's memory.
 */
static inline void child_watch_set_pid(struct child_watch *watch, pid_t pid)
{
    /* Release; pairs with watch_pid(). */
    store_release(&watch->pid, pid);
}

/*
 * Hand the child over, and its pidfd; negative: none could be had. The watch is the reaper's from
 * then on. Returns false if the watch was doubted meanwhile: the caller looks at the child once
 * more. A watch of spawn's never is: this looks at its child. Context: lock-free, and never fails.
 */
bool child_watch_commit(struct watch_set *set, struct child_watch *watch, int pidfd);

/* Take a reserved watch back: there is no such child. Context: lock-free, and never fails. */
void child_watch_abort(struct watch_set *set, struct child_watch *watch);

/* ------------------------------------------------------- for the reaper, one thread at a time */

static inline pid_t watch_pid(const struct child_watch *watch)
{
    /* Acquire; pairs with child_watch_set_pid(). */
    return load_acquire(&watch->pid);
}

/* Returns its name in epoll. */
static inline uint64_t watch_key(const struct child_watch *watch)
{
    return (uint64_t)(uint32_t)watch_pid(watch) << 32 | watch->cookie;
}

static inline enum watch_state watch_state(const struct child_watch *watch)
{
    /* Acquire; pairs with end_reservation() and end_unlinked(). */
    return (enum watch_state)load_acquire(&watch->state);
}

static inline int watch_pidfd(const struct child_watch *watch)
{
    /* Acquire; pairs with child_watch_commit(). */
    return load_acquire(&watch->pidfd);
}

static inline struct child_watch **watch_bucket(struct watch_set *set, pid_t pid)
{
    return &set->buckets[(size_t)pid % WATCH_BUCKETS];
}

/* List what was handed in since the last call. */
void watch_absorb(struct watch_set *set);

/* Returns the watch that an epoll key names; NULL: it is gone. Context: after watch_absorb(). */
struct child_watch *watch_of_key(struct watch_set *set, uint64_t key);

/* Returns a watch of that pid, or NULL. Context: after watch_absorb(). */
struct child_watch *watch_find(struct watch_set *set, pid_t pid);

/* Drop aborted watches, if there are many. */
void watch_sweep(struct watch_set *set);

/*
 * Take a watch out of the set, and settle its handle. `event`: what was published; NULL: nothing
 * was, and nothing will be. `named`: epoll has just named it, so its entry is spent.
 */
void child_watch_end(struct watch_set *set, struct child_watch *watch, bool named,
                     const struct exitbus_event *event);

/*
 * Leave a reserved watch to its maker, which then looks at the child again. `event` is its exit, if
 * the child is gone. Returns false if the maker has handed it over meanwhile: it stays.
 */
bool child_watch_doubt(struct watch_set *set, struct child_watch *watch,
                       const struct exitbus_event *event);

/* End the watches of foreign processes whose handles are gone. Context: no watch is in use. */
void watch_end_withdrawn(struct watch_set *set);

/* Take its pidfd out of the epoll set. */
void child_watch_unpoll(struct watch_set *set, struct child_watch *watch);

/* Put its pidfd, opened if it was lost, into the epoll set. Returns false if that can't be done. */
bool child_watch_poll(struct watch_set *set, struct child_watch *watch);

/* Arm the timer for another attempt, at growing intervals. */
void watch_retry_later(struct watch_set *set);

/* Let the timer expire at that time, or earlier. Returns false if it can't be armed. */
bool watch_expire_at(struct watch_set *set, int64_t at_ns);

/* The timer has expired. Returns whether the retry is due. */
bool watch_expired(struct watch_set *set);

/* Drop all watches, or those that are not kept. Context: no pass can be made. */
void watch_drop(struct watch_set *set, bool also_kept);

#endif
