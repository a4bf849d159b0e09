/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reapers: collect the exits of children and publish them (G4, G8).
 *
 * One step, for every child: look at its status without reaping (WNOWAIT), publish, then reap. The
 * pid stays taken until its event is out, and a publish that fails leaves the child a zombie; a
 * timer brings the next attempt, at growing intervals.
 *
 * ALL waits for SIGCHLD and then collects until no child is waitable, since one signal can stand
 * for many exits. WATCHED waits for pidfds, so that an exit costs the same however many other
 * children live. Both sleep in one epoll_wait, in a thread of the reaper's own or in the caller's
 * loop, and nothing wakes them at rest.
 *
 * Everything in struct exitbus_reaper belongs to the thread that makes the pass, except `incoming`
 * and `early`: children to be watched are pushed there without a lock, so whoever is stopped in the
 * middle of a watch or a spawn does not hold up the reaper. `reapers` (the lock) guards only who
 * runs; it is never taken by a pass.
 */
#include "reaper.h"
#include "cancel.h"
#include "fork_guard.h"
#include "sigchld.h"
#include "sys.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define WATCH_BUCKETS 1024
#define EVENTS_PER_WAIT 64
/* What one pass may take on, so that it comes to an end while children exit all the time. */
#define ROUNDS_PER_PASS 16
#define CHILDREN_PER_ROUND 1024
/* Between attempts to publish what lacked memory. */
#define RETRY_FIRST_NS 10000000LL
#define RETRY_LONGEST_NS 1000000000LL

struct watch {
    struct block block;
    struct watch *next; /* in `incoming`, later in its bucket */
    uint64_t since;     /* `ends` of the reaper when the watch was made */
    pid_t pid;
    int pidfd;
    _Atomic bool made; /* all above is written: for who learns of the watch from epoll alone */
    bool polled;       /* in the epoll set; otherwise it waits for the timer */
    bool held;         /* it has exited, but another process traces it and has not seen that yet */
    bool listed;       /* taken out of `incoming`, and in its bucket */
    bool early;        /* epoll has named it before it was in `incoming` */
    bool ended;        /* to be discarded when this round is over; until then epoll may name it */
};

/* The latest child of a bucket whose exit was published, and the value that `ends` had then. */
struct recent {
    uint64_t end;
    pid_t pid;
};

_Static_assert(sizeof(struct watch) <= WATCH_BYTES, "a watch fits its memory class");

struct exitbus_reaper {
    struct exitbus *bus;
    enum exitbus_reaper_mode mode;
    uint32_t flags;
    int epoll_fd;
    int control_fd; /* eventfd: something in `incoming`, or stop */
    int signal_fd;  /* eventfd: SIGCHLD (ALL) */
    int timer_fd;
    int64_t retry_ns; /* the interval before the latest retry; 0: all is well */
    bool put_off;     /* something waits for the timer */
    int old_subreaper;
    pthread_t thread;
    bool joined; /* the thread has ended */
    _Atomic bool stopping;
    _Atomic uint32_t polling; /* a pass is being made by exitbus_reaper_poll() */
    pthread_mutex_t gate;     /* held while exits are collected: see exitbus_reaper_start */
    _Atomic(struct watch *) incoming;
    _Atomic uint32_t early; /* watches that epoll has named too early */
    _Atomic uint64_t ends;  /* watches that have come to their end */
    struct watch *ended;    /* in this round */
    struct watch *watches[WATCH_BUCKETS];
    struct recent recent[WATCH_BUCKETS];
};

/* Writers first: a stream of spawns must not keep a stop waiting. */
static pthread_rwlock_t reapers = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static struct exitbus_reaper *reaper_of_all; /* the ALL reaper of the process */
static unsigned watched_reapers;             /* WATCHED ones, on any bus */

/* --------------------------------------------------------------------------- collect one exit */

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

static void retry_later(struct exitbus_reaper *reaper)
{
    if (reaper->put_off)
        return;
    reaper->put_off = true;
    reaper->retry_ns = reaper->retry_ns == 0                      ? RETRY_FIRST_NS
                       : reaper->retry_ns * 2 <= RETRY_LONGEST_NS ? reaper->retry_ns * 2
                                                                  : RETRY_LONGEST_NS;
    int result;
    while ((result = sys_timerfd_arm(reaper->timer_fd, reaper->retry_ns)) < 0 && result != -EBADF)
        ck_pr_stall(); /* only by injection */
}

