/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The child until exec: see spawn_child.h.
 *
 * Why it is right
 *  1. It calls nothing of the libc but syscall() and string functions, which take no lock. Of the
 *     parent's memory they change errno alone, and the parent restores that.
 *  2. Its signals are blocked until all handlers are reset: a handler would run in the parent's
 *     memory.
 *  3. It announces itself before it unblocks signals and execs, and after all that can fail before.
 */
#include "process/spawn_attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Attempts at a read that was interrupted; all signals are blocked, so one is rare. */
#define READ_ATTEMPTS 100

/* The struct sigaction of the kernel. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* ---------------------------------------------------------------------------------- signals */

CHILD_CODE static int set_default(int signal)
{
    const struct kernel_sigaction action = {.handler = SIG_DFL};
    return syscall(SYS_rt_sigaction, signal, &action, NULL, SIGNAL_SET_BYTES) != 0 ? errno : 0;
}

/* Look at each signal, in 64 system calls and more. SIGKILL and SIGSTOP always have the default. */
CHILD_CODE static int reset_each_signal(const struct child *child)
{
    for (int signal = 1; signal <= SIGNALS; signal++) {
        struct kernel_sigaction action;
        if (syscall(SYS_rt_sigaction, signal, NULL, &action, SIGNAL_SET_BYTES) != 0)
            continue;
        bool stays = action.handler == SIG_IGN && !(child->reset_ignored >> (signal - 1) & 1);
        if (action.handler == SIG_DFL || stays)
            continue;
        int error = set_default(signal);
        if (error)
            return error;
    }
    return 0;
}

CHILD_CODE static int reset_signals(const struct child *child)
{
    if (child->handlers_reset && child->reset_ignored == 0)
        return 0;
    if (!child->handlers_reset || !child->ignored_known)
        return reset_each_signal(child);
    uint64_t ignored = child->ignored & child->reset_ignored;
    for (int signal = 1; ignored != 0; signal++, ignored >>= 1)
        if (ignored & 1) {
            int error = set_default(signal);
            if (error)
                return error;
        }
    return 0;
}

/* ------------------------------------------------------------------------------ file actions */

/* Move a descriptor. `flags`: O_CLOEXEC or 0, for its new place. Returns an errno, or 0. */
CHILD_CODE static int move_fd(int from, int to, int flags)
{
    if (from == to)
        return syscall(SYS_fcntl, from, F_SETFD, flags ? FD_CLOEXEC : 0) < 0 ? errno : 0;
    return syscall(SYS_dup3, from, to, flags) < 0 ? errno : 0;
}

/* Close a descriptor. One that is not open is no error, as for posix_spawn(). */
CHILD_CODE static int close_fd(int fd)
{
    return syscall(SYS_close, fd) < 0 && errno != EBADF ? errno : 0;
}

CHILD_CODE static int open_file(int fd, const char *path, int flags, mode_t mode)
{
    /* Close it first, as posix_spawn() does, so that this works where no other number is free. */
    int error = close_fd(fd);
    if (error)
        return error;
    long opened = syscall(SYS_openat, AT_FDCWD, path, flags, (long)mode);
    if (opened < 0)
        return errno;
    if (opened == fd)
        return 0;
    error = move_fd((int)opened, fd, flags & O_CLOEXEC);
    syscall(SYS_close, (int)opened);
    return error;
}

CHILD_CODE static int do_action(const struct child *child,
                                const struct exitbus_spawn_action *action)
{
    switch (action->kind) {
    case EXITBUS_SPAWN_OPEN:
        return open_file(action->fd, action->path, action->open_flags, action->mode);
    case EXITBUS_SPAWN_DUP2:
        return move_fd(action->source_fd, action->fd, 0);
    case EXITBUS_SPAWN_CLOSE:
        return close_fd(action->fd);
    case EXITBUS_SPAWN_CHDIR:
        return syscall(SYS_chdir, action->path) < 0 ? errno : 0;
    case EXITBUS_SPAWN_FCHDIR:
        return syscall(SYS_fchdir, action->fd) < 0 ? errno : 0;
    case EXITBUS_SPAWN_CLOSE_FROM:
        return attributes_close_from(child, action->fd);
    case EXITBUS_SPAWN_NULL:
        return open_file(action->fd, "/dev/null", O_RDWR, 0);
    }
    return EINVAL;
}

/* -------------------------------------------------------------------------------- preparation */

CHILD_CODE static int join_session_and_group(struct child *child)
{
    const struct exitbus_spawn_options *options = child->options;
    if (options->flags & EXITBUS_SPAWN_SETSID) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_SESSION, 0);
        if (syscall(SYS_setsid) < 0)
            return errno;
    }
    if (options->flags & EXITBUS_SPAWN_SETPGROUP) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_PROCESS_GROUP, 0);
        if (syscall(SYS_setpgid, 0, options->process_group) < 0)
            return errno;
    }
    return 0;
}

