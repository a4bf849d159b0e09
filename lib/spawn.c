/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * exitbus_spawn: start a child whose exit can't be missed.
 *
 * The oldest race of all is the child that has exited before its parent has subscribed. Here the
 * child subscribes for its parent: it is made by clone with CLONE_VM and CLONE_VFORK, so it shares
 * the parent's memory while the calling thread is suspended, and it knows its pid; having done what
 * can fail, it inserts the prepared subscription with that pid (a few atomic instructions, no
 * allocation) and calls execve.
 *
 * Until exec the child has no exit signal. The kernel keeps such a child from waitpid(-1) and
 * waitid(P_ALL), and makes it an ordinary child when exec succeeds; so a child that fails to exec
 * is seen by nobody but this call, no reaper publishes it, and the error is simply returned.
 *
 * The child is the parent as far as the fork guard, liburcu and thread-local storage are concerned.
 *
 * Emulators (valgrind, qemu's user mode) turn such a clone into a fork that copies memory, or
 * refuse it. That is found out once, and there the child waits at a pipe until the parent has
 * subscribed. Such a child has an exit signal from the beginning (qemu insists): if it fails to
 * exec, an ALL reaper publishes its exit, besides the error that is returned.
 */
#include "cancel.h"
#include "fork_guard.h"
#include "reaper.h"
#include "spawn_child.h"
#include "spawn_clone.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Frames of the child, a path buffer of PATH_MAX among them. */
#define CHILD_STACK (32 * 1024)
#define WAIT_CLONE ((int)__WCLONE) /* children without an exit signal, and no others */

#define SPAWN_FLAGS                                                                                \
    (EXITBUS_SPAWN_SEARCH_PATH | EXITBUS_SPAWN_SETSID | EXITBUS_SPAWN_SETPGROUP |                  \
     EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_SIGDEFAULT)

extern char **environ;

#define CHILD_CODE __attribute__((no_sanitize_address, no_sanitize_thread))

/*
 * ThreadSanitizer takes every clone() for a fork and from then on ignores what the child does to
 * synchronise. With shared memory that would be this very thread: go past its interceptor.
 */
#ifdef RECLAIM_TSAN
int __clone(int (*)(void *), void *, int, void *, ...);
#define clone __clone
#endif

static int check_options(const struct exitbus_spawn_options *options)
{
    if (!options || !options->argv || !options->argv[0] || (options->flags & ~SPAWN_FLAGS) ||
        (options->action_count > 0 && !options->actions) ||
        ((options->flags & EXITBUS_SPAWN_SIGMASK) && !options->signal_mask) ||
        ((options->flags & EXITBUS_SPAWN_SIGDEFAULT) && !options->signal_default))
        return -EINVAL;
    for (size_t i = 0; i < options->action_count; i++) {
        const struct exitbus_spawn_action *action = &options->actions[i];
        if (action->fd < 0)
            return -EINVAL;
        switch (action->kind) {
        case EXITBUS_SPAWN_OPEN:
            if (!action->path)
                return -EINVAL;
            break;
        case EXITBUS_SPAWN_DUP2:
            if (action->source_fd < 0)
                return -EINVAL;
            break;
        case EXITBUS_SPAWN_CLOSE:
            break;
        default:
            return -EINVAL;
        }
    }
    return 0;
}

/* Is there a child of that pid and of the kind that the options stand for? */
static bool has_child(pid_t pid, int options)
{
    siginfo_t info;
    int result;
    do
        result = sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | options, NULL);
    while (result < 0 && result != -ECHILD); /* only by injection */
    return result != -ECHILD;
}

/*
 * After clone has come back without an error: has the child exec'd? Until then, and only then, it
 * is a child without an exit signal, for which __WCLONE stands. But one that has exec'd, and has
 * made us its tracer since (PTRACE_TRACEME), is found under any options: so ask first whether it is
 * an ordinary child.
 */
static bool has_execed(pid_t pid)
{
    return has_child(pid, 0) || !has_child(pid, WAIT_CLONE);
}

