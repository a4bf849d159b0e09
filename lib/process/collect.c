/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The collection of one child: see collect.h.
 *
 * How it works
 *   - A child is named to waitid() by its pidfd, if its watch has one, else by its pid.
 *   - Before the publish, every watch of the pid is marked; after the reap, all marked watches end.
 *     Watches that arrive in between are settled or doubted: see watch.c, 3.
 *   - A watch that can't be collected now waits for epoll, or for the timer of its set.
 *
 * Why it is right
 *  1. Between peek and reap the child is a zombie, so its pid stands for one process. Another
 *     waiter in the host may break this: see 3.
 *  2. A publish that fails leaves all as it was: the child is a zombie, its watches are unmarked.
 *  3. If another waiter has reaped a watched child, its exit is published all the same. Its status
 *     is that of the pidfd, if the kernel has it; else the event has EXITBUS_EVENT_STATUS_LOST.
 *
 * It relies on watch.c for the argument why an exit is published once.
 */
#include "process/collect.h"

#include <errno.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* Attempts at waitid(), which a filter may fail for the moment. */
#define WAITID_TRIES 8

static struct target target_of(const struct child_watch *watch)
{
    int pidfd = watch_pidfd(watch);
    return pidfd >= 0 ? (struct target){P_PIDFD, pidfd, __WALL}
                      : (struct target){P_PID, watch_pid(watch), __WALL};
}

int collect_peek(struct target target, siginfo_t *info, struct rusage *usage)
{
    int result = sys_waitid(target.type, target.id, info,
                            WEXITED | WNOHANG | WNOWAIT | target.options, usage);
    return result < 0 ? result : info->si_pid != 0;
}

/* Returns 1 if there is no such child any more, 0 if there is, or -errno if waitid() fails. */
static int is_gone(struct target target)
{
    siginfo_t info;
    int result = -EAGAIN;
    for (int tries = 0; tries < WAITID_TRIES && result < 0 && result != -ECHILD; tries++)
        result = collect_peek(target, &info, NULL);
    return result == -ECHILD ? 1 : result < 0 ? result : 0;
}

bool collect_event(struct exitbus_event *event, const siginfo_t *info, const struct rusage *usage)
{
    *event = (struct exitbus_event){.kind = EXITBUS_EVENT_PID, .pid = info->si_pid};
    event_set_usage(event, usage);
    return event_from_siginfo(event, info);
}

/* ----------------------------------------------------------------------------- lost children */

/* Publish the exit of a watched child that another waiter has reaped. Returns 0 or -errno. */
static int publish_lost(struct watch_set *set, const struct child_watch *watch)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = watch_pid(watch)};
    int status, pidfd = watch_pidfd(watch);
    if (pidfd < 0 || sys_pidfd_exit_status(pidfd, &status) != 0 ||
        !event_from_status(&event, status))
        event_without_status(&event);
    return bus_publish(set->bus, &event, 1, NULL);
}

/* Publish it and end its watch. Returns false if that can't be published now. */
static bool collect_lost(struct collection *collection, struct child_watch *watch, bool named)
{
    if (publish_lost(collection->set, watch) < 0)
        return false;
    collection->published++;
    child_watch_end(collection->set, watch, named, WATCH_SETTLED);
    return true;
}

/* ----------------------------------------------------------------------------------- zombies */

/*
 * Mark every watch that stands for this zombie as publishing. A watch whose process is gone stands
 * for an earlier process of the pid: its exit is published first.
 * Returns false if that fails; then some are marked.
 */
static bool mark_publishing(struct collection *collection, pid_t pid,
                            const struct child_watch *self)
{
    watch_absorb(collection->set);
    struct child_watch *next;
    for (struct child_watch *watch = watch_find(collection->set, pid); watch; watch = next) {
        next = watch->next;
        if (watch_pid(watch) != pid)
            continue;
        watch->publishing = true;
        if (watch == self || watch_pidfd(watch) < 0)
            continue;
        int gone = is_gone(target_of(watch));
        if (gone < 0 || (gone == 1 && !collect_lost(collection, watch, false)))
            return false;
    }
    return true;
}

static void unmark_publishing(struct collection *collection, pid_t pid)
{
    for (struct child_watch *watch = watch_find(collection->set, pid); watch; watch = watch->next)
        watch->publishing = false;
}

/*
 * End the watches of a zombie that was reaped, and those handed in meanwhile: see watch.c, 3.
 * With a pidfd, the kernel says whether its process is the one reaped. A watch without one, which
 * spawn has reserved meanwhile, stands for a new child, because the pid was taken until now.
 */
