/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Direct handles: see direct.h.
 *
 * How it works
 *   - `owner` says which thread may collect: the one that has changed it from NOBODY. A waiter
 *     sleeps at the pidfd. When the process has ended it publishes, reaps, and settles the handle,
 *     as a pass of the reaper does.
 *   - A waiter that gives up (a time-out, a call that the kernel refuses, no memory to publish)
 *     makes it NOBODY again, or leaves the exit to the reaper: it enters the handle's watch.
 *   - No ALL reaper runs beside a direct handle, since waitid(P_ALL) would name the child to it.
 *
 * Why it is right
 *  1. One thread collects: only the owner does, and a watch is entered only by the thread that has
 *     changed `owner` from NOBODY to REAPER.
 *  2. Some thread collects. A thread that needs the exit, but does not own it, first makes that
 *     known (`waiters`, or `fd`), and then looks at `owner`. A waiter that gives up first stores
 *     NOBODY, and then looks for the two. All four are sequentially consistent. So one of the two
 *     threads finds NOBODY, and the other's need: it becomes the owner, or hands over.
 *  3. A bus that is destroyed wakes the waiters by an eventfd of its set. The thread that destroys
 *     marks the bus as closed, and then looks for the eventfd. A waiter makes it, and then looks at
 *     the mark.
 *  4. While the owner is stopped no other thread learns of that exit. That is what is asked for
 *     with EXITBUS_SPAWN_DIRECT, and of that process only.
 */
#include "process/direct.h"
#include "process/collect.h"
#include "process/group.h"
#include "process/reaper.h"

#include <errno.h>

/* Waits in a row that the kernel has ended for nothing; so many are no accident. */
#define REFUSALS 1000

/* ------------------------------------------------------------------------------- begin and end */

bool direct_reserve(struct exitbus_process *process)
{
    if (!reaper_direct_acquire(process->bus))
        return false;
    fetch_add_relaxed(&process->set->kept, 1);
    atomic_init(&process->watch.pid, 0);
    return true;
}

/*
 * The handle is no direct one any more. Gives up the reference of its watch. A child that the
 * kernel refuses to reap stays a direct one: a reaper of all children would publish it again.
 */
static void finish(struct exitbus_process *process, bool reaped)
{
    struct watch_set *set = process->set;
    if (reaped)
        reaper_direct_release();
    /* Release; pairs with watch_set_needed(). The set is held by the handle. */
    fetch_sub_release(&set->kept, 1);
    process_release(process);
}

void direct_abort(struct exitbus_process *process)
{
    finish(process, true);
}

/* Enter the watch. Context: by the thread that has made the reaper the owner. */
static void enter_watch(struct exitbus_process *process)
{
    struct watch_set *set = process->set;
    pid_t pid = watch_pid(&process->watch);
    int pidfd = watch_pidfd(&process->watch);
    fetch_add_relaxed(&process->references, 1); /* finish() gives one up */
    /* One that is known by its pid alone is looked at again if it is doubted. */
    child_watch_enter(set, &process->watch, pid, WATCH_IN_HANDLE | (pidfd < 0 ? WATCH_SPAWNED : 0));
    child_watch_commit(set, &process->watch, pidfd);
    reaper_drop_if_closed(process->bus, set);
    finish(process, true);
}

void direct_commit(struct exitbus_process *process, int pidfd)
{
    /* Relaxed: no other thread has the handle yet. */
    store_relaxed(&process->watch.pidfd, pidfd);
    if (pidfd < 0) /* nothing to wait at */
        enter_watch(process);
    else
        store_relaxed(&process->outcome.owner, OWNER_NOBODY);
}

/* ------------------------------------------------------------------------------------ the owner */

static bool claim(struct exitbus_process *process, enum outcome_owner owner)
{
    uint32_t nobody = OWNER_NOBODY;
    /* Acquire; pairs with give_up(). Sequentially consistent, also where it fails: point 2. */
    return cas_seq_cst_else_seq_cst(&process->outcome.owner, &nobody, owner);
}

void direct_hand_over(struct exitbus_process *process)
{
    if (claim(process, OWNER_REAPER))
        enter_watch(process);
}