/* A child that has us for its tracer is reported when it stops, too, whatever was asked for. */
static bool has_exited(const siginfo_t *info)
{
    return info->si_code == CLD_EXITED || info->si_code == CLD_KILLED ||
           info->si_code == CLD_DUMPED;
}

/*
 * Peek at a child, publish its exit, reap it. 1: done; 0: none has exited; -ECHILD: there is no
 * such child; -EINPROGRESS (P_ALL): one had stopped, which must be taken out of the way of the
 * others, and is now; else the error of the publish, and the child is still a zombie.
 */
static int collect(struct exitbus_reaper *reaper, int id_type, int id, int options)
{
    siginfo_t info;
    struct rusage usage;
    int result = sys_waitid(id_type, id, &info, WEXITED | WNOHANG | WNOWAIT | options, &usage);
    if (result < 0)
        return result;
    if (info.si_pid == 0)
        return 0;
    pid_t pid = info.si_pid;
    if (unlikely(!has_exited(&info))) {
        if (id_type != P_ALL)
            return 0;
        sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG, NULL);
        return -EINPROGRESS;
    }
    test_step(STEP_REAPER_PEEKED);
    if (mutant(REAPER_REAPS_FIRST)) {
        siginfo_t ignored;
        sys_waitid(P_PID, pid, &ignored, WEXITED | WNOHANG, NULL);
    }
    result = bus_publish_exit(reaper->bus, pid, wait_status(&info), &usage, 0);
    if (result < 0)
        return result;
    test_step(STEP_REAPER_PUBLISHED);
    if (mutant(REAPER_TWICE) && pid % 16 == 0)
        bus_publish_exit(reaper->bus, pid, wait_status(&info), &usage, 0);
    /* Its event is out: it must not be published again, so it must go. -ECHILD: it has gone, to
     * another waiter. Anything else can only be injected. */
    do
        result = id_type == P_ALL
                     ? sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG, NULL)
                     : sys_waitid(id_type, id, &info, WEXITED | WNOHANG | options, NULL);
    while (result < 0 && result != -ECHILD);
    test_step(STEP_REAPER_REAPED);
    return 1;
}

/* ---------------------------------------------------------------------------------- ALL mode */

/* Collect until no child is waitable. 0 or the error that stopped it. */
static int collect_all(struct exitbus_reaper *reaper, int *count)
{
    for (int i = 0; i < CHILDREN_PER_ROUND; i++) {
        int result = collect(reaper, P_ALL, 0, 0);
        if (result == 0 || result == -ECHILD)
            return 0;
        if (result == -EINPROGRESS)
            continue;
        if (result < 0)
            return result;
        (*count)++;
        if (mutant(REAPER_DRAINS_ONE))
            return 0;
    }
    sys_eventfd_add_surely(reaper->signal_fd); /* there may be more: in the next round */
    return 0;
}

/* ------------------------------------------------------------------------------ WATCHED mode */

struct watch *watch_create(struct exitbus_reaper *reaper)
{
    reclaim_enter();
    struct watch *watch = memory_take(&reaper->bus->hub.memory, WATCH_CLASS);
    reclaim_leave();
    if (watch)
        watch->since = atomic_load_explicit(&reaper->ends, memory_order_seq_cst);
    return watch;
}

void watch_discard(struct exitbus_reaper *reaper, struct watch *watch)
{
    /* Nobody else has seen it, but the pool's stack wants a grace period between take and give. */
    reclaim_enter();
    memory_retire(&reaper->bus->hub.memory, WATCH_CLASS, watch);
    reclaim_leave();
}

static void watch_fill(struct watch *watch, pid_t pid, int pidfd, bool polled)
{
    watch->pid = pid;
    watch->pidfd = pidfd;
    watch->polled = polled;
    watch->held = watch->listed = watch->early = watch->ended = false;
    /* Release: pairs with the acquire in handle_watch. */
    atomic_store_explicit(&watch->made, true, memory_order_release);
}