CHILD_CODE static int prepare(struct child *child)
{
    const struct exitbus_spawn_options *options = child->options;
    child_begin_step(child, EXITBUS_SPAWN_STEP_SIGNALS, 0);
    int error = reset_signals(child);
    if (!error)
        error = join_session_and_group(child);
    if (!error)
        error = attributes_before_directory(child);
    if (error)
        return error;
    if (options->directory) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_DIRECTORY, 0);
        if (syscall(SYS_chdir, options->directory) < 0)
            return errno;
    }
    for (size_t i = 0; i < options->action_count; i++) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_ACTION, i);
        error = do_action(child, &options->actions[i]);
        if (error)
            return error;
    }
    return attributes_after_actions(child);
}

/* --------------------------------------------------------------------------------------- exec */

CHILD_CODE static int exec(const struct child *child, const char *path)
{
    syscall(SYS_execve, path, child->options->argv, child->envp);
    if (errno != ENOEXEC || !child->shell)
        return errno;
    child->shell[1] = path; /* it has no format that the kernel knows, so it may be a script */
    syscall(SYS_execve, child->shell[0], child->shell, child->envp);
    return errno;
}

CHILD_CODE static int exec_by_descriptor(const struct child *child)
{
    syscall(SYS_execveat, child->options->attributes->program_fd, "", child->options->argv,
            child->envp, AT_EMPTY_PATH);
    return errno;
}

/* Try every directory of PATH, as execvp() does. Returns the error to report. */
CHILD_CODE static int exec_searching(const struct child *child)
{
    size_t name_size = strlen(child->path) + 1;
    bool denied = false;
    int error = ENOENT;
    for (const char *part = child->search; part;) {
        const char *colon = strchr(part, ':');
        size_t size = colon ? (size_t)(colon - part) : strlen(part);
        if (size + 1 + name_size <= PATH_MAX) {
            memcpy(child->buffer, part, size);
            size_t slash = size > 0 ? 1 : 0; /* an empty part is the working directory */
            child->buffer[size] = '/';
            memcpy(child->buffer + size + slash, child->path, name_size);
            error = exec(child, child->buffer);
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

/* Wait until the parent has announced the child, in copied memory. */
CHILD_CODE static int wait_at_gate(const struct child *child)
{
    char byte;
    long got = -1;
    syscall(SYS_close, child->gate_other_fd); /* or the end of the parent would not be seen */
    for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
        got = syscall(SYS_read, child->gate_fd, &byte, 1L);
        if (got >= 0 || errno != EINTR)
            break;
    }
    return got == 1 ? 0 : ECANCELED;
}

/*
 * Find the pid that the parent's namespace has for this child. Returns 0 if that can't be done:
 * getppid() has no number for a parent in another pid namespace.
 */
CHILD_CODE static pid_t outer_pid(const struct child *child)
{
    if (child->named)
        return child->pid;
    return syscall(SYS_getppid) > 0 ? (pid_t)syscall(SYS_getpid) : 0;
}

CHILD_CODE static int announce_self(struct child *child)
{
    if (child->gate_fd >= 0)
        return wait_at_gate(child);
    pid_t pid = outer_pid(child);
    if (pid > 0)
        handover_announce(&child->handover, pid);
    return 0;
}

CHILD_CODE static int start_program(struct child *child)
{
    child_begin_step(child, EXITBUS_SPAWN_STEP_SIGNALS, 0);
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &child->signal_mask, NULL, SIGNAL_SET_BYTES) != 0)
        return errno;
    child_begin_step(child, EXITBUS_SPAWN_STEP_EXEC, 0);
    if (attributes_set(child->options) & EXITBUS_ATTRIBUTE_PROGRAM_FD)
        return exec_by_descriptor(child);
    return child->search ? exec_searching(child) : exec(child, child->path);
}

/* End the child. A filter may refuse both calls; then the trap, whose signal can't be blocked. */
CHILD_CODE static _Noreturn void end_child(void)
{
    syscall(SYS_exit_group, 127);
    syscall(SYS_exit, 127);
    __builtin_trap();
}

CHILD_CODE int child_main(void *argument)
{
    struct child *child = argument;
    /* The kernel has written the pid into the parent's memory. So this memory is a copy of it. */
    if (child->named && child->pid == 0)
        end_child();
    child->began = true;
    int error = prepare(child);
    if (!error)
        error = announce_self(child);
    if (!error)
        error = start_program(child);
    child->report.error = error;
    if (child->report_fd >= 0)
        syscall(SYS_write, child->report_fd, &child->report, sizeof child->report);
    end_child();
}
