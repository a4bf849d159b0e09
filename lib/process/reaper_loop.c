/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One pass of a reaper: see reaper_loop.h. How one child is collected stands in collect.c.
 *
 * How it works
 *   - Children watched by pidfd are collected as epoll names them, which is in the order of their
 *     exits. Epoll names each once (EPOLLONESHOT).
 *   - In mode ALL, children without a watch are found by waitid(P_ALL), which goes by birth. So
 *     before a child that it names is collected, epoll is asked whether that is a watched one.
 *   - What could not be collected is tried again by the timer of the set, at growing intervals.
 *
 * Why it is right
 *  1. A pass is bounded, so that a host's loop gets its turn while children exit all the time.
 *  2. A pass that ends with something left makes the descriptor readable anew. So an edge-triggered
 *     loop makes another pass.
 *  3. Names that epoll has spent on an earlier reaper are made up for: the new one rescans.
 */
#include "process/reaper_loop.h"
#include "process/collect.h"
#include "process/group.h"
#include "process/journal.h"
#include "process/orphans.h"
#include "process/task.h"

#include <errno.h>
#include <sched.h>
#include <sys/wait.h>

/* The bounds of one pass. */
#define ROUNDS_PER_PASS 16
#define CHILDREN_PER_PASS 1024
/* So many failed waits in a row are no accident: a filter, or a descriptor that is not ours. */
#define REFUSALS 1000
/* Between passes where the timer can't be armed. */
#define NO_TIMER_MS 100

struct pass {
    const struct reaper_loop *loop;
    struct watch_set *set;
    struct collection collection;
    bool wake; /* epoll has named it, and it is not handled yet; so the next three */
    bool timer;
    bool signal;
    bool pending;
    bool more; /* something is left for the next pass */
};

/* -------------------------------------------------------------------------- watched children */

/* Does a scan look at this watch, though epoll does not name it now? */
static bool is_scanned(const struct child_watch *watch, bool also_polled)
{
    if (watch->named)
        return true;
    return watch_state(watch) == WATCH_COMMITTED &&
           (also_polled || !watch->polled || watch->ending);
}

/*
 * Look at the watches of a bucket. Returns true after a process has ended: that may have ended any
 * watch of the bucket, so the caller begins anew.
 */
static bool scan_bucket(struct pass *pass, size_t bucket, bool also_polled)
{
    for (struct child_watch *watch = pass->set->buckets[bucket]; watch; watch = watch->next) {
        if (!is_scanned(watch, also_polled))
            continue;
        int before = pass->collection.ended;
        bool named = watch->named;
        watch->named = false;
        collect_watched(&pass->collection, watch, named);
        if (pass->collection.ended != before)
            return true;
    }
    return false;
}

/* Look at every watch; or, without `also_polled`, at those that epoll will not name. */
static void scan(struct pass *pass, bool also_polled)
{
    for (size_t i = 0; i < WATCH_BUCKETS && !pass->collection.error; i++)
        while (scan_bucket(pass, i, also_polled))
            ;
}

/* An earlier reaper may have taken names from epoll without handling them: make up for those. */
static void expect_lost_names(struct watch_set *set)
{
    for (size_t i = 0; i < WATCH_BUCKETS; i++)
        for (struct child_watch *watch = set->buckets[i]; watch; watch = watch->next)
            if (watch_state(watch) == WATCH_COMMITTED)
                watch->polled = watch->polled && !set->repoll;
            else if (watch_pidfd(watch) >= 0) {
                watch->named = true;
                watch_retry_later(set);
            }
    if (set->repoll)
        groups_repoll(set);
    set->repoll = false;
}

static void rescan(struct pass *pass)
{
    struct watch_set *set = pass->set;
    if (!load_relaxed(&set->rescan))
        return;
    uint32_t which = exchange_seq_cst(&set->rescan, 0);
    watch_absorb(set);
    if (which & RESCAN_ALL)
        expect_lost_names(set);
    scan(pass, which & RESCAN_ALL);
}

