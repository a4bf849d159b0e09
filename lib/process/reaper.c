/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reapers: which of them run, and the public calls. What one pass does stands in reaper_loop.c.
 *
 * The children that exitbus_spawn() makes on a bus lie in one set (bus->children), which outlives
 * reapers: whichever reaper of the bus runs looks after it. That is the ALL reaper, or the first
 * WATCHED one that the user has started, or else the bus's own, the implicit reaper, which starts
 * with the first spawn. Further WATCHED reapers have a set of their own.
 *  1. At most one reaper makes passes over a set: the next one waits at its own gate, closed since
 *     before its thread began, until the one before has left its last pass.
 *  2. While spawn has children in a set, or is about to have one, a reaper runs over it. One that
 * is stopped hands over to the implicit reaper; if that can't start the stop fails.
 *  3. `reaper_lock` guards which reapers run. No pass takes it. No spawn holds it while its child
 *     comes into being. A thread that holds it waits for the end of a pass at most.
 *
 * A reaper's thread sleeps in epoll_wait. If the host has closed that descriptor the thread may
 * never wake. So nothing waits for the thread's end but for a bounded time, and the struct that it
 * looks at when it wakes all the same is then left to it.
 */
#include "process/reaper.h"
#include "base/cancel.h"
#include "base/thread.h"
#include "process/reaper_loop.h"
#include "process/sigchld.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* How long a thread that may be out of reach is waited for: 2 s. */
#define LEAVING_SLICES 20
#define LEAVING_SLICE_NS 100000000LL
#define WATCH_TRIES 8

struct exitbus_reaper {
    struct exitbus *bus;
    enum exitbus_reaper_mode mode;
    uint32_t flags;
    struct reaper_loop loop;
    bool own_set; /* not the bus's */
    int view_fd;  /* POLLED: an epoll descriptor for the host, in which the set's lies */
    int old_subreaper;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t gate;     /* held while exits are collected */
    _Atomic bool stopping;    /* written inside the gate */
    _Atomic uint32_t ended;   /* a futex: the thread makes no more passes */
    _Atomic uint32_t polling; /* a pass is being made by exitbus_reaper_poll() */
    _Atomic int error;        /* nothing more can be collected, and why */
    struct exitbus_reaper *next_implicit;
};

static pthread_mutex_t reaper_lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by it: */
static struct exitbus_reaper *reaper_of_all;    /* the ALL reaper of the process */
static struct exitbus_reaper *implicit_reapers; /* of all buses */
static unsigned watched_reapers;                /* WATCHED ones that users have started */

void reapers_forget_parent(void)
{
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    reaper_lock = unlocked; /* a thread that is not here may have held it */
    reaper_of_all = NULL;
    implicit_reapers = NULL;
    watched_reapers = 0;
    sigchld_forget_parent();
}

/* ------------------------------------------------------------------------------- its thread */

static void note_error(struct exitbus_reaper *reaper, int error)
{
    store_relaxed(&reaper->error, error);
}

static int error_of(struct exitbus_reaper *reaper)
{
    return load_relaxed(&reaper->error);
}

/* Before anything of the set is opened anew: has the host closed what is not its own? */
static void note_lost(struct exitbus_reaper *reaper)
{
    if (error_of(reaper) == 0 && !sys_fd_open(reaper->loop.set->epoll_fd))
        note_error(reaper, -EBADF);
}

static bool is_stopping(struct exitbus_reaper *reaper)
{
    /* Acquire; pairs with the store in leave_set(). */
    return load_acquire(&reaper->stopping);
}

/* False: the thread is to end. */
static bool thread_pass(struct exitbus_reaper *reaper, struct reaper_events *events, int waited)
{
    pthread_mutex_lock(&reaper->gate);
    bool on = !is_stopping(reaper);
    if (on) {
        int result = reaper_loop_refused(&reaper->loop, waited);
        if (result == 0)
            result = reaper_loop_pass(&reaper->loop, events);
        if (result < 0) {
            note_error(reaper, result);
            on = false;
        }
    }
    pthread_mutex_unlock(&reaper->gate);
    return on;
}

static void *reaper_main(void *argument)
{
    struct exitbus_reaper *reaper = argument;
    struct reaper_events events;
    thread_begin("exitbus-reaper");
    int waited;
    do
        waited = is_stopping(reaper) ? 0 : reaper_loop_wait(&reaper->loop, &events);
    while (thread_pass(reaper, &events, waited));
    /* Release; pairs with the load in thread_ended(). */
    store_release(&reaper->ended, 1);
    sys_futex_wake_all((uint32_t *)&reaper->ended);
    return NULL;
}

