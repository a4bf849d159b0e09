/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Which reapers run, and over which set of children.
 *
 * How it works
 *   - The children that exitbus_spawn() makes on a bus lie in one set, bus->children. It outlives
 *     reapers. The ALL reaper looks after it, or the first WATCHED one that the user has started.
 *     Without either, the implicit reaper does, which starts with the first spawn.
 *   - Further WATCHED reapers have a set of their own.
 *   - A new reaper is made first, its gate closed. Then the old one is halted, then the gate opens.
 *
 * Why it is right
 *  1. At most one reaper makes passes over a set: the gate of a new one opens only after
 *     reaper_halt() of the one before.
 *  2. While spawn has children in a set, or is about to have one, a reaper runs over it. A reaper
 *     that stops hands over to the implicit reaper. If that can't start, the stop fails.
 *  3. `reaper_lock` guards which reapers run. No pass takes it, and no spawn holds it while its
 *     child is made. So a thread that holds it waits for the end of a pass at most.
 *  4. The bus's set is freed by the last that refers to it: reaper_bus_close(), or a spawn that was
 *     in progress then. Each spawn also holds the bus, whose memory the set lies in.
 *
 * It relies on reaper_run.c for a single reaper, and on watch.c for the set.
 */
#include "process/reaper.h"
#include "process/direct.h"
#include "process/reaper_run.h"
#include "process/sigchld.h"

#include <errno.h>
#include <sys/wait.h>

/* Attempts to watch a pid whose processes change meanwhile. */
#define WATCH_TRIES 8

static pthread_mutex_t reaper_lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by it: */
static struct exitbus_reaper *reaper_of_all;    /* the ALL reaper of the process, or NULL */
static struct exitbus_reaper *implicit_reapers; /* those of all buses, a list */
static unsigned watched_reapers;                /* WATCHED ones that users have started */

/* Processes that a waiting thread collects: direct.c. Counted up with the lock. */
static _Atomic unsigned direct_processes;

void reaper_forget_parent(void)
{
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    reaper_lock = unlocked; /* a thread that is not here may have held it */
    reaper_of_all = NULL;
    implicit_reapers = NULL;
    watched_reapers = 0;
    store_relaxed(&direct_processes, 0);
    sigchld_forget_parent();
}

/* Close a reaper's gate: wait for the end of a pass, and note if its descriptors are lost. */
static void close_gate(struct exitbus_reaper *reaper)
{
    pthread_mutex_lock(&reaper->gate);
    int error = reaper_usable(reaper);
    if (error < 0)
        reaper_note_error(reaper, error);
}

/* Free a reaper that was halted, unless its thread still has it. Returns its error, or 0. */
static int dispose(struct exitbus_reaper *reaper, bool ended)
{
    int result = load_relaxed(&reaper->error);
    if (ended)
        reaper_destroy(reaper);
    else if (reaper->own_set) /* which the thread does not look at any more */
        watch_set_release(reaper->loop.set);
    return result;
}

/* ------------------------------------------------------------------------- the implicit reaper */

static int implicit_start(struct exitbus *bus, struct exitbus_reaper **fresh)
{
    static const struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    int result = reaper_create(bus, &watched, false, fresh);
    if (result < 0)
        return result;
    (*fresh)->next_implicit = implicit_reapers;
    implicit_reapers = *fresh;
    bus->implicit_reaper = *fresh;
    return 0;
}

/* Halt the implicit reaper, and leave what lies in the set. Returns its error, or 0. */
static int implicit_stop(struct exitbus *bus)
{
    struct exitbus_reaper *reaper = bus->implicit_reaper;
    if (!reaper)
        return 0;
    struct exitbus_reaper **link = &implicit_reapers;
    while (*link != reaper)
        link = &(*link)->next_implicit;
    *link = reaper->next_implicit;
    bus->implicit_reaper = NULL;
    if (bus->set_runner == reaper)
        bus->set_runner = NULL;
    close_gate(reaper);
    return dispose(reaper, reaper_halt(reaper));
}