static void retry(struct pass *pass)
{
    struct watch_set *set = pass->set;
    set->put_off = false;
    scan(pass, false);
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
    } else if (key == WATCH_KEY_GROUP) { /* the look comes behind the pass */
        store_relaxed(&pass->set->group_news, 1);
    } else if (key == WATCH_KEY_PENDING) {
        pass->signal = pass->pending = true;
    } else {
        watch_absorb(pass->set);
        struct child_watch *watch = watch_of_key(pass->set, key);
        if (watch)
            collect_watched(&pass->collection, watch, true);
    }
}

static void handle_events(struct pass *pass, const struct reaper_events *events)
{
    for (int i = 0; i < events->count && !pass->collection.error; i++)
        handle(pass, events->list[i].data.u64);
}

/* Collect all that epoll names, without waiting. */
static void ask_epoll(struct pass *pass)
{
    struct reaper_events events;
    for (int round = 0; round < ROUNDS_PER_PASS; round++) {
        int ready = sys_epoll_wait(pass->set->epoll_fd, events.list, REAPER_EVENTS, 0);
        events.count = ready > 0 ? ready : 0;
        pass->collection.error = reaper_loop_refused(pass->loop, ready);
        if (ready < 0)
            pass->more = true;
        handle_events(pass, &events);
        if (ready < REAPER_EVENTS || pass->collection.error)
            return;
    }
    pass->more = true;
}

/* ---------------------------------------------------------------------------------- ALL mode */

/* What has been done already about the child that waitid(P_ALL) names: the last pids of each. */
struct named {
    pid_t asked; /* epoll was asked */
    pid_t tried; /* it was collected, or should have been */
};

/* Look at one process that has no watch. Returns 0, also if it is no child of ours; or -errno. */
static int look_for_orphan(void *context, pid_t pid)
{
    struct pass *pass = context;
    struct target target = {P_PID, pid, 0};
    siginfo_t info;
    struct rusage usage;
    struct exitbus_event event;
    if (watch_find(pass->set, pid))
        return 0; /* epoll names it */
    int result = collect_peek(target, &info, &usage);
    if (result <= 0 || !collect_event(&event, &info, &usage))
        return result == -ECHILD ? 0 : result;
    result = orphans_is_one(pid);
    return result <= 0 ? result : collect_zombie(&pass->collection, target, &event, NULL, false);
}

/*
 * Collect the child that waitid(P_ALL) names. Returns 1 to go on, 0 if there is no child, or -errno
 * if it stays a zombie.
 */
static int collect_any(struct pass *pass, struct named *named)
{
    static const struct target any = {P_ALL, 0, 0};
    siginfo_t info;
    struct rusage usage;
    struct exitbus_event event;
    int result = collect_peek(any, &info, &usage);
    if ((result == 0 || result == -ECHILD) && pass->collection.journal)
        journal_all_reaped(pass->collection.journal);
    if (result <= 0)
        return result == -ECHILD ? 0 : result;
    pid_t pid = info.si_pid;
    if (unlikely(!collect_event(&event, &info, &usage))) {
        /* A child that we trace has stopped. Take the stop, since it hides other children. */
        sys_waitid(P_PID, pid, &info, WSTOPPED | WNOHANG, NULL);
        return 1;
    }
    watch_absorb(pass->set);
    struct child_watch *watch = watch_find(pass->set, pid);
    if (!watch && pass->loop->orphans) {
        result = orphans_is_one(pid);
        if (result < 0)
            return result;
        if (result == 0) /* the host's own, which hides others for as long as it is there */
            return orphans_each(look_for_orphan, pass);
    }
    if (watch && watch_state(watch) == WATCH_COMMITTED && watch->polled && named->asked != pid) {
        /* Once: epoll does not name it again if it was named before and put off. */
        named->asked = pid;
        ask_epoll(pass);
        return 1;
    }
    while (watch && (watch_pid(watch) != pid || watch_pidfd(watch) < 0))
        watch = watch->next;
    if (!watch) {
        result =
            collect_zombie(&pass->collection, (struct target){P_PID, pid, 0}, &event, NULL, false);
    } else if (named->tried != pid) {
        /* Its pidfd tells whether it stands for this child or for an earlier one. */
        named->tried = pid;
        result = collect_watched(&pass->collection, watch, false);
    } else { /* it was of no use, since the host has closed that descriptor */
        result = collect_by_pid(&pass->collection, pid);
    }
    return result < 0 ? result : 1;
}

