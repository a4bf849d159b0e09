/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The children that a reaper watches: see watch.h.
 *
 * Why an exit is published once. Several watches can stand for one process: its spawner's, and
 * those of threads that have learned its pid. And a pid can stand for two processes, one after the
 * other.
 *  1. A maker reserves its watch before it looks at the child (watch) or before the child exists
 *     (spawn). So a maker that still saw the child had its watch in the set before the reaper could
 *     reap that child, because the reaper reaps after it has published.
 *  2. The reaper publishes an exit while the child is a zombie, so the pid is that child's alone.
 *     Before that it absorbs the list and marks every watch of the pid as leaving, except those
 *     whose pidfd says that their process is gone: they stand for an earlier process.
 *  3. After the reap it absorbs once more. By 1 every watch that its maker made for that child is
 *     in the set now. A reserved one without a pidfd may be for the next child of that pid: it is
 *     doubted, by a CAS that its maker's commit can't pass over, and the maker looks at the child
 *     once more and reserves anew, or finds that there is none.
 * A watch is never left to two threads: RESERVED is left by one CAS, the maker's or the reaper's,
 * and then the watch belongs to the one named in enum watch_state.
 *
 * Keys. epoll names a watch by its pid and a cookie, never by its address, so that a name that
 * comes late is looked up, not found, and dropped.
 *
 * A maker stopped anywhere delays nobody: what it has reserved is one entry in a list.
 */
#include "process/watch.h"

#include <errno.h>

/* Between attempts to publish what lacked memory. */
#define RETRY_FIRST_NS 10000000LL
#define RETRY_LONGEST_NS 1000000000LL
/* Aborted watches that may lie in buckets that nobody looks into. */
#define SWEEP_FROM 256

static uint64_t watch_key(const struct child_watch *watch, pid_t pid)
{
    return (uint64_t)(uint32_t)pid << 32 | watch->cookie;
}

/* ---------------------------------------------------------------------------------- the set */

struct watch_set *watch_set_new(struct exitbus *bus)
{
    struct watch_set *set = memory_map(&bus->core.memory, sizeof *set, CACHE_LINE);
    if (!set)
        return NULL;
    memset((void *)set, 0, sizeof *set);
    set->bus = bus;
    set->epoll_fd = set->wake_fd = set->timer_fd = -1;
    return set;
}

void watch_set_free(struct watch_set *set)
{
    watch_drop(set, true);
    watch_set_close(set);
    memory_unmap(&set->bus->core.memory, set, sizeof *set);
}

/* Take a fresh descriptor for *fd unless there is one. Returns 1 if it is new, 0, or -errno. */
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
            set->put_off = false; /* what was put off waits for a rescan */
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
        if (sys_fd_open(*fds[i])) /* the host may have closed it: the number is not ours then */
            sys_close(*fds[i]);
        *fds[i] = -1;
    }
    set->put_off = false;
    set->retry_ns = 0;
}

int watch_set_wake(struct watch_set *set)
{
    return sys_eventfd_add_again(set->wake_fd);
}

/* -------------------------------------------------------------------------------- the maker */

/* Its owner lets a watch go. The pool's stack wants a grace period between take and give. */
static void watch_discard(struct watch_set *set, struct child_watch *watch)
{
    /* One that was aborted its maker has counted out. */
    bool spawned = watch->spawned && watch_state(watch) != WATCH_ABORTED;
    reclaim_enter();
    memory_retire(&set->bus->core.memory, WATCH_CLASS, watch);
    reclaim_leave();
    /* Release; pairs with set_needed(): what this thread did with the set's descriptors is done. */
    if (spawned)
        fetch_sub_release(&set->spawned, 1);
}

