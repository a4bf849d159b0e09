/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The collection of one child: see collect.h.
 *
 * How it works
 *   - A child is named to waitid() by its pidfd, if its watch has one, else by its pid.
 *   - Where a pid has more watches, they are asked before the peek that counts. Those of earlier
 *     processes end with an exit of their own.
 *   - Before the publish, every watch of the pid is marked; after the reap, all marked watches end.
 *     Watches that arrive in between are settled or doubted: see watch.c, 2 and 3.
 *   - A watch that can't be collected now waits for epoll, or for the timer of its set.
 *   - A foreign process is no child: its handle is told, and nothing is published or reaped.
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
#include "process/details.h"
#include "process/journal.h"
#include "process/process.h"
#include "process/remember.h"
#include "process/task.h"

#include <errno.h>
#include <sys/wait.h>

/* Attempts at waitid(), which a filter may fail for the moment. */
#define WAITID_TRIES 8
/* Attempts at one child, for which more watches are handed over meanwhile. */
#define COLLECT_TRIES 8

/* Besides 0 and -errno: */
enum { COLLECT_ALIVE = 1, COLLECT_ANEW };

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

/* Try more than once. Returns what collect_peek() does. */
static int peek_again(struct target target, siginfo_t *info)
{
    int result = -EAGAIN;
    for (int tries = 0; tries < WAITID_TRIES && result < 0 && result != -ECHILD; tries++)
        result = collect_peek(target, info, NULL);
    return result;
}

/* Returns whether there is no such child any more; false also if waitid() fails. */
static bool is_gone(struct target target)
{
    siginfo_t info;
    return peek_again(target, &info) == -ECHILD;
}

bool collect_event(struct exitbus_event *event, const siginfo_t *info, const struct rusage *usage)
{
    *event = (struct exitbus_event){.kind = EXITBUS_EVENT_PID, .pid = info->si_pid};
    event_set_usage(event, usage);
    return event_from_siginfo(event, info);
}

/* ----------------------------------------------------------------------------- lost children */

/*
 * Publish an event, and complete it: its place, and its times as every copy has them. If there is a
 * journal, it is written there before. Returns 0 or -errno.
 */
static int publish(struct watch_set *set, struct journal *journal, struct exitbus_event *event)
{
    event->monotonic_ns = (uint64_t)sys_clock_ns(CLOCK_MONOTONIC);
    event->realtime_ns = (uint64_t)sys_clock_ns(CLOCK_REALTIME);
    int result = journal ? journal_write(journal, event) : 0;
    return result < 0 ? result : bus_publish(set->bus, event, 1, &event->seq);
}

/* The same for a reaper. */
static int publish_collected(struct collection *collection, struct exitbus_event *event)
{
    int result = publish(collection->set, collection->journal, event);
    if (result == -EBADF) /* the host has closed the journal: nothing can be collected any more */
        collection->error = result;
    return result;
}

/* Make the event of a child that another waiter has reaped. */
static void lost_event(pid_t pid, int pidfd, struct exitbus_event *event)
{
    *event = (struct exitbus_event){.kind = EXITBUS_EVENT_PID, .pid = pid};
    int status;
    if (pidfd < 0 || sys_pidfd_exit_status(pidfd, &status) != 0 ||
        !event_from_status(event, status))
        event_without_status(event);
}

/*
 * Of two watches of one pid whose processes are gone: do they stand for the same process? From
 * Linux 6.9 on a pidfd's inode is the process's own; before, all have one. So are two processes
 * taken for one there, if other waiters have reaped both before the first look.
 */
static bool is_same(const struct child_watch *watch, const struct child_watch *other)
{
    if (watch_pidfd(watch) < 0 || watch_pidfd(other) < 0)
        return true;
    return sys_inode(watch_pidfd(watch)) == sys_inode(watch_pidfd(other));
}