/* Collect until no child is waitable. */
static void collect_all(struct pass *pass)
{
    /* First: a signal after this makes another pass. */
    if (pass->loop->signalfd)
        sys_signalfd_take(pass->loop->signal_fd);
    else
        sys_eventfd_take(pass->loop->signal_fd);
    pass->signal = false;
    struct named named = {0};
    for (int i = 0; i < CHILDREN_PER_PASS && !pass->collection.error; i++) {
        int result = collect_any(pass, &named);
        if (result < 0)
            watch_retry_later(pass->set);
        if (result <= 0)
            return;
    }
    if (!pass->loop->signalfd) /* else each pass comes here */
        sys_eventfd_add_again(pass->loop->signal_fd);
    pass->more = true;
}

/*
 * Take a SIGCHLD that stays pending for the process, and send it on to the host's first thread.
 * It is pending because all threads of the host have it blocked, or because the thread that it is
 * for has not run yet. Further signals are merged into a pending one, and no handler runs for them.
 * The host's threads get a moment to take it themselves.
 */
static void take_pending(struct pass *pass)
{
    sched_yield();
    if (!sys_signalfd_take(pass->loop->pending_fd))
        return;
    sys_signal_first_thread(SIGCHLD);
    collect_all(pass); /* exits since the last look were merged into it */
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
    int timeout_ms = load_relaxed(&loop->set->no_timer) ? NO_TIMER_MS : -1;
    int ready = sys_epoll_wait(loop->wait_fd, events->list, REAPER_EVENTS, timeout_ms);
    events->count = ready > 0 ? ready : 0;
    return ready < 0 ? ready : 0;
}

int reaper_loop_pass(const struct reaper_loop *loop, struct reaper_events *events)
{
    struct pass pass = {.loop = loop,
                        .set = loop->set,
                        .collection = {loop->set, loop->details, loop->journal, 0, 0, 0},
                        .signal = loop->all && (loop->polled || loop->signalfd)};
    struct watch_set *set = pass.set;
    handle_events(&pass, events);
    if (!pass.collection.error && (events->count == 0 || events->count == REAPER_EVENTS))
        ask_epoll(&pass);
    if (pass.wake) {
        sys_eventfd_take(set->wake_fd);
        watch_absorb(set);
        watch_end_withdrawn(set);
        watch_sweep(set);
    }
    rescan(&pass);
    if (pass.timer) {
        sys_eventfd_take(set->timer_fd);
        if (watch_expired(set))
            retry(&pass);
    }
    if (pass.signal && loop->all && !pass.collection.error)
        collect_all(&pass);
    if (pass.pending && loop->all)
        take_pending(&pass);
    bool groups = groups_need_a_look(set), tasks = tasks_need_a_look(set);
    if (groups || tasks) {
        int64_t next_ns = groups ? groups_step(set) : INT64_MAX;
        int64_t tasks_ns = tasks ? tasks_step(set) : INT64_MAX;
        if (tasks_ns < next_ns)
            next_ns = tasks_ns;
        bool no_timer = next_ns != INT64_MAX && !watch_expire_at(set, next_ns);
        store_relaxed(&set->no_timer, no_timer);
        if (no_timer && loop->polled)
            pass.more = true;
    }
    if (pass.timer && !set->put_off)
        set->retry_ns = 0;
    if (pass.more && watch_set_wake(set) < 0)
        watch_retry_later(set);
    return pass.collection.error ? pass.collection.error : pass.collection.published;
}