static void reap_unborn(pid_t pid, int options)
{
    siginfo_t info;
    int result;
    do
        result = sys_waitid(P_PID, pid, &info, WEXITED | options, NULL);
    while (result < 0 && result != -ECHILD);
}

/* Signals blocked by system call: the libc's function would leave its own two unblocked. */
static uint64_t block_signals(void)
{
    uint64_t all = ~(uint64_t)0, before;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, SIGNAL_SET_BYTES);
    return before;
}

static void restore_signals(uint64_t before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGNAL_SET_BYTES);
}

/* Clone, and learn how it went. 0 or a negative errno, with no child left. */
static int run_shared(struct child *child, bool want_pidfd, pid_t *pid, int *pidfd)
{
    _Alignas(16) char stack[CHILD_STACK];
    /* No exit signal: see the top of this file. */
    int flags = CLONE_VM | CLONE_VFORK | (want_pidfd ? CLONE_PIDFD : 0);
    child->handlers_reset = true;
    *pid =
        spawn_clone(child_main, child, stack, sizeof stack, &child->pid, want_pidfd ? pidfd : NULL);
    if (*pid == -ENOSYS) {
        child->handlers_reset = false;
        child->pid = 0;
        *pid = clone(child_main, stack + sizeof stack, flags, child, pidfd);
        if (*pid < 0)
            *pid = -errno;
    }
    if (*pid < 0)
        return *pid;
    if (!child->error && has_execed(*pid))
        return 0;
    reap_unborn(*pid, WAIT_CLONE);
    if (want_pidfd)
        sys_close(*pidfd);
    return child->error ? -child->error : -EINTR; /* killed before it could exec */
}

/* -------------------------------------------------------------------- where memory is copied */

CHILD_CODE static int probe_main(void *argument)
{
    *(volatile int *)argument = 1;
    syscall(SYS_exit_group, 0);
    __builtin_unreachable();
}

/* 1 or 0; or a negative errno: it could not be found out. */
static int memory_is_shared(void)
{
    static _Atomic int known; /* 1: shared, 2: copied */
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        _Alignas(16) char stack[CHILD_STACK];
        volatile int seen = 0;
        pid_t pid = clone(probe_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK, (void *)&seen);
        if (pid < 0 && errno != EINVAL)
            return -errno;
        if (pid >= 0)
            reap_unborn(pid, __WALL);
        answer = seen ? 1 : 2;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
}

/* Out of the way of the descriptors that file actions are likely to name. */
static int open_pipe(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        int high = fcntl(fds[i], F_DUPFD_CLOEXEC, 200);
        if (high >= 0) {
            sys_close(fds[i]);
            fds[i] = high;
        }
    }
    return 0;
}

/* What the parent does in the child's place. */
static int subscribe_for(struct child *child, pid_t pid)
{
    if (child->ends)
        child->since = atomic_load_explicit(child->ends, memory_order_seq_cst);
    if (!child->subscription)
        return 0;
    child->subscription->pid = pid;
    subscription_insert(child->subscription);
    return 0;
}

static int run_forked(struct child *child, const int gate[2], const int report[2], bool want_pidfd,
                      pid_t *pid, int *pidfd)
{
    _Alignas(16) char stack[CHILD_STACK];
    child->gate_fd = gate[0];
    child->gate_other_fd = gate[1];
    child->error_fd = report[1];
    *pid = clone(child_main, stack + sizeof stack, SIGCHLD, child);
    if (*pid < 0)
        return -errno;
    int result = want_pidfd ? *pidfd = sys_pidfd_open(*pid) : 0;
    if (result >= 0)
        result = subscribe_for(child, *pid);
    if (result >= 0 && write(gate[1], "", 1) != 1)
        result = -errno;
    sys_close(gate[1]);
    sys_close(report[1]);
    int error = 0;
    if (read(report[0], &error, sizeof error) == sizeof error && result >= 0)
        result = -error;
    if (result >= 0)
        return 0;
    reap_unborn(*pid, 0);
    if (want_pidfd && *pidfd >= 0)
        sys_close(*pidfd);
    return result;
}

