/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The child until exec: see spawn_child.h. */
#include "spawn_child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The frames lie on another stack and never return: nothing for sanitizers to follow. */
#define CHILD_CODE __attribute__((no_sanitize_address, no_sanitize_thread))

/* As the kernel has it. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

CHILD_CODE static int reset_signals(const struct child *child)
{
    const sigset_t *defaults =
        child->options->flags & EXITBUS_SPAWN_SIGDEFAULT ? child->options->signal_default : NULL;
    if (child->handlers_reset && !defaults)
        return 0;
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

/* In copied memory: the parent subscribes, then opens the gate. */
CHILD_CODE static int wait_at_gate(const struct child *child)
{
    char byte;
    long got;
    syscall(SYS_close, child->gate_other_fd); /* or its end would never be seen */
    do
        got = syscall(SYS_read, child->gate_fd, &byte, 1L);
    while (got < 0 && errno == EINTR);
    return got == 1 ? 0 : ECANCELED;
}

CHILD_CODE static int subscribe(struct child *child)
{
    if (child->gate_fd >= 0)
        return wait_at_gate(child);
    pid_t pid = child->pid > 0 ? child->pid : (pid_t)syscall(SYS_getpid);
    reaper_spawn_reserve(child->watch, pid);
    if (!child->subscription || mutant(SPAWN_SUBSCRIBES_LATE))
        return 0;
    child->subscription->pid = pid;
    subscription_insert(child->subscription);
    return 0;
}

CHILD_CODE int child_main(void *argument)
{
    struct child *child = argument;
    int error = prepare(child);
    if (!error)
        error = subscribe(child);
    if (!error) {
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &child->signal_mask, NULL, SIGNAL_SET_BYTES);
        error = child->search ? exec_searching(child) : exec(child, child->path);
    }
    child->error = error;
    if (child->error_fd >= 0)
        syscall(SYS_write, child->error_fd, &error, sizeof error);
    syscall(SYS_exit_group, 127);
    __builtin_unreachable();
}
