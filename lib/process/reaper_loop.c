/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One pass of a reaper: see reaper_loop.h.
 *
 * One step, for every child: look at its status without reaping (WNOWAIT), publish, then reap. The
 * pid stays taken until its event is out, and a publish that fails leaves the child a zombie; a
 * timer brings the next attempt, at growing intervals.
 *
 * Children that are watched by pidfd are collected in the order in which epoll names them, which is
 * the order of their exits. Children that nobody watches (mode ALL) are found by waitid(P_ALL),
 * which walks in order of birth. So before one that it names is collected, epoll is asked once more
 * whether that child is a watched one.
 *
 * A pass ends, so that a host's loop gets its turn while children exit all the time. If it ends
 * with something left it makes the descriptor readable anew: a loop that is edge-triggered comes
 * back.
 */
#include "process/reaper_loop.h"

#include <errno.h>
#include <sched.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* What one pass may take on. */
#define ROUNDS_PER_PASS 16
#define CHILDREN_PER_PASS 1024
#define WAITID_TRIES 8
/* So many waits in a row that fail are no accident: a filter, or a descriptor that is not ours. */
#define REFUSALS 1000

struct pass {
    const struct reaper_loop *loop;
    struct watch_set *set;
    int count; /* exits published */
    bool wake; /* named by epoll, and not handled yet */
    bool timer;
    bool signal;
    bool pending;
    bool more; /* something is left for the next pass */
    int error; /* nothing more can be collected */
};

static int wait_status(const siginfo_t *info)
{
    switch (info->si_code) {
    case CLD_EXITED:
        return (info->si_status & 0xff) << 8;
    case CLD_DUMPED:
        return info->si_status | 0x80;
    default:
        return info->si_status;
    }
}

/* A child that has us for its tracer is reported when it stops, too, whatever was asked for. */
static bool has_exited(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED || info->si_code == CLD_KILLED ||
           info->si_code == CLD_DUMPED;
}

/* One child, as waitid(2) names it. */
struct target {
    int type;
    int id;
    int options;
};

static struct target target_of(const struct child_watch *watch)
{
    int pidfd = watch_pidfd(watch);
    return pidfd >= 0 ? (struct target){P_PIDFD, pidfd, __WALL}
                      : (struct target){P_PID, watch_pid(watch), __WALL};
}

/* 1: it has exited; 0: it has not; -ECHILD: there is no such child; or another error of waitid. */
static int peek(struct target target, siginfo_t *info, struct rusage *usage)
{
    int result = sys_waitid(target.type, target.id, info,
                            WEXITED | WNOHANG | WNOWAIT | target.options, usage);
    return result < 0 ? result : info->si_pid != 0;
}

/* 1: there is no such child any more; 0: there is; or -errno: waitid can't be asked. */
static int is_gone(struct target target)
{
    siginfo_t info;
    int result = -EAGAIN;
    for (int tries = 0; tries < WAITID_TRIES && result < 0 && result != -ECHILD; tries++)
        result = peek(target, &info, NULL);
    return result == -ECHILD ? 1 : result < 0 ? result : 0;
}

/* ------------------------------------------------------------------------------- one exit */

/* Another waiter has reaped a child that we watch: say that it has exited, and what is known. */
static int publish_lost(struct watch_set *set, const struct child_watch *watch)
{
    int status, pidfd = watch_pidfd(watch);
    if (pidfd >= 0 && sys_pidfd_exit_status(pidfd, &status) == 0)
        return bus_publish_exit(set->bus, watch_pid(watch), status, NULL, 0);
    return bus_publish_exit(set->bus, watch_pid(watch), -1, NULL, EXITBUS_EVENT_STATUS_LOST);
}

/* Its process was reaped by another waiter. False: that can't be published now. */
static bool collect_lost(struct pass *pass, struct child_watch *watch, bool named)
{
    if (publish_lost(pass->set, watch) < 0)
        return false;
    pass->count++;
    watch_end(pass->set, watch, named, WATCH_SETTLED);
    return true;
}

/*
 * A zombie's exit is about to be published: every watch of the pid that stands for it leaves with
 * it. One whose process is gone stands for an earlier process of that pid.
 */
