/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Watched children: see watch.h. This is why an exit is published once, and never missed.
 *
 * Several watches can stand for one process: that of its spawner, and those of other threads that
 * watch its pid. And a pid can stand for two processes, one after the other.
 *  1. A maker reserves its watch before it looks at the child (watch), or before the child exists
 *     (spawn). The reaper reaps a child after it has published. So a maker that still saw the child
 *     had its watch in the set before that child was reaped.
 *  2. The reaper publishes an exit while the child is a zombie, so the pid is that child's alone.
 *     Before that it absorbs the list and marks every watch of the pid as publishing. Watches whose
 *     pidfd said before the peek that their process is gone stand for an earlier process. To ask
 *     behind the peek would not do: another waiter may just have taken this child. So a watch whose
 *     pidfd has come since then makes the reaper begin anew.
 *  3. After the reap it absorbs once more. By 1 every watch made for that child is in the set now.
 *     A reserved one without a pidfd may be for the next child of that pid. So it is doubted, by a
 *     CAS. Then its maker's commit fails, and the maker looks at the child again.
 *  4. Two threads never own one watch. A single CAS ends RESERVED, and the new state names the
 *     owner: see enum watch_state.
 *  5. Epoll names a watch by pid and cookie, never by address. A late name is looked up and not
 *     found.
 *  6. A maker that is stopped anywhere delays no thread: its reserved watch is one entry of a list.
 */
#include "process/watch.h"
#include "process/group.h"
#include "process/task.h"

#include <errno.h>

/* Between attempts to publish what lacked memory: 10 ms, doubled up to 1 s. */
#define RETRY_FIRST_NS 10000000LL
#define RETRY_LONGEST_NS 1000000000LL
/* Aborted watches that may lie in the table before a sweep; a pass sees only a few buckets. */
#define SWEEP_FROM 256
/* Attempts at a system call that a filter or a signal may fail for the moment. */
#define TRIES 8

/* ---------------------------------------------------------------------------------- the set */

struct watch_set *watch_set_create(struct exitbus *bus)
{
    struct watch_set *set = memory_map(&bus->core.memory, sizeof *set, CACHE_LINE);
    if (!set)
        return NULL;
    memset((void *)set, 0, sizeof *set);
    set->bus = bus;
    atomic_init(&set->references, 1);
    set->epoll_fd = set->wake_fd = set->timer_fd = -1;
    atomic_init(&set->ended_fd, -1);
    return set;
}

/* Make a descriptor for *fd unless it is open. Returns 1 if it is new, 0 if not, or -errno. */
static int renew(int *fd, int (*make)(void))
{
    if (sys_fd_open(*fd))
        return 0;
    int fresh = make();
    if (fresh < 0)
        return fresh;
    *fd = fresh;
    return 1;
}

static int make_wake_fd(void)
{
    return sys_eventfd(false);
}

int watch_set_open(struct watch_set *set)
{
    int new_epoll = renew(&set->epoll_fd, sys_epoll_create);
    if (new_epoll < 0)
        return new_epoll;
    if (new_epoll)
        set->repoll = true;
    struct {
        int *fd;
        int (*make)(void);
        uint64_t key;
    } sources[] = {{&set->wake_fd, make_wake_fd, WATCH_KEY_WAKE},
                   {&set->timer_fd, sys_timerfd, WATCH_KEY_TIMER}};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        int fresh = renew(sources[i].fd, sources[i].make);
        if (fresh < 0)
            return fresh;
        if (!fresh && !new_epoll)
            continue;
        if (fresh && sources[i].fd == &set->timer_fd)
            set->put_off = false, set->armed_ns = 0; /* what was put off waits for a rescan */
        int result = sys_epoll_add(set->epoll_fd, *sources[i].fd, false, sources[i].key);
        if (result < 0 && result != -EEXIST)
            return result;
    }
    return 0;
}