/* May the implicit reapers of other buses give way to an ALL reaper on `bus`? */
static bool others_are_idle(const struct exitbus *bus)
{
    for (struct exitbus_reaper *other = implicit_reapers; other; other = other->next_implicit) {
        if (other->bus == bus || !watch_set_needed(other->loop.set))
            continue;
        /* Wait for the end of a pass: its last event may be received before its watch has ended. */
        pthread_mutex_lock(&other->gate);
        bool needed = watch_set_needed(other->loop.set);
        pthread_mutex_unlock(&other->gate);
        if (needed)
            return false;
    }
    return true;
}

static void stop_others(const struct exitbus *bus)
{
    struct exitbus_reaper *next;
    for (struct exitbus_reaper *other = implicit_reapers; other; other = next) {
        next = other->next_implicit;
        if (other->bus == bus)
            continue;
        struct watch_set *set = other->loop.set;
        implicit_stop(other->bus);
        watch_set_close(set);
    }
}

/* -------------------------------------------------------------------------------- start, stop */

/*
 * Take a reference to the bus before the wait for the lock, in which the bus may be destroyed.
 * Returns 0 or -ESHUTDOWN. The section is seen by destroy, which waits for a grace period behind
 * its store of `closed` before it gives its own reference up.
 */
static int bus_hold(struct exitbus *bus)
{
    int result = -ESHUTDOWN;
    reclaim_enter();
    if (!bus_closed(bus)) {
        fetch_add_relaxed(&bus->core.references, 1);
        result = 0;
    }
    reclaim_leave();
    return result;
}

static int may_start(struct exitbus *bus, const struct exitbus_reaper_options *options)
{
    bool all = options->mode == EXITBUS_REAPER_ALL;
    bool beside_none = all || (options->flags & EXITBUS_REAPER_RECORD);
    if (bus_closed(bus))
        return -ESHUTDOWN;
    if (reaper_of_all)
        return -EBUSY;
    /* Acquire; pairs with reaper_direct_release(): those were collected, or are in a set. */
    if (beside_none && load_acquire(&direct_processes) > 0)
        return -EBUSY;
    if (all)
        return watched_reapers > 0 || !others_are_idle(bus) ? -EBUSY : 0;
    return sigchld_check();
}

static int start_locked(struct exitbus *bus, const struct exitbus_reaper_options *options,
                        struct exitbus_reaper **reaper)
{
    int result = may_start(bus, options);
    if (result < 0)
        return result;
    /* Only the implicit reaper gives way. A second reaper of the user's has a set of its own. */
    bool own_set = bus->set_runner && bus->set_runner != bus->implicit_reaper;
    struct exitbus_reaper *fresh;
    result = reaper_create(bus, options, own_set, &fresh);
    if (result < 0)
        return result;
    if (!own_set)
        implicit_stop(bus);
    if (options->mode == EXITBUS_REAPER_ALL) {
        stop_others(bus);
        reaper_of_all = fresh;
    } else {
        watched_reapers++;
    }
    bus->explicit_reapers++;
    reaper_open_gate(fresh);
    *reaper = fresh;
    return 0;
}

int reaper_start(struct exitbus *bus, const struct exitbus_reaper_options *options,
                 struct exitbus_reaper **reaper)
{
    int result = bus_hold(bus);
    if (result < 0)
        return result;
    pthread_mutex_lock(&reaper_lock);
    result = start_locked(bus, options, reaper);
    pthread_mutex_unlock(&reaper_lock);
    core_release(&bus->core);
    return result;
}

/* Leave the bus's set to the heir, if there is one, and drop watches that are the user's. */
static void hand_over(struct exitbus *bus, struct exitbus_reaper *heir)
{
    watch_drop(bus->children, false);
    bus->set_runner = NULL;
    if (heir)
        reaper_open_gate(heir);
    else
        watch_set_close(bus->children);
}