static void watch_push(struct exitbus_reaper *reaper, struct watch *watch)
{
    struct watch *top = atomic_load_explicit(&reaper->incoming, memory_order_relaxed);
    do
        watch->next = top;
    /* Release: pairs with the exchange in take_incoming; and see watch_begin_spawned. */
    while (!atomic_compare_exchange_weak_explicit(&reaper->incoming, &top, watch,
                                                  memory_order_seq_cst, memory_order_relaxed));
}

void watch_begin(struct exitbus_reaper *reaper, struct watch *watch, pid_t pid, int pidfd)
{
    watch_fill(watch, pid, pidfd, false);
    watch_push(reaper, watch);
    sys_eventfd_add_surely(reaper->control_fd);
}

/*
 * Nobody else can know of this child, so it can go into the epoll set here, and the reaper need not
 * wake up before the child exits: that was half of what it did for a short-lived child. If it is
 * named by epoll before it has been pushed, the reaper counts it as early and looks at `incoming`
 * once more; here it is pushed, and then the count is read. Both sequentially consistent: one of
 * the two sees the other. The watch belongs to the reaper once it is pushed.
 */
const _Atomic uint64_t *reaper_ends(const struct exitbus_reaper *reaper)
{
    return &reaper->ends;
}

void watch_begin_spawned(struct exitbus_reaper *reaper, struct watch *watch, pid_t pid, int pidfd,
                         uint64_t since)
{
    /* What was published of an earlier child of that pid is none of this one's; but this one may
     * have been published already, by the watch of another thread that has learned its pid. */
    watch->since = since;
    watch_fill(watch, pid, pidfd, true);
    bool polled = sys_epoll_add(reaper->epoll_fd, pidfd, true, watch) == 0;
    if (!polled)
        watch->polled = false;
    test_step(STEP_WATCH_POLLED);
    watch_push(reaper, watch);
    if (!polled || atomic_load_explicit(&reaper->early, memory_order_seq_cst) > 0)
        sys_eventfd_add_surely(reaper->control_fd);
}

static struct watch **watch_bucket(struct exitbus_reaper *reaper, pid_t pid)
{
    return &reaper->watches[(size_t)pid % WATCH_BUCKETS];
}

/* Out of the epoll set, for certain: closing would not do while a forked child has a copy, unless
 * epoll has named it, which it does but once. */
static void watch_unpoll(struct exitbus_reaper *reaper, struct watch *watch)
{
    int result = 0;
    while (watch->polled && (result = sys_epoll_delete(reaper->epoll_fd, watch->pidfd)) < 0 &&
           result != -EBADF && result != -ENOENT && result != -EPERM)
        ck_pr_stall(); /* only by injection; those three: somebody has closed a pidfd of ours */
    watch->polled = false;
}

/* It is in no list any more. Its memory stays until no event of this round can name it. */
static void watch_release(struct exitbus_reaper *reaper, struct watch *watch)
{
    watch_unpoll(reaper, watch);
    sys_close(watch->pidfd);
    watch->ended = true;
    watch->next = reaper->ended;
    reaper->ended = watch;
}

static void discard_ended(struct exitbus_reaper *reaper)
{
    struct watch *next;
    for (struct watch *watch = reaper->ended; watch; watch = next) {
        next = watch->next;
        watch_discard(reaper, watch);
    }
    reaper->ended = NULL;
}

static void watch_end(struct exitbus_reaper *reaper, struct watch *watch)
{
    struct watch **link = watch_bucket(reaper, watch->pid);
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    watch_release(reaper, watch);
}

/* Wait for the child to exit by epoll, or, if the kernel has no memory for that, by the timer. */
static void watch_poll(struct exitbus_reaper *reaper, struct watch *watch)
{
    watch->held = watch->held && sys_readable(watch->pidfd); /* epoll would return at once */
    if (!watch->polled && !watch->held)
        watch->polled = sys_epoll_add(reaper->epoll_fd, watch->pidfd, true, watch) == 0;
    if (!watch->polled)
        retry_later(reaper);
}

/* An exit that can't be published yet would keep epoll awake: it waits for the timer. */
static void watch_put_off(struct exitbus_reaper *reaper, struct watch *watch)
{
    watch_unpoll(reaper, watch);
    retry_later(reaper);
}