/* End a watch whose exit is published as lost, and the others of that process. */
static void end_lost(struct watch_set *set, struct child_watch *watch, bool named,
                     const struct exitbus_event *event)
{
    pid_t pid = watch_pid(watch);
    watch_absorb(set);
    struct child_watch *next;
    for (struct child_watch *other = watch_find(set, pid); other; other = next) {
        next = other->next;
        if (other == watch || watch_pid(other) != pid)
            continue;
        if (watch_pidfd(other) < 0 &&
            ((other->kind & WATCH_SPAWNED) || child_watch_doubt(set, other, event)))
            continue;
        if (watch_pidfd(other) >= 0 && is_same(other, watch) && is_gone(target_of(other)))
            child_watch_end(set, other, false, event);
    }
    child_watch_end(set, watch, named, event);
}

/* Publish it and end its watches. Returns false if that can't be published now. */
static bool collect_lost(struct collection *collection, struct child_watch *watch, bool named)
{
    struct exitbus_event event;
    lost_event(watch_pid(watch), watch_pidfd(watch), &event);
    if (collection->journal)
        journal_lost(collection->journal, event.pid);
    if (publish_collected(collection, &event) < 0)
        return false;
    if (collection->journal)
        journal_reaped(collection->journal, event.pid);
    collection->published++;
    collection->ended++;
    end_lost(collection->set, watch, named, &event);
    return true;
}

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

/* ----------------------------------------------------------------------------------- zombies */

/*
 * Ask the other watches of the pid. One whose process is gone stands for an earlier process, whose
 * exit is published. If `self` is gone as well it may be the same process, and is left for self.
 * Not `again`: forget what was asked before.
 * Returns 1 if some were asked, which had their process: the next peek is behind that; 0: there was
 * none; or -errno: one could not be published, or asked.
 */
static int collect_earlier(struct collection *collection, pid_t pid, const struct child_watch *self,
                           bool again)
{
    struct watch_set *set = collection->set;
    int asked = 0;
    watch_absorb(set);
    struct child_watch *watch;
    for (watch = watch_find(set, pid); watch && !again; watch = watch->next)
        watch->present = false;
    for (watch = watch_find(set, pid); watch;) {
        siginfo_t info;
        struct child_watch *next = watch->next;
        if (watch != self && watch_pid(watch) == pid && watch_pidfd(watch) >= 0 &&
            !watch->present) {
            int result = peek_again(target_of(watch), &info);
            if (pidfd_lost(set, watch, result, &info)) {
                next = watch; /* nothing to ask any more */
            } else if (result >= 0) {
                watch->present = true;
                asked = 1;
            } else if (result != -ECHILD) {
                return result;
            } else if (!self || !is_same(watch, self) || !is_gone(target_of(self))) {
                if (!collect_lost(collection, watch, false))
                    return -ENOMEM;
                next = watch_find(set, pid); /* that may have ended any other but self */
            }
        }
        watch = next;
    }
    return asked;
}

/*
 * Behind the peek: mark every watch of the pid as publishing. They stand for this zombie, or have
 * no pidfd to tell. Returns false if a pidfd has come since collect_earlier(): some are marked.
 */
static bool mark_publishing(struct collection *collection, pid_t pid,
                            const struct child_watch *self)
{
    watch_absorb(collection->set);
    for (struct child_watch *watch = watch_find(collection->set, pid); watch; watch = watch->next) {
        if (watch_pid(watch) != pid)
            continue;
        if (watch != self && watch_pidfd(watch) >= 0 && !watch->present)
            return false;
        if (watch->kind & WATCH_IN_HANDLE)
            task_before_exit(process_of(watch));
        watch->publishing = true;
    }
    return true;
}

static void unmark_publishing(struct collection *collection, pid_t pid)
{
    for (struct child_watch *watch = watch_find(collection->set, pid); watch; watch = watch->next)
        watch->publishing = false;
}

/*
 * End the watches of a zombie that was published, and `reaped`, and those handed in meanwhile: see
 * watch.c, 3. With a pidfd, the kernel says whether its process is the one reaped. A watch without
 * one, which spawn has reserved meanwhile, stands for a new child, because the pid was taken until
 * now.
 */