struct child_watch *watch_reserve(struct watch_set *set, pid_t pid, bool spawned)
{
    reclaim_enter();
    struct child_watch *watch = memory_take(&set->bus->core.memory, WATCH_CLASS);
    reclaim_leave();
    if (!watch)
        return NULL;
    atomic_init(&watch->pid, pid);
    atomic_init(&watch->pidfd, -1);
    atomic_init(&watch->state, WATCH_RESERVED);
    watch->cookie = fetch_add_relaxed(&set->cookies, 1);
    watch->spawned = spawned;
    watch->polled = watch->held = watch->leaving = watch->named = false;
    if (spawned)
        fetch_add_relaxed(&set->spawned, 1);
    struct child_watch *top = load_relaxed(&set->incoming);
    do
        watch->next = top;
    /* Release; pairs with the exchange in watch_absorb(). */
    while (!cas_weak_seq_cst(&set->incoming, &top, watch));
    return watch;
}

/* The maker's change of state. False: the reaper has settled the watch. */
static bool leave_reserved(struct child_watch *watch, enum watch_state to)
{
    uint32_t reserved = WATCH_RESERVED;
    /* Release; pairs with watch_state(). Acquire where the reaper was faster, and so is done. */
    return cas_acq_rel_else_acquire(&watch->state, &reserved, to);
}

bool watch_commit(struct watch_set *set, struct child_watch *watch, int pidfd)
{
    pid_t pid = watch_pid(watch);
    /* Release; pairs with watch_pidfd(). Before epoll can name the watch. */
    store_release(&watch->pidfd, pidfd);
    bool polled =
        pidfd >= 0 && sys_epoll_add(set->epoll_fd, pidfd, true, watch_key(watch, pid)) == 0;
    watch->polled = polled;
    probe(PROBE_WATCH_POLLED);
    if (leave_reserved(watch, WATCH_COMMITTED)) {
        if (!polled) { /* no memory for it, or no epoll any more: the reaper sees to it */
            fetch_or_seq_cst(&set->rescan, RESCAN_UNPOLLED);
            watch_set_wake(set);
        }
        return true;
    }
    bool settled = watch_state(watch) == WATCH_SETTLED;
    watch_unpoll(set, watch);
    if (pidfd >= 0)
        sys_close(pidfd);
    watch_discard(set, watch);
    return settled;
}

void watch_abort(struct watch_set *set, struct child_watch *watch)
{
    bool spawned = watch->spawned;
    if (!leave_reserved(watch, WATCH_ABORTED)) {
        watch_discard(set, watch);
        return;
    }
    fetch_add_relaxed(&set->aborted, 1);
    watch_set_wake(set); /* or aborted ones would gather until a child exits */
    if (spawned)
        fetch_sub_release(&set->spawned, 1);
}

/* ------------------------------------------------------------------------------- the reaper */

static void watch_list(struct watch_set *set, struct child_watch *watch)
{
    pid_t pid = watch_pid(watch);
    struct child_watch **list = pid > 0 ? watch_bucket(set, pid) : &set->unborn;
    watch->next = *list;
    *list = watch;
}

/* Those that have got their pid since go to their bucket. */
static void absorb_unborn(struct watch_set *set)
{
    struct child_watch *watch = set->unborn, *next;
    set->unborn = NULL;
    for (; watch; watch = next) {
        next = watch->next;
        if (watch_state(watch) == WATCH_ABORTED)
            watch_discard(set, watch);
        else
            watch_list(set, watch);
    }
}

void watch_absorb(struct watch_set *set)
{
    if (set->unborn)
        absorb_unborn(set);
    if (!load_seq_cst(&set->incoming))
        return;
    struct child_watch *watch = exchange_seq_cst(&set->incoming, NULL);
    struct child_watch *next;
    for (; watch; watch = next) {
        next = watch->next;
        if (watch_state(watch) == WATCH_ABORTED)
            watch_discard(set, watch);
        else
            watch_list(set, watch);
    }
}