/* Another waiter has reaped a child that we watch: say that it has exited, and what is known. */
static int publish_lost(struct exitbus_reaper *reaper, const struct watch *watch)
{
    int status;
    if (sys_pidfd_exit_status(watch->pidfd, &status) == 0)
        return bus_publish_exit(reaper->bus, watch->pid, status, NULL, 0);
    return bus_publish_exit(reaper->bus, watch->pid, 0, NULL, EXITBUS_EVENT_STATUS_LOST);
}

/* The exit has been published. */
static void watch_done(struct exitbus_reaper *reaper, struct watch *watch)
{
    struct recent *recent = &reaper->recent[(size_t)watch->pid % WATCH_BUCKETS];
    recent->pid = watch->pid;
    recent->end = atomic_fetch_add_explicit(&reaper->ends, 1, memory_order_seq_cst) + 1;
    watch_end(reaper, watch);
}

/*
 * Was the exit published from another watch, since this one was made? A second watch of a pid can
 * arrive when the first has ended; its maker saw the child before it was reaped, so before `ends`
 * moved on.
 */
static bool already_published(const struct exitbus_reaper *reaper, const struct watch *watch)
{
    const struct recent *recent = &reaper->recent[(size_t)watch->pid % WATCH_BUCKETS];
    return recent->pid == watch->pid && recent->end > watch->since;
}

/* Look at one watched child. Counts it if its exit was published. `ready`: epoll has named it. */
static void collect_watched(struct exitbus_reaper *reaper, struct watch *watch, bool ready,
                            int *count)
{
    int result = collect(reaper, P_PIDFD, watch->pidfd, __WALL);
    if (result == -ECHILD && already_published(reaper, watch)) {
        watch_end(reaper, watch);
        return;
    }
    if (result == -ECHILD) {
        result = publish_lost(reaper, watch);
        if (result == 0)
            result = 1;
    }
    if (result > 0) {
        (*count)++;
        /* epoll names a child once: nothing to undo, even if a forked child keeps the pidfd open.
         */
        watch->polled = watch->polled && !ready;
        watch_done(reaper, watch);
    } else if (result == 0 && !ready) {
        watch_poll(reaper, watch);
    } else {
        watch->held = result == 0;
        watch_put_off(reaper, watch);
    }
}

static struct watch *find_watch(struct exitbus_reaper *reaper, pid_t pid)
{
    struct watch *watch = *watch_bucket(reaper, pid);
    while (watch && watch->pid != pid)
        watch = watch->next;
    return watch;
}

/*
 * Is the child that has this pid now watched already? There may be a watch of an earlier child of
 * the pid, which somebody else has reaped: then that one's exit is due.
 */
static bool is_watched(struct exitbus_reaper *reaper, pid_t pid, int *count)
{
    struct watch *same = find_watch(reaper, pid);
    if (!same)
        return false;
    collect_watched(reaper, same, false, count);
    same = find_watch(reaper, pid);
    siginfo_t info;
    return same && sys_waitid(P_PIDFD, same->pidfd, &info, WEXITED | WNOHANG | WNOWAIT | __WALL,
                              NULL) != -ECHILD;
}

/* Those handed over since the last pass, the oldest first: of two for a pid the first one stays. */
static struct watch *incoming_in_order(struct exitbus_reaper *reaper)
{
    struct watch *watch = atomic_exchange_explicit(&reaper->incoming, NULL, memory_order_seq_cst);
    struct watch *ordered = NULL;
    while (watch) {
        struct watch *next = watch->next;
        watch->next = ordered;
        ordered = watch;
        watch = next;
    }
    return ordered;
}

static void take_incoming(struct exitbus_reaper *reaper, int *count)
{
    struct watch *watch = incoming_in_order(reaper);
    while (watch) {
        struct watch *next = watch->next;
        bool early = watch->early;
        if (early)
            atomic_fetch_sub_explicit(&reaper->early, 1, memory_order_relaxed);
        if (is_watched(reaper, watch->pid, count)) {
            watch_release(reaper, watch);
        } else {
            struct watch **bucket = watch_bucket(reaper, watch->pid);
            watch->next = *bucket;
            watch->listed = true;
            *bucket = watch;
            if (early || !watch->polled) /* it may have exited already */
                collect_watched(reaper, watch, early, count);
        }
        watch = next;
    }
}