/*
 * In slices, since a process that was stopped for a while (SIGSTOP, a freezer) finds its deadline
 * gone by. The thread is given up only if it can't be reached.
 */
static bool thread_ended(struct exitbus_reaper *reaper, bool reached)
{
    for (int slice = 0; slice < LEAVING_SLICES || (reached && sys_fd_open(reaper->loop.wait_fd));
         slice++) {
        int64_t end_ns = sys_clock_ns(CLOCK_MONOTONIC) + LEAVING_SLICE_NS;
        struct timespec end = {.tv_sec = end_ns / 1000000000, .tv_nsec = end_ns % 1000000000};
        /* Acquire; pairs with the store in reaper_main(). */
        while (!load_acquire(&reaper->ended))
            if (sys_futex_wait((uint32_t *)&reaper->ended, 0, &end) == -ETIMEDOUT)
                break;
        if (load_acquire(&reaper->ended))
            return true;
    }
    return false;
}

/*
 * See to it that the reaper makes no more passes. Inside its gate, which is opened. False: its
 * thread sleeps at a descriptor that the host has closed, and keeps the struct.
 */
static bool leave_set(struct exitbus_reaper *reaper)
{
    /* Release; pairs with is_stopping(). */
    store_release(&reaper->stopping, true);
    pthread_mutex_unlock(&reaper->gate);
    if (!reaper->has_thread)
        return true;
    int result = watch_set_wake(reaper->loop.set);
    if (result < 0 && error_of(reaper) == 0)
        note_error(reaper, result);
    if (result < 0 && watch_set_open(reaper->loop.set) == 0) /* its epoll may still be there */
        result = watch_set_wake(reaper->loop.set);
    if (thread_ended(reaper, result == 0 && reaper->loop.wait_fd == reaper->loop.set->epoll_fd)) {
        pthread_join(reaper->thread, NULL);
        return true;
    }
    if (error_of(reaper) == 0)
        note_error(reaper, -EBADF);
    pthread_detach(reaper->thread);
    return false;
}

/* ------------------------------------------------------------------------------------ start */

/* Without it a signal that the whole host blocks is not seen, and nothing else is missing. */
static int start_pending(struct reaper_loop *loop)
{
    int fd = sys_signalfd(SIGCHLD);
    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
        return fd;
    loop->pending_fd = fd;
    return fd < 0 ? 0 : sys_epoll_add(loop->set->epoll_fd, fd, false, WATCH_KEY_PENDING);
}

static void close_fd(const struct reaper_loop *loop, int *fd)
{
    if (*fd >= 0 && sys_fd_open(*fd)) {
        sys_epoll_delete(loop->set->epoll_fd, *fd);
        sys_close(*fd);
    }
    *fd = -1;
}