static void end_published(struct collection *collection, const struct exitbus_event *event,
                          const struct child_watch *self, bool named, bool reaped)
{
    struct watch_set *set = collection->set;
    pid_t pid = event->pid;
    watch_absorb(set);
    struct child_watch *next;
    for (struct child_watch *watch = watch_find(set, pid); watch; watch = next) {
        next = watch->next;
        if (watch_pid(watch) != pid)
            continue;
        if (watch == self) {
            child_watch_end(set, watch, named, event);
            continue;
        }
        bool by_pid = watch->publishing || !(watch->kind & WATCH_SPAWNED);
        if (watch_pidfd(watch) < 0 && watch_state(watch) == WATCH_RESERVED &&
            (!by_pid || child_watch_doubt(set, watch, event)))
            continue;
        bool by_pidfd = watch->publishing && (watch->present || !reaped);
        if (watch_pidfd(watch) < 0 ? by_pid : by_pidfd || is_gone(target_of(watch)))
            child_watch_end(set, watch, false, event);
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

int collect_zombie(struct collection *collection, struct target target, struct exitbus_event *event,
                   const struct child_watch *watch, bool named)
{
    pid_t pid = event->pid;
    probe(PROBE_REAPER_PEEKED);
    struct exitbus_process *remembered;
    if (!remember_prepare(collection->set, pid, watch ? watch_pidfd(watch) : -1, &remembered))
        return -ENOMEM;
    if (collection->details)
        details_add(collection->set, target, watch ? watch_pidfd(watch) : -1, event);
    int result = COLLECT_ANEW;
    if (mark_publishing(collection, pid, watch))
        result = publish_collected(collection, event);
    remember_exit(collection->set, remembered, result == 0 ? event : NULL);
    if (result != 0) {
        unmark_publishing(collection, pid);
        return result;
    }
    probe(PROBE_REAPER_PUBLISHED);
    collection->published++;
    collection->ended++;
    result = reap(target);
    if (result < 0) /* the next peek would find it again, and it would be published twice */
        collection->error = result;
    else if (collection->journal)
        journal_reaped(collection->journal, pid);
    probe(PROBE_REAPER_REAPED);
    end_published(collection, event, watch, named, result == 0);
    return 0;
}

/* -------------------------------------------------------------------------- foreign processes */

/* How long a foreign process may stay a zombie until its exit is told without a status. */
#define GIVE_UP_NS 200000000LL

/* Tell the handle of a foreign process that has ended. */
static void end_foreign(struct collection *collection, struct child_watch *watch, const int *status)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID,
                                  .pid = process_pid(process_of(watch)),
                                  .monotonic_ns = (uint64_t)sys_clock_ns(CLOCK_MONOTONIC),
                                  .realtime_ns = (uint64_t)sys_clock_ns(CLOCK_REALTIME)};
    if (!status || !event_from_status(&event, *status))
        event_without_status(&event);
    child_watch_end(collection->set, watch, false, &event);
    collection->ended++;
}

/*
 * Wait for the parent of a foreign process to reap it: only then does the kernel tell its status.
 * The kernel hangs the pidfd up at that moment. The timer is for a parent that does not reap.
 * Returns false if that takes too long.
 */
static bool wait_for_reap(struct watch_set *set, struct child_watch *watch)
{
    struct exitbus_process *process = process_of(watch);
    int64_t now = sys_clock_ns(CLOCK_MONOTONIC);
    if (!watch->ending)
        process->give_up_ns = now + GIVE_UP_NS;
    watch->ending = true;
    if (now >= process->give_up_ns)
        return false;
    if (watch->polled)
        sys_epoll_await_hangup(set->epoll_fd, watch_pidfd(watch), watch_key(watch));
    watch_retry_later(set);
    return true;
}

/* Look at a foreign process. */
static void collect_foreign(struct collection *collection, struct child_watch *watch, bool named)
{
    struct watch_set *set = collection->set;
    int pidfd = watch_pidfd(watch), status;
    int readable = sys_readable(pidfd);
    if (readable < 0 && sys_pidfd_signal(pidfd, 0, false) == -ESRCH)
        readable = 1; /* it was reaped */
    /* Its epoll entry is the maker's until commit. Without an answer it waits for the timer. */
    if (watch_state(watch) == WATCH_RESERVED || readable < 0) {
        watch->named = watch->named || named;
        watch_retry_later(set);
    } else if (!readable) {
        if (named)
            child_watch_unpoll(set, watch);
        if (!child_watch_poll(set, watch))
            watch_retry_later(set);
    } else {
        int result = sys_pidfd_exit_status(pidfd, &status);
        if (result != -ENODATA || !wait_for_reap(set, watch))
            end_foreign(collection, watch, result == 0 ? &status : NULL);
    }
}