static int run_copied(struct child *child, bool want_pidfd, pid_t *pid, int *pidfd)
{
    int gate[2], report[2];
    int result = open_pipe(gate);
    if (result < 0)
        return result;
    result = open_pipe(report);
    if (result < 0) {
        sys_close(gate[0]);
        sys_close(gate[1]);
        return result;
    }
    result = run_forked(child, gate, report, want_pidfd, pid, pidfd);
    if (*pid < 0) {
        sys_close(gate[1]);
        sys_close(report[1]);
    }
    sys_close(gate[0]);
    sys_close(report[0]);
    return result;
}

/* ------------------------------------------------------------------------------------- spawn */

static int run_child(struct child *child, bool want_pidfd, pid_t *pid, int *pidfd)
{
    int saved = errno;
    uint64_t before = block_signals();
    child->signal_mask = before;
    if (child->options->flags & EXITBUS_SPAWN_SIGMASK)
        memcpy(&child->signal_mask, child->options->signal_mask, sizeof child->signal_mask);
    int shared = memory_is_shared();
    int result = shared < 0    ? shared
                 : shared == 1 ? run_shared(child, want_pidfd, pid, pidfd)
                               : run_copied(child, want_pidfd, pid, pidfd);
    restore_signals(before);
    if (mutant(SPAWN_SUBSCRIBES_LATE) && result == 0)
        result = subscribe_for(child, *pid);
    errno = saved;
    return result;
}

static int spawn(struct child *child, struct exitbus_reaper *reaper, pid_t *pid)
{
    struct watch *watch = NULL;
    int pidfd = -1;
    if (reaper) {
        watch = watch_create(reaper);
        if (!watch)
            return -ENOMEM;
        child->ends = reaper_ends(reaper);
    }
    int result = run_child(child, reaper != NULL, pid, &pidfd);
    if (result < 0) {
        if (watch)
            watch_discard(reaper, watch);
        return result;
    }
    if (watch)
        watch_begin_spawned(reaper, watch, *pid, pidfd, child->since);
    return 0;
}

/* A subscription whose pid the child will fill in. */
static int prepare_subscription(struct exitbus *bus, struct exitbus_subscription **subscription)
{
    struct exitbus_topic topic = exitbus_topic_pid(1);
    reclaim_enter();
    int result = subscription_create(&bus->hub, &topic, EXITBUS_SUBSCRIBE_ONE_SHOT, subscription);
    reclaim_leave();
    if (result == 0)
        subscription_announce(*subscription);
    return result;
}

int exitbus_spawn(struct exitbus *bus, const struct exitbus_spawn_options *options, pid_t *pid,
                  struct exitbus_subscription **subscription)
{
    if (!bus || !pid)
        return -EINVAL;
    int result = check_options(options);
    if (result < 0)
        return result;
    if (bus_stale(bus))
        return -ESTALE;
    if (bus_closed(bus))
        return -ESHUTDOWN;
    struct child child = {.options = options,
                          .path = options->path ? options->path : options->argv[0],
                          .envp = options->envp ? options->envp : environ,
                          .gate_fd = -1,
                          .error_fd = -1};
    if ((options->flags & EXITBUS_SPAWN_SEARCH_PATH) && !strchr(child.path, '/')) {
        child.search = getenv("PATH");
        if (!child.search)
            child.search = "/bin:/usr/bin";
    }
    struct exitbus_reaper *reaper;
    int cancelling = cancel_disable();
    result = reaper_begin_spawn(bus, &reaper);
    if (result < 0) {
        cancel_restore(cancelling);
        return result;
    }
    pid_t started;
    if (subscription)
        result = prepare_subscription(bus, &child.subscription);
    if (result == 0) {
        result = spawn(&child, reaper, &started);
        if (result == 0)
            *pid = started;
        if (subscription && result < 0)
            subscription_withdraw(child.subscription);
        if (subscription && result == 0) {
            subscription_adopt(child.subscription);
            *subscription = child.subscription;
        }
    }
    reaper_end_spawn();
    cancel_restore(cancelling);
    return result;
}