/* Drop aborted watches of a bucket on the way. */
static void drop_aborted(struct watch_set *set, struct child_watch **link)
{
    while (*link) {
        struct child_watch *watch = *link;
        if (watch_state(watch) == WATCH_ABORTED) {
            *link = watch->next;
            watch_discard(set, watch);
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

/* Closing would not do while a forked child has a copy of the pidfd. */
void watch_unpoll(struct watch_set *set, struct child_watch *watch)
{
    /* Where it fails the host has closed one of the two, or epoll has no such entry: then the key
     * names nothing any more, and a name that comes all the same is dropped. */
    if (watch->polled)
        for (int tries = 0; tries < 8; tries++)
            if (sys_epoll_delete(set->epoll_fd, watch_pidfd(watch)) != -EINTR)
                break;
    watch->polled = false;
}

static void set_pidfd(struct child_watch *watch, int pidfd)
{
    store_relaxed(&watch->pidfd, pidfd); /* the reaper's own now */
}

bool watch_poll(struct watch_set *set, struct child_watch *watch)
{
    if (watch->polled)
        return true;
    pid_t pid = watch_pid(watch);
    if (watch_pidfd(watch) < 0) {
        /* The caller has just seen the child, and only the reaper reaps it. So the pid is still its
         * own, unless the host waits for our children, too. */
        int pidfd = sys_pidfd_open(pid);
        if (pidfd < 0)
            return false;
        set_pidfd(watch, pidfd);
    }
    watch->polled =
        sys_epoll_add(set->epoll_fd, watch_pidfd(watch), true, watch_key(watch, pid)) == 0;
    return watch->polled;
}

static void watch_unlink(struct watch_set *set, struct child_watch *watch)
{
    struct child_watch **link = watch_bucket(set, watch_pid(watch));
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
}

/* It is in no list any more. */
static void watch_let_go(struct watch_set *set, struct child_watch *watch, bool named,
                         enum watch_state to)
{
    uint32_t reserved = WATCH_RESERVED;
    /* Release; pairs with the acquire in leave_reserved(): the maker frees it. Acquire where the
     * maker was faster; pairs with its release. */
    if (cas_acq_rel_else_acquire(&watch->state, &reserved, to))
        return;
    if (!named)
        watch_unpoll(set, watch);
    if (watch_pidfd(watch) >= 0 && watch_state(watch) == WATCH_COMMITTED)
        sys_close(watch_pidfd(watch));
    watch_discard(set, watch);
}

void watch_end(struct watch_set *set, struct child_watch *watch, bool named, enum watch_state to)
{
    watch_unlink(set, watch);
    watch_let_go(set, watch, named, to);
}

void watch_retry_later(struct watch_set *set)
{
    if (set->put_off)
        return;
    set->put_off = true;
    set->retry_ns = set->retry_ns == 0                      ? RETRY_FIRST_NS
                    : set->retry_ns * 2 <= RETRY_LONGEST_NS ? set->retry_ns * 2
                                                            : RETRY_LONGEST_NS;
    for (int tries = 0; tries < 8; tries++)
        if (sys_timerfd_arm(set->timer_fd, set->retry_ns) == 0)
            return;
    set->put_off = false; /* no timer: the next event of any kind brings the next attempt */
    fetch_or_relaxed(&set->rescan, RESCAN_UNPOLLED);
}

static void drop_list(struct watch_set *set, struct child_watch **list, bool also_spawned)
{
    for (struct child_watch **link = list; *link;) {
        struct child_watch *watch = *link;
        if (watch->spawned && !also_spawned) {
            link = &watch->next;
            continue;
        }
        *link = watch->next;
        watch_let_go(set, watch, false, WATCH_SETTLED);
    }
}

void watch_drop(struct watch_set *set, bool also_spawned)
{
    watch_absorb(set);
    drop_list(set, &set->unborn, also_spawned);
    for (size_t i = 0; i < WATCH_BUCKETS; i++)
        drop_list(set, &set->buckets[i], also_spawned);
}