static int start_signals(struct exitbus_reaper *reaper)
{
    struct reaper_loop *loop = &reaper->loop;
    loop->signal_fd = sys_eventfd(false);
    if (loop->signal_fd < 0)
        return loop->signal_fd;
    int result = sys_epoll_add(loop->set->epoll_fd, loop->signal_fd, false, WATCH_KEY_SIGNAL);
    if (result == 0) /* children that have exited before: the first pass looks for them unasked */
        result = sys_eventfd_add(loop->signal_fd);
    if (result == 0 && !loop->polled)
        result = start_pending(loop);
    if (result == 0)
        result = sigchld_install(loop->signal_fd);
    if (result < 0 || !(reaper->flags & EXITBUS_REAPER_SUBREAPER))
        return result;
    if (prctl(PR_GET_CHILD_SUBREAPER, &reaper->old_subreaper) == 0 &&
        prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
        return 0;
    result = -errno;
    reaper->old_subreaper = -1;
    sigchld_remove();
    return result;
}

/* Undo start_signals(). */
static void stop_signals(struct exitbus_reaper *reaper)
{
    struct reaper_loop *loop = &reaper->loop;
    if (reaper->old_subreaper >= 0)
        prctl(PR_SET_CHILD_SUBREAPER, reaper->old_subreaper);
    if (!sigchld_remove()) { /* a handler may still write there */
        sys_epoll_delete(loop->set->epoll_fd, loop->signal_fd);
        loop->signal_fd = -1;
    }
    close_fd(loop, &loop->signal_fd);
    close_fd(loop, &loop->pending_fd);
}

static int start_view(struct exitbus_reaper *reaper)
{
    reaper->view_fd = sys_epoll_create();
    if (reaper->view_fd < 0)
        return reaper->view_fd;
    return sys_epoll_add(reaper->view_fd, reaper->loop.set->epoll_fd, false, 0);
}

static void close_view(struct exitbus_reaper *reaper)
{
    if (sys_fd_open(reaper->view_fd))
        sys_close(reaper->view_fd);
}

/* With the gate closed: no pass is made before open_gate(). */
static int start_running(struct exitbus_reaper *reaper)
{
    int result = watch_set_open(reaper->loop.set);
    if (result < 0)
        return result;
    reaper->loop.wait_fd = reaper->loop.set->epoll_fd;
    if (reaper->flags & EXITBUS_REAPER_POLLED) {
        result = start_view(reaper);
        if (result < 0)
            return result;
    }
    if (reaper->mode == EXITBUS_REAPER_ALL) {
        result = start_signals(reaper);
        if (result < 0) {
            close_fd(&reaper->loop, &reaper->loop.signal_fd);
            close_fd(&reaper->loop, &reaper->loop.pending_fd);
            return result;
        }
    }
    if (!(reaper->flags & EXITBUS_REAPER_POLLED)) {
        result = thread_start(&reaper->thread, reaper_main, reaper);
        reaper->has_thread = result == 0;
        if (result < 0 && reaper->mode == EXITBUS_REAPER_ALL)
            stop_signals(reaper);
    }
    return result;
}

/* Does spawn need somebody to look after the bus's set? */
static bool set_needed(struct exitbus *bus)
{
    return bus->children && load_relaxed(&bus->children->spawned) > 0;
}

static struct watch_set *bus_set(struct exitbus *bus)
{
    if (!bus->children)
        bus->children = watch_set_new(bus);
    return bus->children;
}

static void reaper_free(struct exitbus_reaper *reaper)
{
    close_view(reaper);
    pthread_mutex_destroy(&reaper->gate);
    if (reaper->own_set)
        watch_set_free(reaper->loop.set);
    free(reaper);
}

/*
 * A reaper, not from the bus's memory, since its thread may have to be left with it. Returns it
 * with its gate closed.
 */
static int reaper_new(struct exitbus *bus, const struct exitbus_reaper_options *options,
                      bool own_set, struct exitbus_reaper **fresh)
{
    struct exitbus_reaper *reaper = calloc(1, sizeof *reaper);
    if (!reaper)
        return -ENOMEM;
    reaper->bus = bus;
    reaper->mode = options->mode;
    reaper->flags = options->flags;
    reaper->view_fd = reaper->old_subreaper = -1;
    reaper->own_set = own_set;
    reaper->loop = (struct reaper_loop){.set = own_set ? watch_set_new(bus) : bus_set(bus),
                                        .wait_fd = -1,
                                        .signal_fd = -1,
                                        .pending_fd = -1,
                                        .all = options->mode == EXITBUS_REAPER_ALL,
                                        .polled = options->flags & EXITBUS_REAPER_POLLED};
    if (!reaper->loop.set) {
        free(reaper);
        return -ENOMEM;
    }
    pthread_mutex_init(&reaper->gate, NULL);
    pthread_mutex_lock(&reaper->gate);
    int result = start_running(reaper);
    if (result < 0) {
        pthread_mutex_unlock(&reaper->gate);
        if (!own_set && !bus->set_runner)
            watch_set_close(reaper->loop.set);
        reaper_free(reaper);
        return result;
    }
    *fresh = reaper;
    return 0;
}

/* Let it begin, over whatever the reaper before it has left in the set. */
static void open_gate(struct exitbus_reaper *reaper)
{
    struct watch_set *set = reaper->loop.set;
    set->refused = 0;
    if (!reaper->own_set)
        reaper->bus->set_runner = reaper;
    if (!reaper->own_set && set_needed(reaper->bus)) {
        fetch_or_seq_cst(&set->rescan, RESCAN_ALL);
        watch_set_wake(set);
    } else {
        set->repoll = false;
    }
    pthread_mutex_unlock(&reaper->gate);
}

/* ------------------------------------------------------------------------- the implicit reaper */

static int implicit_new(struct exitbus *bus, struct exitbus_reaper **fresh)
{
    static const struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    int result = reaper_new(bus, &watched, false, fresh);
    if (result < 0)
        return result;
    (*fresh)->next_implicit = implicit_reapers;
    implicit_reapers = *fresh;
    bus->implicit_reaper = *fresh;
    return 0;
}

/* Ends its passes; what lies in the set stays. Returns what its thread had to report. */
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
    pthread_mutex_lock(&reaper->gate);
    note_lost(reaper);
    bool ended = leave_set(reaper);
    int result = error_of(reaper);
    if (ended)
        reaper_free(reaper);
    return result;
}

