/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Process handles: one process, its identity and its end.
 *
 * How it works
 *   - A handle contains the watch by which a reaper collects its process. When the reaper has
 *     published the exit, it copies the event into the handle: the handle is told by that watch,
 *     and not by a pid. So it is never told of another process.
 *   - The exit is the handle's outcome (outcome.h), which stays: any thread may ask for it any
 *     number of times.
 *   - The handle owns the pidfd. Its number stays taken until the last reference is given up, so a
 *     signal never goes to another process.
 *   - A direct handle (EXITBUS_SPAWN_DIRECT) has no watch in a set. The thread that waits for it
 *     collects its exit: see direct.c. It is handed to the reaper when that can't be done.
 *   - A foreign process (no child of ours) has a watch that no child's exit can meet. Its end is
 *     told to the handle alone: an event on the bus would carry a pid that is not ours to tell, and
 *     that a child of ours may have by then.
 *
 * Why it is right: see process.c.
 */
#ifndef EXITBUS_PROCESS_H
#define EXITBUS_PROCESS_H

#include "process/outcome.h"
#include "process/watch.h"

struct exitbus_process {
    struct child_watch watch; /* first, since it begins with the block */
    struct exitbus *bus;      /* constant; NULL in a forked child, which the memory is wiped in */
    struct watch_set *set;    /* held, for a foreign or direct process; else NULL; constant */
    struct exitbus_process *next_withdrawn; /* by the thread that gives up the last handle; or of
                                               those that are remembered, by the reaper */
    int64_t give_up_ns;                     /* foreign, ending; by the reaper */
    uint64_t inode;                         /* of a remembered one's pidfd; 0: not known */
    _Atomic uint64_t start_ns;              /* 0: not known yet; by any thread */
    _Atomic uint32_t references;            /* one of all handles, one of the watch, of calls */
    _Atomic uint32_t handles;               /* the user's references */
    _Atomic(struct exitbus_exec *) exec;    /* the exec that it is bound to: task.h */
    struct outcome outcome;                 /* its exit */
};

_Static_assert(sizeof(struct exitbus_process) <= PROCESS_BYTES, "a handle fits its memory class");

static inline struct exitbus_process *process_of(struct child_watch *watch)
{
    return container_of(watch, struct exitbus_process, watch);
}

/* ------------------------------------------------------------------------------ for the calls */

/*
 * Make a handle, with a reference of its watch, which the caller enters into a set. `set` is not
 * NULL for a foreign or direct process. Returns NULL if there is no memory. Context: lock-free.
 */
struct exitbus_process *process_create(struct exitbus *bus, struct watch_set *set);

/*
 * Make a handle of a child of this process, or of a pidfd's process. Return 0, or an error of
 * exitbus_process_adopt() or exitbus_process_adopt_pidfd(). Context: as reaper_set_acquire().
 */
int process_adopt(struct exitbus *bus, pid_t pid, struct exitbus_process **process);
int process_adopt_pidfd(struct exitbus *bus, int pidfd, struct exitbus_process **process);

/* Give up a reference. Context: any thread; lock-free. */
void process_release(struct exitbus_process *process);

/* Give up a handle. Context: as process_release(). */
void process_unref(struct exitbus_process *process);

/* The public calls of these names, with checked arguments. */
int process_wait(struct exitbus_process *process, struct exitbus_event *event, int64_t timeout_ns);
int process_fd(struct exitbus_process *process);
int process_signal(struct exitbus_process *process, int signal, bool group);
int process_pidfd(struct exitbus_process *process);
int process_start_time(struct exitbus_process *process, uint64_t *boottime_ns);
pid_t process_pid(const struct exitbus_process *process);

/* ----------------------------------------------------------------------------- for the reaper */

/* Returns whether it runs, or its exit is not published. */
static inline bool process_is_running(const struct exitbus_process *process)
{
    return outcome_is_open(&process->outcome);
}

/* process_signal() for a thread that makes a pass, which the other waits for. */
int process_signal_in_pass(struct exitbus_process *process, int signal, bool group);

/* Settle the handle with the event, or as left for NULL. Context: with the watch; once. */
void process_end(struct exitbus_process *process, const struct exitbus_event *event);

#endif
