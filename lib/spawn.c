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
 * The child runs on a small stack of its own, with all signals blocked and no handler left, and
 * uses nothing but system calls and the subscription. It is the parent as far as the fork guard,
 * liburcu and thread-local storage are concerned.
 */
#include "fork_guard.h"
#include "reaper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Frames of the child, a path buffer of PATH_MAX among them. */
#define CHILD_STACK (32 * 1024)
#define SIGNALS 64
#define WAIT_CLONE ((int)__WCLONE) /* children without an exit signal, and no others */
#define SIGNAL_SET_BYTES (SIGNALS / 8)

#define SPAWN_FLAGS                                                                                \
    (EXITBUS_SPAWN_SEARCH_PATH | EXITBUS_SPAWN_SETSID | EXITBUS_SPAWN_SETPGROUP |                  \
     EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_SIGDEFAULT)

/* As the kernel has it. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

struct child {
    const struct exitbus_spawn_options *options;
    const char *path;
    char *const *envp;
    const char *search; /* PATH, or NULL: `path` as it is */
    uint64_t signal_mask;
    struct exitbus_subscription *subscription; /* or NULL */
    int error;                                 /* positive; set by a child that gives up */
    bool activated;
};

extern char **environ;

/*
 * ThreadSanitizer takes every clone() for a fork and from then on ignores what the child does to
 * synchronise. With shared memory that would be this very thread: go past its interceptor.
 */
#ifdef RECLAIM_TSAN
int __clone(int (*)(void *), void *, int, void *, ...);
#define clone __clone
#endif

/* The child's frames lie on another stack and never return: nothing for sanitizers to follow. */
#define CHILD_CODE __attribute__((no_sanitize_address, no_sanitize_thread))

/* ---------------------------------------------------------------------------------- the child */

CHILD_CODE static int reset_signals(const struct child *child)
{
    const sigset_t *defaults =
        child->options->flags & EXITBUS_SPAWN_SIGDEFAULT ? child->options->signal_default : NULL;
    for (int signal = 1; signal <= SIGNALS; signal++) {
        struct kernel_sigaction action;
        if (syscall(SYS_rt_sigaction, signal, NULL, &action, SIGNAL_SET_BYTES) != 0)
            continue;
        bool ignored = action.handler == SIG_IGN;
        bool wanted = defaults && sigismember(defaults, signal) == 1;
        if (action.handler == SIG_DFL || (ignored && !wanted))
            continue;
        action = (struct kernel_sigaction){.handler = SIG_DFL};
        /* Handlers must not run in the shared memory; SIGKILL and SIGSTOP have none. */
        if (syscall(SYS_rt_sigaction, signal, &action, NULL, SIGNAL_SET_BYTES) != 0)
            return errno;
    }
    return 0;
}

CHILD_CODE static int move_fd(int from, int to)
{
    if (from == to) /* keep it across exec */
        return syscall(SYS_fcntl, from, F_SETFD, 0) < 0 ? errno : 0;
    return syscall(SYS_dup3, from, to, 0) < 0 ? errno : 0;
}

CHILD_CODE static int do_action(const struct exitbus_spawn_action *action)
{
    if (action->kind == EXITBUS_SPAWN_DUP2)
        return move_fd(action->source_fd, action->fd);
    if (action->kind == EXITBUS_SPAWN_CLOSE)
        return syscall(SYS_close, action->fd) < 0 ? errno : 0;
    long opened =
        syscall(SYS_openat, AT_FDCWD, action->path, action->open_flags, (long)action->mode);
    if (opened < 0)
        return errno;
    if (opened == action->fd)
        return 0;
    int error = move_fd((int)opened, action->fd);
    syscall(SYS_close, (int)opened);
    return error;
}

CHILD_CODE static int prepare(const struct child *child)
{
    const struct exitbus_spawn_options *options = child->options;
    int error = reset_signals(child);
    if (error)
        return error;
    if ((options->flags & EXITBUS_SPAWN_SETSID) && syscall(SYS_setsid) < 0)
        return errno;
    if ((options->flags & EXITBUS_SPAWN_SETPGROUP) &&
        syscall(SYS_setpgid, 0, options->process_group) < 0)
        return errno;
    if (options->directory && syscall(SYS_chdir, options->directory) < 0)
        return errno;
    for (size_t i = 0; i < options->action_count; i++) {
        error = do_action(&options->actions[i]);
        if (error)
            return error;
    }
    return 0;
}

CHILD_CODE static int exec(const struct child *child, const char *path)
{
    syscall(SYS_execve, path, child->options->argv, child->envp);
    return errno;
}