static bool mark_leaving(struct pass *pass, pid_t pid, const struct child_watch *self)
{
    watch_absorb(pass->set);
    struct child_watch *next;
    for (struct child_watch *watch = watch_find(pass->set, pid); watch; watch = next) {
        next = watch->next;
        if (watch_pid(watch) != pid)
            continue;
        watch->leaving = true;
        if (watch == self || watch_pidfd(watch) < 0)
            continue;
        int gone = is_gone(target_of(watch));
        if (gone < 0 || (gone == 1 && !collect_lost(pass, watch, false)))
            return false;
    }
    return true;
}

static void unmark_leaving(struct pass *pass, pid_t pid)
{
    for (struct child_watch *watch = watch_find(pass->set, pid); watch; watch = watch->next)
        watch->leaving = false;
}

/*
 * The zombie was reaped. Watches that came meanwhile: see watch.c, 3. One with a pidfd says itself
 * whether its process is the one that has just gone. One that spawn has reserved meanwhile stands
 * for a new child, since the pid was taken until now.
 */
static void end_leaving(struct pass *pass, pid_t pid, const struct child_watch *self, bool named)
{
    watch_absorb(pass->set);
    struct child_watch *next;
    for (struct child_watch *watch = watch_find(pass->set, pid); watch; watch = next) {
        next = watch->next;
        if (watch_pid(watch) != pid || (mutant(WATCH_NOT_DOUBTED) && watch != self))
            continue;
        if (watch == self)
            watch_end(pass->set, watch, named, WATCH_SETTLED);
        else if (watch_pidfd(watch) < 0 ? watch->leaving || !watch->spawned
                                        : watch->leaving || is_gone(target_of(watch)) == 1)
            watch_end(pass->set, watch, false,
                      watch_pidfd(watch) >= 0 ? WATCH_SETTLED : WATCH_DOUBTED);
    }
}

/* Its event is out, so it must not be met again. -ECHILD: another waiter has taken it. */
static int reap(struct target target)
{
    siginfo_t info;
    int result = -EAGAIN;
    for (int tries = 0; tries < WAITID_TRIES && result < 0 && result != -ECHILD; tries++)
        result =
            sys_waitid(target.type, target.id, &info, WEXITED | WNOHANG | target.options, NULL);
    return result == -ECHILD ? 0 : result;
}

/*
 * Publish a zombie's exit, reap it, end its watches. `self` is the watch by which it was found, if
 * it was by one; `named`: by epoll. 0, or why it stays a zombie.
 */
static int publish_and_reap(struct pass *pass, struct target target, const siginfo_t *info,
                            const struct rusage *usage, const struct child_watch *self, bool named)
{
    pid_t pid = info->si_pid;
    probe(PROBE_REAPER_PEEKED);
    if (mutant(REAPER_REAPS_FIRST))
        reap(target);
    if (!mark_leaving(pass, pid, self)) {
        unmark_leaving(pass, pid);
        return -ENOMEM;
    }
    int result = bus_publish_exit(pass->set->bus, pid, wait_status(info), usage, 0);
    if (result < 0) {
        unmark_leaving(pass, pid);
        return result;
    }
    probe(PROBE_REAPER_PUBLISHED);
    pass->count++;
    if (mutant(REAPER_TWICE) && pid % 16 == 0)
        bus_publish_exit(pass->set->bus, pid, wait_status(info), usage, 0);
    result = reap(target);
    if (result < 0) /* it would be published again: better nothing is, any more */
        pass->error = result;
    probe(PROBE_REAPER_REAPED);
    end_leaving(pass, pid, self, named);
    return 0;
}

/* ------------------------------------------------------------------------ watched children */

/* The host has closed its pidfd: from here on the pid must do. */
static bool pidfd_lost(struct watch_set *set, struct child_watch *watch, int peeked,
                       const siginfo_t *info)
{
    if (watch_pidfd(watch) < 0 || watch_state(watch) != WATCH_COMMITTED)
        return false;
    bool other = peeked == 1 && info->si_pid != watch_pid(watch);
    if (peeked != -EBADF && peeked != -EINVAL && !other)
        return false;
    watch_unpoll(set, watch);
    store_relaxed(&watch->pidfd, -1);
    return true;
}

/* Has not exited, or can't be published now: wait for it. */
static void wait_for(struct pass *pass, struct child_watch *watch, bool named, bool exited)
{
    struct watch_set *set = pass->set;
    if (watch_state(watch) == WATCH_RESERVED) { /* the epoll set's entry is its maker's for now */
        watch->named = watch->named || named;
        watch_retry_later(set);
        return;
    }
    /* Named by epoll, and no child to wait for: its tracer has not seen the exit yet. */
    watch->held = !exited && (named || watch->held || watch->polled) && watch_pidfd(watch) >= 0 &&
                  sys_readable(watch_pidfd(watch));
    /* An exit that can't be collected yet would keep epoll awake: it waits for the timer. */
    if (exited || watch->held || named)
        watch_unpoll(set, watch);
    if (exited || watch->held || !watch_poll(set, watch))
        watch_retry_later(set);
}