static void end_published(struct collection *collection, pid_t pid, const struct child_watch *self,
                          bool named)
{
    struct watch_set *set = collection->set;
    watch_absorb(set);
    struct child_watch *next;
    for (struct child_watch *watch = watch_find(set, pid); watch; watch = next) {
        next = watch->next;
        if (watch_pid(watch) != pid)
            continue;
        if (watch == self)
            child_watch_end(set, watch, named, WATCH_SETTLED);
        else if (watch_pidfd(watch) < 0 ? watch->publishing || !watch->spawned
                                        : watch->publishing || is_gone(target_of(watch)) == 1)
            child_watch_end(set, watch, false,
                            watch_pidfd(watch) >= 0 ? WATCH_SETTLED : WATCH_DOUBTED);
    }
}

/* Returns 0, also if another waiter has reaped it; or -errno: it stays a zombie. */
static int reap(struct target target)
{
    siginfo_t info;
    int result = -EAGAIN;
    for (int tries = 0; tries < WAITID_TRIES && result < 0 && result != -ECHILD; tries++)
        result =
            sys_waitid(target.type, target.id, &info, WEXITED | WNOHANG | target.options, NULL);
    return result == -ECHILD ? 0 : result;
}

int collect_zombie(struct collection *collection, struct target target,
                   const struct exitbus_event *event, const struct child_watch *watch, bool named)
{
    pid_t pid = event->pid;
    probe(PROBE_REAPER_PEEKED);
    int result = -ENOMEM;
    if (mark_publishing(collection, pid, watch))
        result = bus_publish(collection->set->bus, event, 1, NULL);
    if (result < 0) {
        unmark_publishing(collection, pid);
        return result;
    }
    probe(PROBE_REAPER_PUBLISHED);
    collection->published++;
    result = reap(target);
    if (result < 0) /* the next peek would find it again, and it would be published twice */
        collection->error = result;
    probe(PROBE_REAPER_REAPED);
    end_published(collection, pid, watch, named);
    return 0;
}

/* -------------------------------------------------------------------------- watched children */

/*
 * Give up a pidfd that the host has closed, as `peeked` and `info` show: the pid must do from here
 * on. Returns whether it was given up.
 */
static bool pidfd_lost(struct watch_set *set, struct child_watch *watch, int peeked,
                       const siginfo_t *info)
{
    if (watch_pidfd(watch) < 0 || watch_state(watch) != WATCH_COMMITTED)
        return false;
    bool other = peeked == 1 && info->si_pid != watch_pid(watch);
    if (peeked != -EBADF && peeked != -EINVAL && !other)
        return false;
    child_watch_unpoll(set, watch);
    store_relaxed(&watch->pidfd, -1);
    return true;
}

/* Wait for a child that has not exited, or, with `exited`, that can't be published now. */
static void wait_for(struct collection *collection, struct child_watch *watch, bool named,
                     bool exited)
{
    struct watch_set *set = collection->set;
    if (watch_state(watch) == WATCH_RESERVED) { /* its epoll entry is the maker's until commit */
        watch->named = watch->named || named;
        watch_retry_later(set);
        return;
    }
    /* Epoll has named it, yet waitid() finds no exit: its tracer has not seen the exit. */
    watch->traced = !exited && (named || watch->traced || watch->polled) &&
                    watch_pidfd(watch) >= 0 && sys_readable(watch_pidfd(watch));
    /* An exit that can't be collected yet would keep epoll awake, so it waits for the timer. */
    if (exited || watch->traced || named)
        child_watch_unpoll(set, watch);
    if (exited || watch->traced || !child_watch_poll(set, watch))
        watch_retry_later(set);
}

void collect_watched(struct collection *collection, struct child_watch *watch, bool named)
{
    siginfo_t info;
    struct rusage usage;
    struct exitbus_event event;
    int result = collect_peek(target_of(watch), &info, &usage);
    if (unlikely(pidfd_lost(collection->set, watch, result, &info))) {
        named = false;
        result = collect_peek(target_of(watch), &info, &usage);
    }
    if (result == -ECHILD) {
        if (!collect_lost(collection, watch, named))
            wait_for(collection, watch, named, true);
    } else if (result != 1 || !collect_event(&event, &info, &usage)) {
        wait_for(collection, watch, named, result < 0);
    } else if (collect_zombie(collection, target_of(watch), &event, watch, named) < 0) {
        wait_for(collection, watch, named, true);
    }
}