static void retry_watches(struct exitbus_reaper *reaper, int *count)
{
    for (size_t i = 0; i < WATCH_BUCKETS; i++) {
        struct watch *next;
        for (struct watch *watch = reaper->watches[i]; watch; watch = next) {
            next = watch->next;
            if (!watch->polled)
                collect_watched(reaper, watch, false, count);
        }
    }
}

/* ------------------------------------------------------------------------------------- a pass */

static void retry(struct exitbus_reaper *reaper, int *count)
{
    reaper->put_off = false;
    if (reaper->mode == EXITBUS_REAPER_WATCHED)
        retry_watches(reaper, count);
    else if (collect_all(reaper, count) < 0)
        retry_later(reaper);
    if (!reaper->put_off)
        reaper->retry_ns = 0;
}

/* epoll has named this child. */
static void handle_watch(struct exitbus_reaper *reaper, struct watch *watch, int *count)
{
    /* Acquire: pairs with watch_fill. Always true. */
    if (!atomic_load_explicit(&watch->made, memory_order_acquire) || watch->ended)
        return;
    if (!watch->listed)
        take_incoming(reaper, count);
    if (watch->ended)
        return;
    if (watch->listed) {
        collect_watched(reaper, watch, true, count);
        return;
    }
    watch->early = true; /* epoll names it once only, and it will come with `incoming` */
    atomic_fetch_add_explicit(&reaper->early, 1, memory_order_seq_cst);
    take_incoming(reaper, count);
}

static void handle(struct exitbus_reaper *reaper, void *source, int *count)
{
    if (source == &reaper->control_fd) {
        sys_eventfd_take(reaper->control_fd);
        take_incoming(reaper, count);
    } else if (source == &reaper->signal_fd) {
        sys_eventfd_take(reaper->signal_fd); /* first: a signal from now on brings another pass */
        if (collect_all(reaper, count) < 0)
            retry_later(reaper);
    } else if (source == &reaper->timer_fd) {
        sys_eventfd_take(reaper->timer_fd);
        retry(reaper, count);
    } else {
        handle_watch(reaper, source, count);
    }
}

static void handle_round(struct exitbus_reaper *reaper, const struct epoll_event *events, int ready,
                         int *count)
{
    pthread_mutex_lock(&reaper->gate);
    for (int i = 0; i < ready && !atomic_load(&reaper->stopping); i++)
        handle(reaper, events[i].data.ptr, count);
    discard_ended(reaper);
    pthread_mutex_unlock(&reaper->gate);
}

/* Handle what is there, waiting for it if asked. Returns how many exits were published. */
static int pass(struct exitbus_reaper *reaper, bool wait)
{
    struct epoll_event events[EVENTS_PER_WAIT];
    int count = 0;
    int ready = sys_epoll_wait(reaper->epoll_fd, events, EVENTS_PER_WAIT, wait ? -1 : 0);
    for (int round = 1; ready > 0; round++) {
        handle_round(reaper, events, ready, &count);
        if (ready < EVENTS_PER_WAIT || round == ROUNDS_PER_PASS || atomic_load(&reaper->stopping))
            break;
        ready = sys_epoll_wait(reaper->epoll_fd, events, EVENTS_PER_WAIT, 0);
    }
    return count;
}

static void *reaper_main(void *argument)
{
    struct exitbus_reaper *reaper = argument;
    if (reaper->mode == EXITBUS_REAPER_ALL) {
        /* One thread at least must have it unblocked, or the handler never runs. */
        sigset_t child;
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        pthread_sigmask(SIG_UNBLOCK, &child, NULL);
    }
    while (!atomic_load_explicit(&reaper->stopping, memory_order_acquire))
        pass(reaper, true);
    return NULL;
}

/* ------------------------------------------------------------------------------- start, stop */