void watch_set_close(struct watch_set *set)
{
    int *fds[] = {&set->epoll_fd, &set->wake_fd, &set->timer_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (sys_fd_open(*fds[i])) /* the host may have closed it */
            sys_close(*fds[i]);
        *fds[i] = -1;
    }
    int ended_fd = load_relaxed(&set->ended_fd); /* a set that is not needed has no direct wait */
    if (ended_fd >= 0)
        sys_close(ended_fd);
    store_relaxed(&set->ended_fd, -1);
    set->put_off = false;
    set->retry_ns = set->armed_ns = 0;
}

int watch_set_wake(struct watch_set *set)
{
    return sys_eventfd_add_again(set->wake_fd);
}

/* ------------------------------------------------------------------------------- for makers */

/*
 * Free a watch. Context: its owner, with the watch in no list. The pool's stack wants a grace
 * period between take and give.
 */
static void child_watch_destroy(struct watch_set *set, struct child_watch *watch)
{
    /* The maker of an aborted one has subtracted it from `kept` already. */
    bool kept = watch_is_kept(watch) && watch_state(watch) != WATCH_ABORTED;
    if (watch->kind & WATCH_IN_HANDLE) {
        process_release(process_of(watch));
    } else {
        reclaim_enter();
        memory_retire(&set->bus->core.memory, SMALL_CLASS, watch);
        reclaim_leave();
    }
    /* Release, so that this thread has done with the set's descriptors. */
    if (kept)
        fetch_sub_release(&set->kept, 1);
}

/* Put a watch where the next pass lists it. */
static void push(struct watch_set *set, struct child_watch *watch)
{
    struct child_watch *top = load_relaxed(&set->incoming);
    do
        watch->next = top;
    /* Release; pairs with watch_absorb(). */
    while (!cas_weak_seq_cst(&set->incoming, &top, watch));
}

void child_watch_enter(struct watch_set *set, struct child_watch *watch, pid_t pid, unsigned kind)
{
    if (load_relaxed(&watch->pid) != pid || !(kind & WATCH_IN_HANDLE))
        atomic_init(&watch->pid, pid);
    if (!(kind & WATCH_IN_HANDLE)) /* a handle has its pidfd already, or -1 */
        atomic_init(&watch->pidfd, -1);
    atomic_init(&watch->state, WATCH_RESERVED);
    watch->cookie = fetch_add_relaxed(&set->cookies, 1);
    if (watch->kind != kind) /* a direct handle is entered beside threads that read it */
        watch->kind = (uint8_t)kind;
    watch->polled = watch->named = watch->traced = watch->publishing = watch->present = false;
    watch->ending = false;
    if (watch_is_kept(watch))
        fetch_add_relaxed(&set->kept, 1);
    push(set, watch);
}

struct child_watch *child_watch_reserve(struct watch_set *set, pid_t pid, unsigned kind)
{
    reclaim_enter();
    struct child_watch *watch = memory_alloc(&set->bus->core.memory, SMALL_CLASS);
    reclaim_leave();
    if (watch)
        child_watch_enter(set, watch, pid, kind);
    return watch;
}

/* End RESERVED for the maker. Returns false if the reaper has settled or doubted the watch. */
static bool end_reservation(struct child_watch *watch, enum watch_state to)
{
    uint32_t reserved = WATCH_RESERVED;
    /* Release; pairs with watch_state(). On failure acquire; pairs with end_unlinked(). */
    return cas_acq_rel_else_acquire(&watch->state, &reserved, to);
}

/*
 * Returns whether the process is still a child of ours. Where waitid() is refused it is taken to be
 * gone: an exit of its pid was published, and hardly ever is that an earlier child's.
 */
static bool is_child(pid_t pid, int pidfd)
{
    int result = pidfd == -ESRCH ? -ECHILD : -EAGAIN;
    for (int tries = 0; tries < TRIES && result < 0 && result != -ECHILD; tries++)
        result = sys_find_child(pid, pidfd);
    return result == 0;
}