/* Look at one watched child. `named`: epoll has just named it. */
static void collect_watch(struct pass *pass, struct child_watch *watch, bool named)
{
    siginfo_t info;
    struct rusage usage;
    int result = peek(target_of(watch), &info, &usage);
    if (unlikely(pidfd_lost(pass->set, watch, result, &info))) {
        named = false;
        result = peek(target_of(watch), &info, &usage);
    }
    if (result == -ECHILD) {
        if (!collect_lost(pass, watch, named))
            wait_for(pass, watch, named, true);
        return;
    }
    bool exited = result == 1 && has_exited(&info);
    if (!exited)
        wait_for(pass, watch, named, result < 0);
    else if (publish_and_reap(pass, target_of(watch), &info, &usage, watch, named) < 0)
        wait_for(pass, watch, named, true);
}

/* Look at every watch, or at those that epoll does not name (any more). */
static void collect_watches(struct pass *pass, bool also_polled)
{
    struct watch_set *set = pass->set;
    for (size_t i = 0; i < WATCH_BUCKETS && !pass->error; i++) {
        bool again; /* publishing may end others of the bucket */
        do {
            again = false;
            for (struct child_watch *watch = set->buckets[i]; watch; watch = watch->next) {
                bool named = watch->named;
                if (watch_state(watch) == WATCH_COMMITTED ? watch->polled && !also_polled && !named
                                                          : !named)
                    continue;
                int before = pass->count;
                watch->named = false;
                collect_watch(pass, watch, named);
                again = pass->count != before;
                if (again)
                    break;
            }
        } while (again);
    }
}

static void rescan(struct pass *pass)
{
    struct watch_set *set = pass->set;
    if (!load_relaxed(&set->rescan))
        return;
    uint32_t which = exchange_seq_cst(&set->rescan, 0);
    watch_absorb(set);
    for (size_t i = 0; which & RESCAN_ALL && i < WATCH_BUCKETS; i++)
        for (struct child_watch *watch = set->buckets[i]; watch; watch = watch->next)
            if (watch_state(watch) == WATCH_COMMITTED)
                watch->polled = watch->polled && !set->repoll;
            else if (watch_pidfd(watch) >= 0) {
                watch->named = true; /* perhaps by an epoll_wait of the reaper before */
                watch_retry_later(set);
            }
    if (which & RESCAN_ALL)
        set->repoll = false;
    collect_watches(pass, which & RESCAN_ALL);
}

static void retry(struct pass *pass)
{
    struct watch_set *set = pass->set;
    set->put_off = false;
    collect_watches(pass, false);
    if (pass->loop->all)
        pass->signal = true;
}

/* ----------------------------------------------------------------------------- epoll's names */

static void handle(struct pass *pass, uint64_t key)
{
    if (key == WATCH_KEY_WAKE) {
        pass->wake = true;
    } else if (key == WATCH_KEY_TIMER) {
        pass->timer = true;
    } else if (key == WATCH_KEY_SIGNAL) {
        pass->signal = true;
    } else if (key == WATCH_KEY_PENDING) {
        pass->signal = pass->pending = true;
    } else {
        watch_absorb(pass->set);
        struct child_watch *watch = watch_of_key(pass->set, key);
        if (watch)
            collect_watch(pass, watch, true);
    }
}

static void handle_events(struct pass *pass, const struct reaper_events *events)
{
    for (int i = 0; i < events->count && !pass->error; i++)
        handle(pass, events->list[i].data.u64);
}

/* Collect all that epoll names, without waiting. */
static void ask_epoll(struct pass *pass)
{
    struct reaper_events events;
    for (int round = 0; round < ROUNDS_PER_PASS; round++) {
        int ready = sys_epoll_wait(pass->set->epoll_fd, events.list, REAPER_EVENTS, 0);
        events.count = ready > 0 ? ready : 0;
        pass->error = reaper_loop_refused(pass->loop, ready);
        if (ready < 0)
            pass->more = true;
        handle_events(pass, &events);
        if (ready < REAPER_EVENTS || pass->error)
            return;
    }
    pass->more = true;
}