static void close_all(struct exitbus_reaper *reaper)
{
    int fds[] = {reaper->epoll_fd, reaper->control_fd, reaper->signal_fd, reaper->timer_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            sys_close(fds[i]);
}

static int open_all(struct exitbus_reaper *reaper)
{
    bool all = reaper->mode == EXITBUS_REAPER_ALL;
    int *fds[] = {&reaper->control_fd, &reaper->timer_fd, &reaper->signal_fd};
    reaper->epoll_fd = sys_epoll_create();
    if (reaper->epoll_fd < 0)
        return reaper->epoll_fd;
    for (size_t i = 0; i < (all ? 3 : 2); i++) {
        *fds[i] = fds[i] == &reaper->timer_fd ? sys_timerfd() : sys_eventfd(false);
        if (*fds[i] < 0)
            return *fds[i];
        int result = sys_epoll_add(reaper->epoll_fd, *fds[i], false, fds[i]);
        if (result < 0)
            return result;
    }
    /* Children that have exited before: the first pass looks for them unasked. */
    return all ? sys_eventfd_add(reaper->signal_fd) : 0;
}

static int start_thread(struct exitbus_reaper *reaper)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&reaper->thread, NULL, reaper_main, reaper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_setname_np(reaper->thread, "exitbus-reaper");
    return -error;
}

/* With SIGCHLD and the subreaper setting in place. */
static int start_mode_all(struct exitbus_reaper *reaper)
{
    int result = sigchld_install(reaper->signal_fd);
    if (result < 0)
        return result;
    reaper->old_subreaper = -1;
    if ((reaper->flags & EXITBUS_REAPER_SUBREAPER) &&
        (prctl(PR_GET_CHILD_SUBREAPER, &reaper->old_subreaper) < 0 ||
         prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)) {
        result = -errno;
        sigchld_remove();
    }
    return result;
}

static void stop_mode_all(struct exitbus_reaper *reaper)
{
    if (reaper->old_subreaper >= 0)
        prctl(PR_SET_CHILD_SUBREAPER, reaper->old_subreaper);
    sigchld_remove();
}

static int start_running(struct exitbus_reaper *reaper)
{
    int result = open_all(reaper);
    if (result < 0)
        return result;
    bool all = reaper->mode == EXITBUS_REAPER_ALL;
    if (all) {
        result = start_mode_all(reaper);
        if (result < 0)
            return result;
    }
    if (!(reaper->flags & EXITBUS_REAPER_POLLED)) {
        result = start_thread(reaper);
        if (result < 0 && all)
            stop_mode_all(reaper);
    }
    return result;
}

static struct exitbus_reaper *reaper_new(struct exitbus *bus,
                                         const struct exitbus_reaper_options *options)
{
    struct exitbus_reaper *reaper = memory_map(&bus->hub.memory, sizeof *reaper, CACHE_LINE);
    if (!reaper)
        return NULL;
    memset((void *)reaper, 0, sizeof *reaper);
    reaper->bus = bus;
    reaper->mode = options->mode;
    reaper->flags = options->flags;
    pthread_mutex_init(&reaper->gate, NULL);
    reaper->epoll_fd = reaper->control_fd = reaper->signal_fd = reaper->timer_fd = -1;
    return reaper;
}

/* The lock is held for writing. */
static int start_locked(struct exitbus *bus, const struct exitbus_reaper_options *options,
                        struct exitbus_reaper **started)
{
    struct exitbus_reaper *reaper = reaper_new(bus, options);
    if (!reaper)
        return -ENOMEM;
    int result = start_running(reaper);
    if (result < 0) {
        close_all(reaper);
        memory_unmap(&bus->hub.memory, reaper, sizeof *reaper);
        return result;
    }
    if (options->mode == EXITBUS_REAPER_ALL)
        reaper_of_all = reaper;
    else
        watched_reapers++;
    if (options->mode == EXITBUS_REAPER_WATCHED && !bus->spawn_reaper)
        bus->spawn_reaper = reaper;
    *started = reaper;
    return 0;
}

static void drop_watches(struct exitbus_reaper *reaper)
{
    struct watch *next;
    struct watch *watch = atomic_load_explicit(&reaper->incoming, memory_order_acquire);
    for (; watch; watch = next) {
        next = watch->next;
        sys_close(watch->pidfd);
        watch_discard(reaper, watch);
    }
    for (size_t i = 0; i < WATCH_BUCKETS; i++)
        while (reaper->watches[i])
            watch_end(reaper, reaper->watches[i]);
    discard_ended(reaper);
}