static int stop_locked(struct exitbus_reaper *reaper)
{
    struct exitbus *bus = reaper->bus;
    struct exitbus_reaper *heir = NULL;
    close_gate(reaper); /* a pass in progress may have ended the last watch */
    if (!reaper->own_set && watch_set_needed(bus->children)) {
        int result = implicit_start(bus, &heir);
        if (result < 0) {
            pthread_mutex_unlock(&reaper->gate);
            return result;
        }
    }
    bool ended = reaper_halt(reaper);
    if (reaper->mode == EXITBUS_REAPER_ALL)
        reaper_of_all = NULL;
    else
        watched_reapers--;
    bus->explicit_reapers--;
    if (!reaper->own_set)
        hand_over(bus, heir);
    return dispose(reaper, ended);
}

int reaper_stop(struct exitbus_reaper *reaper)
{
    pthread_mutex_lock(&reaper_lock);
    int result = stop_locked(reaper);
    pthread_mutex_unlock(&reaper_lock);
    return result;
}

int reaper_bus_close(struct exitbus *bus, int *lost)
{
    pthread_mutex_lock(&reaper_lock);
    int result = bus_closed(bus) ? -ESHUTDOWN : bus->explicit_reapers > 0 ? -EBUSY : 0;
    if (result == 0) {
        store_seq_cst(&bus->core.closed, true);
        if (bus->children)
            direct_wake(bus->children);
        *lost = implicit_stop(bus);
        if (bus->children) {
            watch_drop(bus->children, true);
            watch_set_release(bus->children);
            bus->children = NULL;
        }
    }
    pthread_mutex_unlock(&reaper_lock);
    return result;
}

/* ---------------------------------------------------------------------------------- for spawn */

/* Make sure that a reaper runs over the bus's set, and that it can collect. */
static int require_runner(struct exitbus *bus)
{
    struct exitbus_reaper *runner = bus->set_runner;
    int usable = runner ? reaper_usable(runner) : 0;
    if (usable < 0) {
        /* The host has closed what is not its own. Only the implicit reaper begins anew. */
        if (runner != bus->implicit_reaper)
            return usable;
        implicit_stop(bus);
    }
    if (bus->set_runner)
        return 0;
    struct exitbus_reaper *fresh;
    int result = implicit_start(bus, &fresh);
    if (result == 0)
        reaper_open_gate(fresh);
    return result;
}

static int acquire_locked(struct exitbus *bus, struct watch_set **set)
{
    if (bus_closed(bus))
        return -ESHUTDOWN;
    if (reaper_of_all && reaper_of_all->bus != bus)
        return -EXDEV;
    int result = reaper_of_all ? 0 : sigchld_check();
    if (result == 0)
        result = require_runner(bus);
    if (result < 0)
        return result;
    *set = bus->children;
    watch_set_acquire(*set);
    return 0;
}

int reaper_set_acquire(struct exitbus *bus, struct watch_set **set)
{
    int result = bus_hold(bus);
    if (result < 0)
        return result;
    pthread_mutex_lock(&reaper_lock);
    result = acquire_locked(bus, set);
    pthread_mutex_unlock(&reaper_lock);
    if (result < 0)
        core_release(&bus->core);
    return result;
}

void reaper_drop_if_closed(struct exitbus *bus, struct watch_set *set)
{
    /* A watch that was entered behind the drop in reaper_bus_close(). Sequentially consistent;
     * pairs with the store there: it is seen here, or the watch was seen there. */
    if (likely(!load_seq_cst(&bus->core.closed)))
        return;
    pthread_mutex_lock(&reaper_lock);
    watch_drop(set, true);
    pthread_mutex_unlock(&reaper_lock);
}

bool reaper_direct_acquire(struct exitbus *bus)
{
    pthread_mutex_lock(&reaper_lock);
    bool records = bus->set_runner && (bus->set_runner->flags & EXITBUS_REAPER_RECORD);
    bool direct = !reaper_of_all && !records;
    if (direct)
        fetch_add_relaxed(&direct_processes, 1);
    pthread_mutex_unlock(&reaper_lock);
    return direct;
}