/* ---------------------------------------------------------------------------------- ALL mode */

/*
 * Collect the child that waitid(P_ALL) names. 1: go on, 0: there is none, or -errno: it stays a
 * zombie. *asked is the last pid for which epoll was asked.
 */
static int collect_any(struct pass *pass, pid_t *asked)
{
    static const struct target any = {P_ALL, 0, 0};
    siginfo_t info;
    struct rusage usage;
    int result = peek(any, &info, &usage);
    if (result <= 0)
        return result == -ECHILD ? 0 : result;
    pid_t pid = info.si_pid;
    struct target target = {P_PID, pid, 0};
    if (unlikely(!has_exited(&info))) {
        /* A stop of a child that we trace, which hides the others: taken out of their way. */
        sys_waitid(P_PID, pid, &info, WSTOPPED | WNOHANG, NULL);
        return 1;
    }
    watch_absorb(pass->set);
    struct child_watch *watch = watch_find(pass->set, pid);
    if (watch && watch_state(watch) == WATCH_COMMITTED && watch->polled && *asked != pid &&
        !mutant(REAPER_BY_BIRTH)) {
        *asked = pid; /* once: epoll may not name it, if it was named before and put off */
        ask_epoll(pass);
        return 1;
    }
    result = publish_and_reap(pass, target, &info, &usage, NULL, false);
    return result < 0 ? result : 1;
}

/* Collect until no child is waitable. */
static void collect_all(struct pass *pass)
{
    sys_eventfd_take(pass->loop->signal_fd); /* first: a signal from now on brings another pass */
    pass->signal = false;
    pid_t asked = 0;
    for (int i = 0; i < CHILDREN_PER_PASS && !pass->error; i++) {
        int result = collect_any(pass, &asked);
        if (result < 0)
            watch_retry_later(pass->set);
        if (result <= 0 || mutant(REAPER_DRAINS_ONE))
            return;
    }
    sys_eventfd_add_again(pass->loop->signal_fd);
    pass->more = true;
}

/*
 * SIGCHLD is pending for the process: all threads of the host have it blocked, or the one that it
 * is for has not run yet. While it is pending further ones are merged into it, and nobody is told.
 * So it is taken here, after a moment for the host's threads, and sent on to the host's first
 * thread.
 */
static void take_pending(struct pass *pass)
{
    sched_yield();
    if (!sys_signalfd_take(pass->loop->pending_fd))
        return;
    if (!mutant(SIGCHLD_KEPT))
        sys_signal_first_thread(SIGCHLD);
    collect_all(pass); /* what has exited since the last look was merged into it */
}

/* ------------------------------------------------------------------------------------ a pass */

int reaper_loop_refused(const struct reaper_loop *loop, int ready)
{
    struct watch_set *set = loop->set;
    if (ready >= 0) {
        set->refused = 0;
        return 0;
    }
    bool ours = ready != -EBADF || sys_fd_open(set->epoll_fd);
    return ours && ++set->refused < REFUSALS ? 0 : ready;
}

int reaper_loop_wait(const struct reaper_loop *loop, struct reaper_events *events)
{
    int ready = sys_epoll_wait(loop->wait_fd, events->list, REAPER_EVENTS, -1);
    events->count = ready > 0 ? ready : 0;
    return ready < 0 ? ready : 0;
}

int reaper_loop_pass(const struct reaper_loop *loop, struct reaper_events *events)
{
    struct pass pass = {.loop = loop, .set = loop->set, .signal = loop->all && loop->polled};
    struct watch_set *set = pass.set;
    if (mutant(REAPER_BY_BIRTH) && loop->all)
        collect_all(&pass);
    handle_events(&pass, events);
    if (!pass.error && (events->count == 0 || events->count == REAPER_EVENTS))
        ask_epoll(&pass);
    if (pass.wake) {
        sys_eventfd_take(set->wake_fd);
        watch_absorb(set);
        watch_sweep(set);
    }
    rescan(&pass);
    if (pass.timer) {
        sys_eventfd_take(set->timer_fd);
        retry(&pass);
    }
    if (pass.signal && loop->all && !pass.error)
        collect_all(&pass);
    if (pass.pending && loop->all)
        take_pending(&pass);
    if (pass.timer && !set->put_off)
        set->retry_ns = 0;
    if (pass.more && !mutant(REAPER_NO_EDGE))
        watch_set_wake(set);
    return pass.error ? pass.error : pass.count;
}