/* -------------------------------------------------------------------------- watched children */

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
                    watch_pidfd(watch) >= 0 && sys_readable(watch_pidfd(watch)) != 0;
    /* An exit that can't be collected yet would keep epoll awake, so it waits for the timer. */
    if (exited || watch->traced || named)
        child_watch_unpoll(set, watch);
    if (exited || watch->traced || !child_watch_poll(set, watch))
        watch_retry_later(set);
}

/*
 * Look at a child, by its watch or only by its pid (`watch` is NULL), and collect it if it has
 * exited. Returns 0; COLLECT_ALIVE; COLLECT_ANEW; or -errno: not now.
 */
static int collect_once(struct collection *collection, pid_t pid, struct child_watch *watch,
                        bool *named, bool again)
{
    siginfo_t info;
    struct rusage usage;
    struct exitbus_event event;
    struct target target = watch ? target_of(watch) : (struct target){P_PID, pid, 0};
    int result = collect_peek(target, &info, &usage);
    if (watch && unlikely(pidfd_lost(collection->set, watch, result, &info))) {
        *named = false;
        target = target_of(watch);
        result = collect_peek(target, &info, &usage);
    }
    if (result == 0)
        return COLLECT_ALIVE;
    if (result < 0 && result != -ECHILD)
        return result;
    /* The same before commit, when the pidfd is the maker's still. */
    if (watch && unlikely(result > 0 && info.si_pid != watch_pid(watch)))
        return -EAGAIN;
    int asked = collect_earlier(collection, pid, watch, again);
    if (asked < 0)
        return asked;
    if (asked)
        result = collect_peek(target, &info, &usage);
    if (result == -ECHILD && !watch) {
        if (collection->journal)
            journal_reaped(collection->journal, pid);
        return 0;
    }
    if (result == -ECHILD)
        return collect_lost(collection, watch, *named) ? 0 : -ENOMEM;
    if (result < 0)
        return result;
    if (result == 0 || !collect_event(&event, &info, &usage))
        return COLLECT_ALIVE;
    return collect_zombie(collection, target, &event, watch, *named);
}

int collect_watched(struct collection *collection, struct child_watch *watch, bool named)
{
    if (watch->kind & WATCH_FOREIGN) {
        collect_foreign(collection, watch, named);
        return 0;
    }
    pid_t pid = watch_pid(watch);
    int result = COLLECT_ANEW;
    for (int tries = 0; tries < COLLECT_TRIES && result == COLLECT_ANEW; tries++)
        result = collect_once(collection, pid, watch, &named, tries > 0);
    if (result == COLLECT_ANEW)
        result = -EAGAIN;
    if (result != 0)
        wait_for(collection, watch, named, result < 0);
    return result < 0 ? result : 0;
}

int collect_direct(struct watch_set *set, pid_t pid, int pidfd, struct exitbus_event *event,
                   bool *reaped)
{
    struct target target = {P_PIDFD, pidfd, __WALL};
    siginfo_t info;
    struct rusage usage;
    int result = collect_peek(target, &info, &usage);
    *reaped = true;
    if (result == -ECHILD) {
        lost_event(pid, pidfd, event);
        return publish(set, NULL, event);
    }
    if (result < 0)
        return result;
    if (result > 0 && info.si_pid != pid)
        return -EBADF; /* the host has closed the pidfd, and its number is another process's */
    if (result == 0 || !collect_event(event, &info, &usage))
        return COLLECT_ALIVE;
    result = publish(set, NULL, event);
    if (result == 0)
        *reaped = reap(target) == 0;
    return result;
}

int collect_by_pid(struct collection *collection, pid_t pid)
{
    bool named = false;
    int result = collect_once(collection, pid, NULL, &named, false);
    return result < 0 ? result : 0;
}
