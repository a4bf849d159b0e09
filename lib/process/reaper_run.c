/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One reaper, from its start to its end.
 *
 * How it works
 *   - The gate is a mutex, held during each pass. A new reaper's gate is closed from before its
 *     thread begins until reaper_open_gate().
 *   - The thread sleeps in epoll_wait(), outside the gate. reaper_halt() sets `stopping` inside the
 *     gate, wakes the thread, and waits for `ended`.
 *   - Mode ALL adds SIGCHLD: a handler (sigchld.c), and a signalfd for signals that stay pending.
 *     With EXITBUS_REAPER_SIGNALFD there is a signalfd alone.
 *
 * Why it is right
 *  1. After reaper_halt() no pass is made, because a pass reads `stopping` inside the gate.
 *  2. A stop never hangs. If the host has closed the epoll descriptor, the thread may sleep for
 *     ever. So the wait for it is bounded, unless the descriptor is still open.
 *  3. A thread that was given up uses nothing but the reaper's struct and the number of its
 *     descriptor. So that struct is never freed. It does not lie in the bus's memory.
 *
 * It relies on base/thread.h for the thread, and on reaper.c's lock: starts and stops are serial.
 */
#include "process/reaper_run.h"
#include "base/thread.h"
#include "process/orphans.h"
#include "process/sigchld.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>

/* The wait for a thread that may be out of reach: 20 slices of 100 ms. */
#define HALT_SLICES 20
#define HALT_SLICE_NS 100000000LL

/* ----------------------------------------------------------------------------------- errors */

void reaper_note_error(struct exitbus_reaper *reaper, int error)
{
    if (load_relaxed(&reaper->error) == 0)
        store_relaxed(&reaper->error, error);
}

int reaper_usable(struct exitbus_reaper *reaper)
{
    int error = load_relaxed(&reaper->error);
    if (error < 0)
        return error;
    return sys_fd_open(reaper->loop.set->epoll_fd) ? 0 : -EBADF;
}

/* ------------------------------------------------------------------------------- the thread */

static bool is_stopping(struct exitbus_reaper *reaper)
{
    /* Acquire; pairs with reaper_halt(). */
    return load_acquire(&reaper->stopping);
}