/* Hand a doubted watch of spawn's over again: the exit published was an earlier process's. */
static void enter_again(struct watch_set *set, struct child_watch *watch)
{
    child_watch_unpoll(set, watch); /* its name may have come, and found no watch */
    watch->named = watch->traced = watch->publishing = watch->present = false;
    store_relaxed(&watch->state, WATCH_COMMITTED);
    push(set, watch);
    fetch_or_seq_cst(&set->rescan, RESCAN_UNPOLLED);
    watch_set_wake(set);
}

/* The end of a commit of a watch that the reaper has settled or doubted. */
static bool finish_commit(struct watch_set *set, struct child_watch *watch, int pidfd)
{
    bool settled = watch_state(watch) == WATCH_SETTLED;
    if (!settled && (watch->kind & WATCH_SPAWNED)) {
        if (is_child(watch_pid(watch), pidfd)) {
            enter_again(set, watch);
            return true;
        }
        settled = true;
        if (watch->kind & WATCH_IN_HANDLE)
            outcome_settle(&process_of(watch)->outcome, OUTCOME_TOLD);
    }
    child_watch_unpoll(set, watch);
    if (pidfd >= 0 && !(watch->kind & WATCH_IN_HANDLE))
        sys_close(pidfd);
    child_watch_destroy(set, watch);
    return settled;
}

bool child_watch_commit(struct watch_set *set, struct child_watch *watch, int pidfd)
{
    probe(PROBE_WATCH_COMMITTING);
    /* Release; pairs with watch_pidfd(). Before the epoll set can name the watch. */
    store_release(&watch->pidfd, pidfd);
    bool polled = pidfd >= 0 && sys_epoll_add(set->epoll_fd, pidfd, true, watch_key(watch)) == 0;
    watch->polled = polled;
    probe(PROBE_WATCH_POLLED);
    if (end_reservation(watch, WATCH_COMMITTED)) {
        if (!polled) { /* no pidfd, no memory for it, or no epoll: the reaper polls it itself */
            fetch_or_seq_cst(&set->rescan, RESCAN_UNPOLLED);
            watch_set_wake(set);
        }
        return true;
    }
    return finish_commit(set, watch, pidfd);
}

void child_watch_abort(struct watch_set *set, struct child_watch *watch)
{
    bool kept = watch_is_kept(watch);
    if (!end_reservation(watch, WATCH_ABORTED)) {
        child_watch_destroy(set, watch);
        return;
    }
    fetch_add_relaxed(&set->aborted, 1);
    watch_set_wake(set); /* or aborted ones would accumulate until a child exits */
    if (kept)
        fetch_sub_release(&set->kept, 1);
}

/* --------------------------------------------------------------------------- for the reaper */

/* Put the watches of a list where a pass finds them, and drop those that were aborted. */
static void list_watches(struct watch_set *set, struct child_watch *watch)
{
    struct child_watch *next;
    for (; watch; watch = next) {
        next = watch->next;
        if (watch_state(watch) == WATCH_ABORTED) {
            child_watch_destroy(set, watch);
            continue;
        }
        pid_t pid = watch_pid(watch);
        struct child_watch **list = pid != 0 ? watch_bucket(set, pid) : &set->unborn;
        watch->next = *list;
        *list = watch;
    }
}

void watch_absorb(struct watch_set *set)
{
    struct child_watch *unborn = set->unborn; /* some have a pid by now */
    set->unborn = NULL;
    list_watches(set, unborn);
    /* Look before the exchange, which would take the line from makers. */
    if (load_seq_cst(&set->incoming))
        /* Acquire; pairs with child_watch_reserve(). */
        list_watches(set, exchange_seq_cst(&set->incoming, NULL));
}

/* Drop the aborted watches of a bucket. */
static void drop_aborted(struct watch_set *set, struct child_watch **link)
{
    while (*link) {
        struct child_watch *watch = *link;
        if (watch_state(watch) == WATCH_ABORTED) {
            *link = watch->next;
            child_watch_destroy(set, watch);
        } else {
            link = &watch->next;
        }
    }
}