void reaper_direct_release(void)
{
    /* Release; pairs with may_start(). */
    fetch_sub_release(&direct_processes, 1);
}

void reaper_set_release(struct exitbus *bus, struct watch_set *set)
{
    reaper_drop_if_closed(bus, set);
    /* Release; pairs with watch_set_needed(): this thread has done with the set's descriptors. */
    fetch_sub_release(&set->kept, 1);
    watch_set_release(set);
    core_release(&bus->core);
}

int reaper_between_passes(struct exitbus *bus, int (*ask)(void *), void *argument)
{
    pthread_mutex_lock(&reaper_lock);
    struct exitbus_reaper *runner = bus->set_runner;
    if (runner)
        pthread_mutex_lock(&runner->gate);
    int result = ask(argument);
    if (runner)
        pthread_mutex_unlock(&runner->gate);
    pthread_mutex_unlock(&reaper_lock);
    return result;
}

/* --------------------------------------------------------------------------- watch, fd, poll */

struct exitbus *reaper_bus(const struct exitbus_reaper *reaper)
{
    return reaper->bus;
}

/*
 * Try to watch a child. The watch is reserved before the look at the child: see watch.c, 1.
 * Returns 0; 1 if another watch has collected the child meanwhile; or -errno.
 */
static int watch_once(struct watch_set *set, pid_t pid)
{
    struct child_watch *watch = child_watch_reserve(set, pid, 0);
    if (!watch)
        return -ENOMEM;
    /* Check that it is a child of ours. A zombie stays a zombie. */
    int result = sys_find_child(pid, -1);
    int pidfd = result < 0 ? result : sys_pidfd_open(pid);
    if (pidfd < 0) {
        child_watch_abort(set, watch);
        return pidfd == -ESRCH ? -ECHILD : pidfd;
    }
    return child_watch_commit(set, watch, pidfd) ? 0 : 1;
}

int reaper_watch(struct exitbus_reaper *reaper, pid_t pid)
{
    if (reaper->mode != EXITBUS_REAPER_WATCHED)
        return -ENOTSUP;
    int result = reaper_usable(reaper);
    if (result < 0)
        return result;
    result = 1;
    for (int tries = 0; tries < WATCH_TRIES && result == 1; tries++) {
        result = watch_once(reaper->loop.set, pid);
        if (result == -ECHILD && tries > 0)
            result = 0; /* the child was there before, so its exit is out */
    }
    return result == 1 ? -EAGAIN : result;
}

/* An exit that the old file has, and that is not told yet, is written to the new one as well. */
int reaper_record(struct exitbus_reaper *reaper, int record_fd)
{
    struct journal fresh;
    if (!(reaper->flags & EXITBUS_REAPER_RECORD))
        return -ENOTSUP;
    int result = reaper_usable(reaper);
    if (result == 0)
        result = journal_open(&fresh, record_fd);
    if (result < 0)
        return result;
    pthread_mutex_lock(&reaper->gate);
    struct journal old = reaper->journal;
    reaper->journal = fresh;
    pthread_mutex_unlock(&reaper->gate);
    journal_close(&old);
    return 0;
}

int reaper_fd(const struct exitbus_reaper *reaper)
{
    return reaper->flags & EXITBUS_REAPER_POLLED ? reaper->view_fd : -ENOTSUP;
}

int reaper_poll(struct exitbus_reaper *reaper)
{
    if (!(reaper->flags & EXITBUS_REAPER_POLLED))
        return -ENOTSUP;
    /* Acquire; pairs with the release below, of the thread that polled before. */
    if (exchange_acquire(&reaper->polling, 1))
        return -EBUSY;
    int result = reaper_pass(reaper);
    /* Release; pairs with the acquire above. */
    store_release(&reaper->polling, 0);
    return result;
}