static void stop_thread(struct exitbus_reaper *reaper)
{
    if ((reaper->flags & EXITBUS_REAPER_POLLED) || reaper->joined)
        return;
    atomic_store_explicit(&reaper->stopping, true, memory_order_release);
    sys_eventfd_add_surely(reaper->control_fd);
    pthread_join(reaper->thread, NULL);
    reaper->joined = true;
}

/* The lock is held for writing, so no spawn is handing a child over. */
static void stop_locked(struct exitbus_reaper *reaper)
{
    struct exitbus *bus = reaper->bus;
    stop_thread(reaper);
    if (reaper->mode == EXITBUS_REAPER_ALL) {
        stop_mode_all(reaper);
        reaper_of_all = NULL;
    } else {
        watched_reapers--;
        if (bus->spawn_reaper == reaper)
            bus->spawn_reaper = NULL;
    }
    drop_watches(reaper);
    close_all(reaper);
    pthread_mutex_destroy(&reaper->gate);
    memory_unmap(&bus->hub.memory, reaper, sizeof *reaper);
}

static void stop_own_locked(struct exitbus *bus)
{
    if (!bus->own_reaper)
        return;
    stop_locked(bus->own_reaper);
    bus->own_reaper = NULL;
}

/*
 * Start an ALL reaper, which sees the children of spawn's own, too. At no moment may both collect,
 * or an exit could be published twice; and if the start fails the old one must go on.
 */
static int start_over_own(struct exitbus *bus, const struct exitbus_reaper_options *options,
                          struct exitbus_reaper **started)
{
    struct exitbus_reaper *own = bus->own_reaper;
    pthread_mutex_lock(&own->gate);
    int result = start_locked(bus, options, started);
    if (result == 0)
        atomic_store(&own->stopping, true);
    pthread_mutex_unlock(&own->gate);
    if (result == 0)
        stop_own_locked(bus);
    return result;
}

static void move_list(struct exitbus_reaper *from, struct watch *watch, struct exitbus_reaper *to)
{
    struct watch *next;
    for (; watch; watch = next) {
        next = watch->next;
        watch_unpoll(from, watch);
        watch_begin(to, watch, watch->pid, watch->pidfd);
    }
}

/*
 * Start a WATCHED reaper in the place of spawn's own: with two of them, a child given to both would
 * be published twice. Its children, and what it knows of those before, go over to the new one.
 */
static int start_for_own(struct exitbus *bus, const struct exitbus_reaper_options *options,
                         struct exitbus_reaper **started)
{
    struct exitbus_reaper *own = bus->own_reaper;
    int result = start_locked(bus, options, started);
    if (result < 0)
        return result;
    stop_thread(own);
    struct exitbus_reaper *fresh = *started;
    memcpy(fresh->recent, own->recent, sizeof fresh->recent);
    atomic_store_explicit(&fresh->ends, atomic_load(&own->ends), memory_order_seq_cst);
    move_list(own, incoming_in_order(own), fresh);
    for (size_t i = 0; i < WATCH_BUCKETS; i++) {
        struct watch *list = own->watches[i];
        own->watches[i] = NULL;
        move_list(own, list, fresh);
    }
    stop_own_locked(bus);
    bus->spawn_reaper = fresh;
    return 0;
}

/* May a reaper of this mode start, seeing who runs? An ALL reaper takes over from spawn's own. */
static int may_start(struct exitbus *bus, enum exitbus_reaper_mode mode)
{
    if (reaper_of_all)
        return -EBUSY;
    if (mode == EXITBUS_REAPER_ALL && watched_reapers > (bus->own_reaper ? 1 : 0))
        return -EBUSY;
    return sigchld_check();
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
    if (bus_closed(bus))
        return -ESHUTDOWN;
    int cancelling = cancel_disable();
    pthread_rwlock_wrlock(&reapers);
    int result = may_start(bus, options->mode);
    if (result == 0 && bus->own_reaper)
        result = options->mode == EXITBUS_REAPER_ALL ? start_over_own(bus, options, reaper)
                                                     : start_for_own(bus, options, reaper);
    else if (result == 0)
        result = start_locked(bus, options, reaper);
    if (result == 0)
        bus->reapers++;
    pthread_rwlock_unlock(&reapers);
    cancel_restore(cancelling);
    return result;
}