/* Make a pass after a wait that returned `waited`. Returns false if the thread is to end. */
static bool thread_pass(struct exitbus_reaper *reaper, struct reaper_events *events, int waited)
{
    pthread_mutex_lock(&reaper->gate);
    bool on = !is_stopping(reaper);
    if (on) {
        int result = reaper_loop_refused(&reaper->loop, waited);
        if (result == 0)
            result = reaper_loop_pass(&reaper->loop, events);
        if (result < 0) {
            reaper_note_error(reaper, result);
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
    /* Release; pairs with thread_ended(). */
    store_release(&reaper->ended, 1);
    sys_futex_wake_all((uint32_t *)&reaper->ended);
    return NULL;
}

/*
 * Wait until the thread has ended. `reachable`: it was woken, so wait as long as its descriptor is
 * open. The wait is cut in slices because a process that was stopped for a while (SIGSTOP, a
 * freezer) finds its deadline passed.
 */
static bool thread_ended(struct exitbus_reaper *reaper, bool reachable)
{
    for (int slice = 0; slice < HALT_SLICES || (reachable && sys_fd_open(reaper->loop.wait_fd));
         slice++) {
        int64_t end_ns = sys_clock_ns(CLOCK_MONOTONIC) + HALT_SLICE_NS;
        struct timespec end = {.tv_sec = end_ns / 1000000000, .tv_nsec = end_ns % 1000000000};
        /* Acquire; pairs with reaper_main(). */
        while (!load_acquire(&reaper->ended))
            if (sys_futex_wait((uint32_t *)&reaper->ended, 0, SYS_FUTEX_ANY, &end) == -ETIMEDOUT)
                break;
        if (load_acquire(&reaper->ended))
            return true;
    }
    return false;
}

/*
 * Returns whether the thread sleeps on the epoll set that its wake-up goes to. It does not if the
 * host has closed that set: a new one may have the same number, and the sleeper keeps the old one.
 * Nor does it if the numbers are the host's own files now.
 */
static bool waits_where_woken(const struct exitbus_reaper *reaper)
{
    const struct watch_set *set = reaper->loop.set;
    return reaper->loop.wait_fd == set->epoll_fd && !set->repoll &&
           sys_epoll_modify(set->epoll_fd, set->wake_fd, WATCH_KEY_WAKE) == 0;
}

static bool halt_thread(struct exitbus_reaper *reaper)
{
    struct watch_set *set = reaper->loop.set;
    int result = watch_set_wake(set);
    if (result < 0)
        reaper_note_error(reaper, result);
    if (result < 0 && watch_set_open(set) == 0) /* its epoll may still be there */
        result = watch_set_wake(set);
    if (thread_ended(reaper, result == 0 && waits_where_woken(reaper))) {
        pthread_join(reaper->thread, NULL);
        return true;
    }
    reaper_note_error(reaper, -EBADF);
    pthread_detach(reaper->thread);
    return false;
}

/* ------------------------------------------------------------------------- SIGCHLD, for ALL */

/*
 * Open a signalfd for SIGCHLD. A kernel without signalfd is no error: only a signal that all
 * threads of the host block is missed then.
 */
static int open_pending(struct reaper_loop *loop)
{
    int fd = sys_signalfd(SIGCHLD);
    if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
        return fd;
    loop->pending_fd = fd;
    return fd < 0 ? 0 : sys_epoll_add(loop->set->epoll_fd, fd, false, WATCH_KEY_PENDING);
}

static void close_source(const struct reaper_loop *loop, int *fd)
{
    if (*fd >= 0 && sys_fd_open(*fd)) {
        sys_epoll_delete(loop->set->epoll_fd, *fd);
        sys_close(*fd);
    }
    *fd = -1;
}

static int become_subreaper(struct exitbus_reaper *reaper)
{
    if (prctl(PR_GET_CHILD_SUBREAPER, &reaper->old_subreaper) == 0 &&
        prctl(PR_SET_CHILD_SUBREAPER, 1) == 0)
        return 0;
    int result = -errno;
    reaper->old_subreaper = -1;
    return result;
}

/* Take our handler out. One that is still in progress keeps its descriptor open. */
static void remove_handler(struct reaper_loop *loop)
{
    if (loop->signalfd || sigchld_remove())
        return;
    sys_epoll_delete(loop->set->epoll_fd, loop->signal_fd);
    loop->signal_fd = -1;
}

static bool is_blocked(int signal)
{
    sigset_t now;
    return pthread_sigmask(SIG_BLOCK, NULL, &now) == 0 && sigismember(&now, signal);
}

/* The host leaves SIGCHLD to the reaper: no handler is needed. */
static int open_signalfd(struct reaper_loop *loop)
{
    if (!is_blocked(SIGCHLD))
        return -EINVAL;
    int result = sigchld_check();
    if (result < 0)
        return result;
    loop->signal_fd = sys_signalfd(SIGCHLD);
    if (loop->signal_fd < 0)
        return loop->signal_fd;
    result = sys_epoll_add(loop->set->epoll_fd, loop->signal_fd, false, WATCH_KEY_SIGNAL);
    /* So that a pass collects children that have exited before. */
    return result < 0 ? result : watch_set_wake(loop->set);
}

static int open_handler(struct reaper_loop *loop)
{
    loop->signal_fd = sys_eventfd(false);
    if (loop->signal_fd < 0)
        return loop->signal_fd;
    int result = sys_epoll_add(loop->set->epoll_fd, loop->signal_fd, false, WATCH_KEY_SIGNAL);
    if (result == 0) /* so that the first pass collects children that have exited before */
        result = sys_eventfd_add(loop->signal_fd);
    if (result == 0 && !loop->polled)
        result = open_pending(loop);
    return result < 0 ? result : sigchld_install(loop->signal_fd);
}

/* Returns 0 or -errno; an error may leave descriptors open, for close_source(). */
static int start_signals(struct exitbus_reaper *reaper)
{
    struct reaper_loop *loop = &reaper->loop;
    int result = loop->orphans ? orphans_check() : 0;
    if (result == 0)
        result = loop->signalfd ? open_signalfd(loop) : open_handler(loop);
    if (result < 0 || !(reaper->flags & EXITBUS_REAPER_SUBREAPER))
        return result;
    result = become_subreaper(reaper);
    if (result < 0)
        remove_handler(loop);
    return result;
}

/* Undo start_signals(). */
static void stop_signals(struct exitbus_reaper *reaper)
{
    struct reaper_loop *loop = &reaper->loop;
    if (reaper->old_subreaper >= 0)
        prctl(PR_SET_CHILD_SUBREAPER, reaper->old_subreaper);
    remove_handler(loop);
    close_source(loop, &loop->signal_fd);
    close_source(loop, &loop->pending_fd);
}

/* -------------------------------------------------------------------------------- from start */

static int open_view(struct exitbus_reaper *reaper)
{
    reaper->view_fd = sys_epoll_create();
    if (reaper->view_fd < 0)
        return reaper->view_fd;
    return sys_epoll_add(reaper->view_fd, reaper->loop.set->epoll_fd, false, 0);
}

static int open_journal(struct exitbus_reaper *reaper, int fd)
{
    int result = journal_open(&reaper->journal, fd);
    if (result == 0)
        reaper->loop.journal = &reaper->journal;
    return result;
}

/* Open what the reaper waits at, and start its thread. Context: the gate is closed. */
static int start_running(struct exitbus_reaper *reaper)
{
    int result = watch_set_open(reaper->loop.set);
    if (result < 0)
        return result;
    reaper->loop.wait_fd = reaper->loop.set->epoll_fd;
    if (reaper->flags & EXITBUS_REAPER_POLLED) {
        result = open_view(reaper);
        if (result < 0)
            return result;
    }
    if (reaper->mode == EXITBUS_REAPER_ALL) {
        result = start_signals(reaper);
        if (result < 0) {
            close_source(&reaper->loop, &reaper->loop.signal_fd);
            close_source(&reaper->loop, &reaper->loop.pending_fd);
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

/* Returns the set of spawn's children, made if need be; NULL: no memory. */
static struct watch_set *set_of_bus(struct exitbus *bus)
{
    if (!bus->children)
        bus->children = watch_set_create(bus);
    return bus->children;
}

int reaper_create(struct exitbus *bus, const struct exitbus_reaper_options *options, bool own_set,
                  struct exitbus_reaper **fresh)
{
    struct exitbus_reaper *reaper = calloc(1, sizeof *reaper);
    if (!reaper)
        return -ENOMEM;
    reaper->bus = bus;
    reaper->mode = options->mode;
    reaper->flags = options->flags;
    reaper->view_fd = reaper->old_subreaper = reaper->journal.fd = -1;
    reaper->own_set = own_set;
    reaper->loop = (struct reaper_loop){.set = own_set ? watch_set_create(bus) : set_of_bus(bus),
                                        .wait_fd = -1,
                                        .signal_fd = -1,
                                        .pending_fd = -1,
                                        .all = options->mode == EXITBUS_REAPER_ALL,
                                        .polled = options->flags & EXITBUS_REAPER_POLLED,
                                        .orphans = options->flags & EXITBUS_REAPER_ORPHANS,
                                        .details = options->flags &
                                                   (EXITBUS_REAPER_DETAILS | EXITBUS_REAPER_RECORD),
                                        .signalfd = options->flags & EXITBUS_REAPER_SIGNALFD};
    if (!reaper->loop.set) {
        free(reaper);
        return -ENOMEM;
    }
    pthread_mutex_init(&reaper->gate, NULL);
    pthread_mutex_lock(&reaper->gate);
    int result =
        options->flags & EXITBUS_REAPER_RECORD ? open_journal(reaper, options->record_fd) : 0;
    if (result == 0)
        result = start_running(reaper);
    if (result < 0) {
        pthread_mutex_unlock(&reaper->gate);
        /* A spawn in progress goes on to use the descriptors of a set that is needed. */
        if (!own_set && !bus->set_runner && !watch_set_needed(reaper->loop.set))
            watch_set_close(reaper->loop.set);
        reaper_destroy(reaper);
        return result;
    }
    *fresh = reaper;
    return 0;
}

void reaper_open_gate(struct exitbus_reaper *reaper)
{
    struct watch_set *set = reaper->loop.set;
    set->refused = 0;
    if (!reaper->own_set)
        reaper->bus->set_runner = reaper;
    if (!reaper->own_set && watch_set_needed(set)) {
        fetch_or_seq_cst(&set->rescan, RESCAN_ALL);
        watch_set_wake(set);
    } else {
        set->repoll = false;
    }
    pthread_mutex_unlock(&reaper->gate);
}

/* ------------------------------------------------------------------------------------ to end */

bool reaper_halt(struct exitbus_reaper *reaper)
{
    /* Release; pairs with is_stopping(). */
    store_release(&reaper->stopping, true);
    pthread_mutex_unlock(&reaper->gate);
    bool ended = !reaper->has_thread || halt_thread(reaper);
    if (reaper->mode == EXITBUS_REAPER_ALL)
        stop_signals(reaper);
    return ended;
}

void reaper_destroy(struct exitbus_reaper *reaper)
{
    if (sys_fd_open(reaper->view_fd))
        sys_close(reaper->view_fd);
    journal_close(&reaper->journal);
    pthread_mutex_destroy(&reaper->gate);
    if (reaper->own_set)
        watch_set_release(reaper->loop.set);
    free(reaper);
}

int reaper_pass(struct exitbus_reaper *reaper)
{
    int error = load_relaxed(&reaper->error);
    if (error < 0)
        return error;
    struct reaper_events none = {.count = 0};
    pthread_mutex_lock(&reaper->gate);
    int result = is_stopping(reaper) ? 0 : reaper_loop_pass(&reaper->loop, &none);
    pthread_mutex_unlock(&reaper->gate);
    if (result < 0)
        reaper_note_error(reaper, result);
    return result;
}