/* Those of other buses that have nothing to do give way to an ALL reaper. */
static bool others_are_idle(const struct exitbus *bus)
{
    for (struct exitbus_reaper *other = implicit_reapers; other; other = other->next_implicit) {
        if (other->bus == bus || !set_needed(other->bus))
            continue;
        /* The end of a pass, whose last event may be received before its watch has ended. */
        pthread_mutex_lock(&other->gate);
        bool needed = set_needed(other->bus);
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
        struct exitbus *of = other->bus;
        implicit_stop(of);
        watch_set_close(of->children);
    }
}

/* ------------------------------------------------------------------------------- start, stop */

static int may_start(struct exitbus *bus, enum exitbus_reaper_mode mode)
{
    if (bus_closed(bus))
        return -ESHUTDOWN;
    if (reaper_of_all)
        return -EBUSY;
    if (mode == EXITBUS_REAPER_ALL)
        return watched_reapers > 0 || !others_are_idle(bus) ? -EBUSY : 0;
    return sigchld_check();
}

static int start_locked(struct exitbus *bus, const struct exitbus_reaper_options *options,
                        struct exitbus_reaper **reaper)
{
    int result = may_start(bus, options->mode);
    if (result < 0)
        return result;
    /* Only the implicit reaper's place is taken: two users' reapers each have what is theirs. */
    bool own_set = bus->set_runner && bus->set_runner != bus->implicit_reaper;
    struct exitbus_reaper *fresh;
    result = reaper_new(bus, options, own_set, &fresh);
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
    open_gate(fresh);
    *reaper = fresh;
    return 0;
}

int exitbus_reaper_start(struct exitbus *bus, const struct exitbus_reaper_options *options,
                         struct exitbus_reaper **reaper)
{
    if (!bus || !options || !reaper ||
        (options->mode != EXITBUS_REAPER_ALL && options->mode != EXITBUS_REAPER_WATCHED) ||
        (options->flags & ~(EXITBUS_REAPER_SUBREAPER | EXITBUS_REAPER_POLLED)) ||
        (options->mode == EXITBUS_REAPER_WATCHED && (options->flags & EXITBUS_REAPER_SUBREAPER)))
        return -EINVAL;
    if (bus_stale(bus))
        return -ESTALE;
    int cancelling = cancel_disable();
    pthread_mutex_lock(&reaper_lock);
    int result = start_locked(bus, options, reaper);
    pthread_mutex_unlock(&reaper_lock);
    cancel_restore(cancelling);
    return result;
}

static int stop_locked(struct exitbus_reaper *reaper)
{
    struct exitbus *bus = reaper->bus;
    struct exitbus_reaper *heir = NULL;
    pthread_mutex_lock(&reaper->gate); /* the end of a pass, which may have ended the last watch */
    note_lost(reaper);
    if (!reaper->own_set && set_needed(bus) && !mutant(REAPER_LEAVES_SPAWNED)) {
        int result = implicit_new(bus, &heir);
        if (result < 0) {
            pthread_mutex_unlock(&reaper->gate);
            return result;
        }
    }
    bool ended = leave_set(reaper);
    if (reaper->mode == EXITBUS_REAPER_ALL) {
        stop_signals(reaper);
        reaper_of_all = NULL;
    } else {
        watched_reapers--;
    }
    bus->explicit_reapers--;
    if (!reaper->own_set) {
        watch_drop(bus->children, false);
        bus->set_runner = NULL;
        if (heir)
            open_gate(heir);
        else
            watch_set_close(bus->children);
    }
    int result = error_of(reaper);
    if (ended)
        reaper_free(reaper);
    return result;
}

int exitbus_reaper_stop(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return 0;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    int cancelling = cancel_disable();
    pthread_mutex_lock(&reaper_lock);
    int result = stop_locked(reaper);
    pthread_mutex_unlock(&reaper_lock);
    cancel_restore(cancelling);
    return result;
}

int bus_close(struct exitbus *bus, int *lost)
{
    pthread_mutex_lock(&reaper_lock);
    int result = bus->explicit_reapers > 0 ? -EBUSY : 0;
    if (result == 0) {
        store_seq_cst(&bus->core.closed, true);
        *lost = implicit_stop(bus);
        if (bus->children)
            watch_drop(bus->children, true);
    }
    pthread_mutex_unlock(&reaper_lock);
    return result;
}

void reaper_bus_free(struct exitbus *bus)
{
    if (bus->children)
        watch_set_free(bus->children);
}

/* ----------------------------------------------------------------------------------- for spawn */