int exitbus_reaper_stop(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return 0;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    int cancelling = cancel_disable();
    pthread_rwlock_wrlock(&reapers);
    reaper->bus->reapers--;
    stop_locked(reaper);
    pthread_rwlock_unlock(&reapers);
    cancel_restore(cancelling);
    return 0;
}

void reapers_forget_parent(void)
{
    static const pthread_rwlock_t unlocked = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
    reapers = unlocked; /* a thread that is not here may have held it */
    reaper_of_all = NULL;
    watched_reapers = 0;
    sigchld_forget_parent();
}

int bus_close(struct exitbus *bus)
{
    pthread_rwlock_wrlock(&reapers);
    int result = bus->reapers > 0 ? -EBUSY : 0;
    if (result == 0) {
        atomic_store_explicit(&bus->hub.closed, true, memory_order_seq_cst);
        stop_own_locked(bus);
    }
    pthread_rwlock_unlock(&reapers);
    return result;
}

/* ----------------------------------------------------------------------------------- for spawn */

/* Make sure that the bus has a WATCHED reaper or that there is an ALL one. */
static int ensure_reaper(struct exitbus *bus)
{
    static const struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    int result = 0;
    pthread_rwlock_wrlock(&reapers);
    if (!reaper_of_all && !bus->spawn_reaper)
        result = bus_closed(bus) ? -ESHUTDOWN : start_locked(bus, &watched, &bus->own_reaper);
    pthread_rwlock_unlock(&reapers);
    return result;
}

int reaper_begin_spawn(struct exitbus *bus, struct exitbus_reaper **watched)
{
    int result = sigchld_check();
    if (result < 0)
        return result;
    pthread_rwlock_rdlock(&reapers);
    while (!reaper_of_all && !bus->spawn_reaper) {
        pthread_rwlock_unlock(&reapers);
        result = ensure_reaper(bus);
        if (result < 0)
            return result;
        pthread_rwlock_rdlock(&reapers);
    }
    if (reaper_of_all && reaper_of_all->bus != bus) {
        pthread_rwlock_unlock(&reapers);
        return -EXDEV;
    }
    *watched = reaper_of_all ? NULL : bus->spawn_reaper;
    return 0;
}

void reaper_end_spawn(void)
{
    pthread_rwlock_unlock(&reapers);
}

/* -------------------------------------------------------------------------- watch, fd, poll */

int exitbus_reaper_watch(struct exitbus_reaper *reaper, pid_t pid)
{
    if (!reaper || pid <= 0)
        return -EINVAL;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    if (reaper->mode != EXITBUS_REAPER_WATCHED)
        return -ENOTSUP;
    struct watch *watch = watch_create(reaper);
    if (!watch)
        return -ENOMEM;
    /* Is it a child of ours? It may be a zombie already, which stays. */
    siginfo_t info;
    int result = sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, NULL);
    int pidfd = result < 0 ? result : sys_pidfd_open(pid);
    if (pidfd < 0) {
        watch_discard(reaper, watch);
        return pidfd == -ESRCH ? -ECHILD : pidfd;
    }
    watch_begin(reaper, watch, pid, pidfd);
    return 0;
}

int exitbus_reaper_fd(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return -EINVAL;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    return reaper->flags & EXITBUS_REAPER_POLLED ? reaper->epoll_fd : -ENOTSUP;
}

int exitbus_reaper_poll(struct exitbus_reaper *reaper)
{
    if (!reaper)
        return -EINVAL;
    if (bus_stale(reaper->bus))
        return -ESTALE;
    if (!(reaper->flags & EXITBUS_REAPER_POLLED))
        return -ENOTSUP;
    if (atomic_exchange_explicit(&reaper->polling, 1, memory_order_acquire))
        return -EBUSY;
    int count = pass(reaper, false);
    atomic_store_explicit(&reaper->polling, 0, memory_order_release);
    return count;
}