void watch_sweep(struct watch_set *set)
{
    if (load_relaxed(&set->aborted) < SWEEP_FROM)
        return;
    store_relaxed(&set->aborted, 0);
    watch_absorb(set);
    for (size_t i = 0; i < WATCH_BUCKETS; i++)
        drop_aborted(set, &set->buckets[i]);
}

struct child_watch *watch_find(struct watch_set *set, pid_t pid)
{
    struct child_watch **bucket = watch_bucket(set, pid);
    drop_aborted(set, bucket);
    struct child_watch *watch = *bucket;
    while (watch && watch_pid(watch) != pid)
        watch = watch->next;
    return watch;
}

struct child_watch *watch_of_key(struct watch_set *set, uint64_t key)
{
    struct child_watch *watch = *watch_bucket(set, (pid_t)(key >> 32));
    while (watch && (watch->cookie != (uint32_t)key || watch_state(watch) == WATCH_ABORTED))
        watch = watch->next;
    return watch;
}

/* Closing the pidfd would not do: a forked child may have a copy, which keeps the entry. */
void child_watch_unpoll(struct watch_set *set, struct child_watch *watch)
{
    /* An error means that the host has closed one of the two, or that epoll has no such entry. Then
     * the key names nothing any more, and a late name is dropped. */
    if (watch->polled)
        for (int tries = 0; tries < TRIES; tries++)
            if (sys_epoll_delete(set->epoll_fd, watch_pidfd(watch)) != -EINTR)
                break;
    watch->polled = false;
}

bool child_watch_poll(struct watch_set *set, struct child_watch *watch)
{
    if (watch->polled)
        return true;
    pid_t pid = watch_pid(watch);
    if (watch_pidfd(watch) < 0) {
        /* The caller has just seen the child, and only the reaper reaps it. So the pid still stands
         * for that child, unless the host waits for our children, too: then it may be a stranger's
         * by now. */
        int pidfd = sys_pidfd_open(pid);
        if (pidfd < 0)
            return false;
        if (sys_find_child(0, pidfd) == -ECHILD) {
            sys_close(pidfd);
            return false;
        }
        /* Release; pairs with watch_pidfd(), on a thread that signals the process. */
        store_release(&watch->pidfd, pidfd);
    }
    watch->polled = sys_epoll_add(set->epoll_fd, watch_pidfd(watch), true, watch_key(watch)) == 0;
    return watch->polled;
}

static void unlink_watch(struct watch_set *set, struct child_watch *watch)
{
    struct child_watch **link = watch_bucket(set, watch_pid(watch));
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
}

/* End a watch that is in no list any more: leave it to its maker, or free it. */
static void end_unlinked(struct watch_set *set, struct child_watch *watch, bool named,
                         const struct exitbus_event *event)
{
    uint32_t reserved = WATCH_RESERVED;
    bool in_handle = watch->kind & WATCH_IN_HANDLE;
    if (in_handle) /* first: its maker may free it */
        process_end(process_of(watch), event);
    /* Release; pairs with end_reservation(), whose thread frees the watch then. On failure
     * acquire; pairs with the same. */
    if (cas_acq_rel_else_acquire(&watch->state, &reserved, WATCH_SETTLED))
        return;
    if (!named || in_handle) /* a handle keeps the descriptor, and with it the entry */
        child_watch_unpoll(set, watch);
    if (!in_handle && watch_pidfd(watch) >= 0 && watch_state(watch) == WATCH_COMMITTED)
        sys_close(watch_pidfd(watch));
    child_watch_destroy(set, watch);
}

void child_watch_end(struct watch_set *set, struct child_watch *watch, bool named,
                     const struct exitbus_event *event)
{
    unlink_watch(set, watch);
    end_unlinked(set, watch, named, event);
}