static int spawn_begin_locked(struct exitbus *bus, struct child_watch **watch)
{
    if (bus_closed(bus))
        return -ESHUTDOWN;
    if (reaper_of_all && reaper_of_all->bus != bus)
        return -EXDEV;
    int result = reaper_of_all ? 0 : sigchld_check();
    if (result < 0)
        return result;
    struct exitbus_reaper *runner = bus->set_runner;
    if (runner && (error_of(runner) < 0 || !sys_fd_open(runner->loop.set->epoll_fd))) {
        /* The host has closed what is not its own. The implicit reaper begins anew. */
        if (runner != bus->implicit_reaper)
            return error_of(runner) < 0 ? error_of(runner) : -EBADF;
        implicit_stop(bus);
    }
    if (!bus->set_runner) {
        struct exitbus_reaper *fresh;
        result = implicit_new(bus, &fresh);
        if (result < 0)
            return result;
        open_gate(fresh);
    }
    *watch = watch_reserve(bus->children, 0, true);
    return *watch ? 0 : -ENOMEM;
}

int reaper_spawn_begin(struct exitbus *bus, struct child_watch **watch)
{
    pthread_mutex_lock(&reaper_lock);
    int result = spawn_begin_locked(bus, watch);
    if (result == 0) {
        fetch_add_relaxed(&bus->core.references, 1);
        /* One more than the watch, which may be gone before this spawn has ended. */
        fetch_add_relaxed(&bus->children->spawned, 1);
    }
    pthread_mutex_unlock(&reaper_lock);
    return result;
}

static void spawn_end(struct exitbus *bus)
{
    fetch_sub_release(&bus->children->spawned, 1);
    core_release(&bus->core);
}

void reaper_spawn_reserve(struct child_watch *watch, pid_t pid)
{
    watch_set_pid(watch, pid);
}

void reaper_spawn_commit(struct exitbus *bus, struct child_watch *watch, int pidfd)
{
    watch_commit(bus->children, watch, pidfd);
    spawn_end(bus);
}

void reaper_spawn_abort(struct exitbus *bus, struct child_watch *watch)
{
    watch_abort(bus->children, watch);
    spawn_end(bus);
}

/* -------------------------------------------------------------------------- watch, fd, poll */

/*
 * One attempt. 1: the child was collected by another watch of it meanwhile; 0 or -errno.
 * The watch comes before the look at the child: see watch.c, 1.
 */
static int watch_once(struct watch_set *set, pid_t pid)
{
    struct child_watch *watch = watch_reserve(set, pid, false);
    if (!watch)
        return -ENOMEM;
    /* Is it a child of ours? It may be a zombie already, which stays. */
    siginfo_t info;
    int result = sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, NULL);
    int pidfd = result < 0 ? result : sys_pidfd_open(pid);
    if (pidfd < 0) {
        watch_abort(set, watch);
        return pidfd == -ESRCH ? -ECHILD : pidfd;
    }
    return watch_commit(set, watch, pidfd) ? 0 : 1;
}

int exitbus_reaper_watch(struct exitbus_reaper *reaper, pid_t pid)
{
    if (!reaper || pid <= 0)
        return -EINVAL;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    if (reaper->mode != EXITBUS_REAPER_WATCHED)
        return -ENOTSUP;
    if (error_of(reaper) < 0 || !sys_fd_open(reaper->loop.set->epoll_fd))
        return error_of(reaper) < 0 ? error_of(reaper) : -EBADF;
    int result = 1;
    for (int tries = 0; tries < WATCH_TRIES && result == 1; tries++) {
        result = watch_once(reaper->loop.set, pid);
        if (result == -ECHILD && tries > 0)
            result = 0; /* it was there, and its exit is out */
    }
    return result == 1 ? -EAGAIN : result;
}

int exitbus_reaper_fd(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return -EINVAL;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    return reaper->flags & EXITBUS_REAPER_POLLED ? reaper->view_fd : -ENOTSUP;
}

static int poll_pass(struct exitbus_reaper *reaper)
{
    if (error_of(reaper) < 0)
        return error_of(reaper);
    struct reaper_events none = {.count = 0};
    pthread_mutex_lock(&reaper->gate);
    int result = is_stopping(reaper) ? 0 : reaper_loop_pass(&reaper->loop, &none);
    pthread_mutex_unlock(&reaper->gate);
    if (result < 0)
        note_error(reaper, result);
    return result;
}

int exitbus_reaper_poll(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return -EINVAL;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    if (!(reaper->flags & EXITBUS_REAPER_POLLED))
        return -ENOTSUP;
    if (exchange_acquire(&reaper->polling, 1))
        return -EBUSY;
    int result = poll_pass(reaper);
    store_release(&reaper->polling, 0);
    return result;
}