/* Wait no more. Context: the owner. */
static void give_up(struct exitbus_process *process)
{
    /* Release; pairs with claim(). Sequentially consistent, as are the loads: point 2. */
    store_seq_cst(&process->outcome.owner, OWNER_NOBODY);
    if (load_seq_cst(&process->outcome.waiters) > 0 || load_seq_cst(&process->outcome.fd) >= 0)
        direct_hand_over(process);
}

int direct_between_waits(struct exitbus_process *process, int (*ask)(void *), void *argument)
{
    if (claim(process, OWNER_WAITER)) {
        int result = ask(argument);
        give_up(process);
        return result;
    }
    if (!process_is_running(process))
        return -ESRCH;
    return process_is_direct(process) ? -EAGAIN
                                      : reaper_between_passes(process->bus, ask, argument);
}

/* ----------------------------------------------------------------------------------------- wait */

void direct_wake(struct watch_set *set)
{
    int fd = load_seq_cst(&set->ended_fd);
    if (fd >= 0)
        sys_eventfd_add_again(fd);
}

static bool is_closed(const struct exitbus_process *process)
{
    return load_seq_cst(&process->bus->core.closed);
}

/* Collect, if it has ended. Returns 0, -ESHUTDOWN, -EAGAIN: it runs; or DIRECT_NOT. */
static int collect(struct exitbus_process *process, struct exitbus_event *event)
{
    int result = -ESHUTDOWN;
    bool reaped = true;
    if (!is_closed(process)) {
        result = collect_direct(process->set, process_pid(process), watch_pidfd(&process->watch),
                                event, &reaped);
        if (result > 0)
            return -EAGAIN;
        if (result < 0 && result != -ESHUTDOWN)
            return DIRECT_NOT; /* the reaper tries again */
    }
    process_end(process, result == 0 ? event : NULL);
    if (load_seq_cst(&process->outcome.waiters) > 0) /* groups among them */
        groups_tell(process->set);
    finish(process, reaped);
    return result;
}

enum woken { WOKEN, WOKEN_FOR_NOTHING, WOKEN_IN_TIME, WOKEN_TOO_OFTEN };

/* Sleep until the process has ended, the bus was destroyed, or the time is up. */
static enum woken sleep_at(int pidfd, int ended, int64_t until_ns, unsigned *for_nothing)
{
    int64_t left_ns = -1;
    if (until_ns != INT64_MAX) {
        left_ns = until_ns - sys_clock_ns(CLOCK_MONOTONIC);
        if (left_ns <= 0)
            return WOKEN_IN_TIME;
    }
    if (sys_wait_readable(pidfd, ended, left_ns) > 0)
        return WOKEN;
    /* By a signal; or a little early. */
    return ++*for_nothing < REFUSALS ? WOKEN_FOR_NOTHING : WOKEN_TOO_OFTEN;
}

/* Wait as the owner. Returns what collect() does, or -ETIMEDOUT in place of -EAGAIN. */
static int wait_owning(struct exitbus_process *process, struct exitbus_event *event,
                       int64_t until_ns)
{
    int ended = outcome_eventfd(&process->set->ended_fd); /* point 3 */
    if (ended < 0)
        return DIRECT_NOT;
    enum woken woken = WOKEN_FOR_NOTHING;
    unsigned for_nothing = 0;
    while (woken == WOKEN_FOR_NOTHING && !is_closed(process))
        woken = sleep_at(watch_pidfd(&process->watch), ended, until_ns, &for_nothing);
    if (woken == WOKEN_TOO_OFTEN)
        return DIRECT_NOT;
    int result = collect(process, event);
    if (result != -EAGAIN)
        return result;
    /* One that is readable, and has no exit to collect, is traced: the reaper looks by a timer. */
    return woken == WOKEN_IN_TIME ? -ETIMEDOUT : DIRECT_NOT;
}

int direct_wait(struct exitbus_process *process, struct exitbus_event *event, int64_t until_ns)
{
    if (!claim(process, OWNER_WAITER))
        return DIRECT_NOT;
    int result = until_ns == 0 ? collect(process, event) : wait_owning(process, event, until_ns);
    if (result == 0 || result == -ESHUTDOWN)
        return result; /* settled */
    give_up(process);
    if (result == DIRECT_NOT)
        direct_hand_over(process);
    return result;
}