bool child_watch_doubt(struct watch_set *set, struct child_watch *watch,
                       const struct exitbus_event *event)
{
    uint32_t reserved = WATCH_RESERVED;
    pid_t pid = watch_pid(watch);
    unlink_watch(set, watch); /* first: its maker may free it */
    if (watch->kind & WATCH_IN_HANDLE)
        outcome_note(&process_of(watch)->outcome, event);
    /* As in end_unlinked(). */
    if (cas_acq_rel_else_acquire(&watch->state, &reserved, WATCH_DOUBTED))
        return true;
    struct child_watch **bucket = watch_bucket(set, pid);
    watch->next = *bucket;
    *bucket = watch;
    return false;
}

void watch_retry_later(struct watch_set *set)
{
    if (set->put_off)
        return;
    set->put_off = true;
    set->retry_ns = set->retry_ns == 0                      ? RETRY_FIRST_NS
                    : set->retry_ns * 2 <= RETRY_LONGEST_NS ? set->retry_ns * 2
                                                            : RETRY_LONGEST_NS;
    set->retry_at_ns = sys_clock_ns(CLOCK_MONOTONIC) + set->retry_ns;
    if (watch_expire_at(set, set->retry_at_ns))
        return;
    set->put_off = false; /* without a timer the next pass of any kind makes the attempt */
    fetch_or_relaxed(&set->rescan, RESCAN_UNPOLLED);
}

bool watch_expire_at(struct watch_set *set, int64_t at_ns)
{
    int64_t now_ns = sys_clock_ns(CLOCK_MONOTONIC), delay_ns = at_ns - now_ns;
    /* One that is overdue may have been closed by the host. */
    if (set->armed_ns > now_ns && set->armed_ns <= at_ns)
        return true;
    for (int tries = 0; tries < TRIES; tries++)
        if (sys_timerfd_arm(set->timer_fd, delay_ns > 0 ? delay_ns : 1) == 0) {
            set->armed_ns = at_ns;
            return true;
        }
    return false;
}

bool watch_expired(struct watch_set *set)
{
    set->armed_ns = 0;
    if (!set->put_off)
        return false;
    if (sys_clock_ns(CLOCK_MONOTONIC) >= set->retry_at_ns ||
        !watch_expire_at(set, set->retry_at_ns))
        return true;
    return false;
}

void watch_end_withdrawn(struct watch_set *set)
{
    if (!load_seq_cst(&set->withdrawn))
        return;
    /* Acquire; pairs with process_withdraw(). */
    struct exitbus_process *process = exchange_seq_cst(&set->withdrawn, NULL);
    watch_absorb(set);
    while (process) {
        struct exitbus_process *next = process->next_withdrawn;
        if (process_is_running(process))
            child_watch_end(set, &process->watch, false, NULL);
        process_release(process);
        process = next;
    }
}

static void drop_list(struct watch_set *set, struct child_watch **list, bool also_kept)
{
    for (struct child_watch **link = list; *link;) {
        struct child_watch *watch = *link;
        if (watch_is_kept(watch) && !also_kept) {
            link = &watch->next;
            continue;
        }
        *link = watch->next;
        end_unlinked(set, watch, false, NULL);
    }
}

void watch_drop(struct watch_set *set, bool also_kept)
{
    watch_absorb(set);
    drop_list(set, &set->unborn, also_kept);
    for (size_t i = 0; i < WATCH_BUCKETS; i++)
        drop_list(set, &set->buckets[i], also_kept);
    if (also_kept) {
        groups_drop(set);
        tasks_drop(set);
    }
    watch_end_withdrawn(set); /* last: process.c, 4 */
}

void watch_set_release(struct watch_set *set)
{
    /* Acquire and release; pairs with itself: the last thread sees what the others did. */
    if (fetch_sub_acq_rel(&set->references, 1) != 1)
        return;
    watch_drop(set, true);
    watch_set_close(set);
    memory_unmap(&set->bus->core.memory, set, sizeof *set);
}