/* Try every directory of PATH, as execvp does. */
CHILD_CODE static int exec_searching(const struct child *child)
{
    char buffer[PATH_MAX];
    size_t name_size = strlen(child->path) + 1;
    bool denied = false;
    int error = ENOENT;
    for (const char *part = child->search; part;) {
        const char *colon = strchr(part, ':');
        size_t size = colon ? (size_t)(colon - part) : strlen(part);
        if (size + 1 + name_size <= sizeof buffer) {
            memcpy(buffer, part, size);
            size_t slash = size > 0 ? 1 : 0; /* an empty part is the working directory */
            buffer[size] = '/';
            memcpy(buffer + size + slash, child->path, name_size);
            error = exec(child, buffer);
            if (error == EACCES)
                denied = true;
            else if (error != ENOENT && error != ENOTDIR && error != ESTALE && error != ENODEV &&
                     error != ETIMEDOUT)
                return error;
        } else {
            error = ENAMETOOLONG;
        }
        part = colon ? colon + 1 : NULL;
    }
    return denied ? EACCES : error;
}

CHILD_CODE static int child_main(void *argument)
{
    struct child *child = argument;
    int error = prepare(child);
    if (!error && child->subscription) {
        child->subscription->pid = (pid_t)syscall(SYS_getpid);
        reclaim_enter();
        error = -subscription_activate(child->subscription);
        reclaim_leave();
        child->activated = !error;
    }
    if (!error) {
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &child->signal_mask, NULL, SIGNAL_SET_BYTES);
        error = child->search ? exec_searching(child) : exec(child, child->path);
    }
    child->error = error;
    syscall(SYS_exit_group, 127);
    __builtin_unreachable();
}

/* --------------------------------------------------------------------------------- the parent */

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

/*
 * After clone has come back without an error: has the child exec'd? Until then, and only then, it
 * is a child without an exit signal, for which __WCLONE stands.
 */
static bool has_execed(pid_t pid)
{
    siginfo_t info;
    return sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | WAIT_CLONE, NULL) == -ECHILD;
}

static void reap_unborn(pid_t pid)
{
    siginfo_t info;
    int result;
    do
        result = sys_waitid(P_PID, pid, &info, WEXITED | WAIT_CLONE, NULL);
    while (result < 0 && result != -ECHILD);
}

/* Clone, and learn how it went. 0 or a negative errno, with no child left. */
static int run_child(struct child *child, bool want_pidfd, pid_t *pid, int *pidfd)
{
    _Alignas(16) char stack[CHILD_STACK];
    uint64_t all = ~(uint64_t)0, before;
    int saved = errno;
    /* By system call: the libc's function leaves its own two signals unblocked. */
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, SIGNAL_SET_BYTES);
    child->signal_mask = before;
    if (child->options->flags & EXITBUS_SPAWN_SIGMASK)
        memcpy(&child->signal_mask, child->options->signal_mask, sizeof child->signal_mask);
    /* No exit signal: see the top of this file. */
    int flags = CLONE_VM | CLONE_VFORK | (want_pidfd ? CLONE_PIDFD : 0);
    pid_t started = clone(child_main, stack + sizeof stack, flags, child, pidfd);
    int result = started < 0 ? -errno : 0;
    if (result == 0 && (child->error || !has_execed(started)))
        result = child->error ? -child->error : -EINTR; /* killed before it could exec */
    if (result < 0 && started > 0)
        reap_unborn(started);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGNAL_SET_BYTES);
    errno = saved;
    if (result < 0 && started > 0 && want_pidfd)
        sys_close(*pidfd);
    *pid = started;
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
    }
    int result = run_child(child, reaper != NULL, pid, &pidfd);
    if (result < 0) {
        if (watch)
            watch_discard(reaper, watch);
        return result;
    }
    if (watch)
        watch_begin(reaper, watch, *pid, pidfd);
    return 0;
}

/* A subscription whose pid the child will fill in. */
static int prepare_subscription(struct exitbus *bus, struct exitbus_subscription **subscription)
{
    struct exitbus_topic topic = exitbus_topic_pid(1);
    reclaim_enter();
    int result = subscription_create(&bus->hub, &topic, EXITBUS_SUBSCRIBE_ONE_SHOT, subscription);
    reclaim_leave();
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
    if (fork_guard_in_child())
        return -ESTALE;
    if (bus_closed(bus))
        return -ESHUTDOWN;
    struct child child = {.options = options,
                          .path = options->path ? options->path : options->argv[0],
                          .envp = options->envp ? options->envp : environ};
    if ((options->flags & EXITBUS_SPAWN_SEARCH_PATH) && !strchr(child.path, '/')) {
        child.search = getenv("PATH");
        if (!child.search)
            child.search = "/bin:/usr/bin";
    }
    struct exitbus_reaper *reaper;
    result = reaper_begin_spawn(bus, &reaper);
    if (result < 0)
        return result;
    pid_t started;
    if (subscription)
        result = prepare_subscription(bus, &child.subscription);
    if (result == 0) {
        result = spawn(&child, reaper, &started);
        if (result == 0) {
            *pid = started;
            if (subscription)
                *subscription = child.subscription;
        } else if (child.activated) {
            exitbus_unsubscribe(child.subscription);
        } else if (child.subscription) {
            subscription_discard(child.subscription);
        }
    }
    reaper_end_spawn();
    return result;
}
