/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The attributes of a child: see spawn_attributes.h.
 *
 * Why it is right
 *  1. It obeys the rules of spawn_child.c: system calls alone, in the child.
 *  2. Groups, then group id, then user id: after the last the child may change none of them. Ids
 *     are read back, since a kernel that leaves one as it was would leave a privilege.
 *  3. The death signal is set last, because a change of ids clears it. If the parent has ended
 *     before, the kernel has reparented the child: it sees that, and does not exec.
 */
#include "process/spawn_attributes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of a system call. Returns an errno, or 0. */
CHILD_CODE static int error_of(long result)
{
    return result < 0 ? errno : 0;
}

/* ------------------------------------------------------------------------ before the directory */

CHILD_CODE static int take_terminal(struct child *child)
{
    const struct exitbus_spawn_attributes *attributes = child->options->attributes;
    int error = 0;
    child_begin_step(child, EXITBUS_SPAWN_STEP_TERMINAL, 0);
    if (attributes->set & EXITBUS_ATTRIBUTE_TERMINAL)
        error = error_of(syscall(SYS_ioctl, attributes->terminal_fd, TIOCSCTTY, 0L));
    if (!error && (attributes->set & EXITBUS_ATTRIBUTE_FOREGROUND)) {
        /* SIGTTOU, which a background process would get for it, is blocked. */
        pid_t group = (pid_t)syscall(SYS_getpgid, 0);
        error = error_of(syscall(SYS_ioctl, attributes->terminal_fd, TIOCSPGRP, &group));
    }
    return error;
}

/* Enter the cgroup, where the clone could not do that. */
CHILD_CODE static int enter_cgroup(struct child *child)
{
    child_begin_step(child, EXITBUS_SPAWN_STEP_CGROUP, 0);
    long fd = syscall(SYS_openat, child->options->attributes->cgroup_fd, "cgroup.procs",
                      O_WRONLY | O_CLOEXEC, 0L);
    if (fd < 0)
        return errno;
    int error = error_of(syscall(SYS_write, (int)fd, "0", 1L));
    syscall(SYS_close, (int)fd);
    return error;
}

CHILD_CODE static int change_root(struct child *child)
{
    child_begin_step(child, EXITBUS_SPAWN_STEP_ROOT, 0);
    int error = error_of(syscall(SYS_chroot, child->options->attributes->root));
    return error ? error : error_of(syscall(SYS_chdir, "/"));
}

CHILD_CODE int attributes_before_directory(struct child *child)
{
    uint32_t set = attributes_set(child->options);
    int error = 0;
    if (set & (EXITBUS_ATTRIBUTE_TERMINAL | EXITBUS_ATTRIBUTE_FOREGROUND))
        error = take_terminal(child);
    if (!error && (set & EXITBUS_ATTRIBUTE_CGROUP) && !child->in_cgroup)
        error = enter_cgroup(child);
    if (!error && (set & EXITBUS_ATTRIBUTE_ROOT))
        error = change_root(child);
    if (!error && (set & EXITBUS_ATTRIBUTE_UMASK)) /* can't fail */
        syscall(SYS_umask, (long)child->options->attributes->umask);
    return error;
}

/* -------------------------------------------------------------------------- after the actions */

CHILD_CODE static int set_limits(struct child *child)
{
    const struct exitbus_spawn_attributes *attributes = child->options->attributes;
    for (size_t i = 0; i < attributes->limit_count; i++) {
        const struct exitbus_spawn_limit *limit = &attributes->limits[i];
        const uint64_t values[2] = {limit->soft, limit->hard};
        child_begin_step(child, EXITBUS_SPAWN_STEP_LIMIT, i);
        int error = error_of(syscall(SYS_prlimit64, 0L, (long)limit->resource, values, NULL));
        if (error)
            return error;
    }
    return 0;
}

CHILD_CODE static int set_priorities(struct child *child)
{
    const struct exitbus_spawn_attributes *attributes = child->options->attributes;
    int error = 0;
    if (attributes->set & EXITBUS_ATTRIBUTE_NICE) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_NICE, 0);
        error = error_of(syscall(SYS_setpriority, 0L /* PRIO_PROCESS */, 0L, attributes->nice));
    }
    if (!error && (attributes->set & EXITBUS_ATTRIBUTE_SCHEDULER)) {
        const struct sched_param param = {.sched_priority = attributes->scheduler_priority};
        child_begin_step(child, EXITBUS_SPAWN_STEP_SCHEDULER, 0);
        error = error_of(syscall(SYS_sched_setscheduler, 0L, attributes->scheduler, &param));
    }
    if (!error && (attributes->set & EXITBUS_ATTRIBUTE_CPUS)) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_CPUS, 0);
        error =
            error_of(syscall(SYS_sched_setaffinity, 0L, attributes->cpus_size, attributes->cpus));
    }
    return error;
}

CHILD_CODE static int set_groups(struct child *child)
{
    const struct exitbus_spawn_attributes *attributes = child->options->attributes;
    bool given = attributes->set & EXITBUS_ATTRIBUTE_GROUPS;
    /* A child that gives up root must not keep root's groups. Without root it has its own. */
    if (!given && (!(attributes->set & EXITBUS_ATTRIBUTE_UID) || syscall(SYS_geteuid) != 0))
        return 0;
    child_begin_step(child, EXITBUS_SPAWN_STEP_GROUPS, 0);
    return error_of(syscall(SYS_setgroups, given ? attributes->group_count : 0,
                            given ? attributes->groups : NULL));
}

CHILD_CODE static int set_ids(struct child *child)
{
    const struct exitbus_spawn_attributes *attributes = child->options->attributes;
    int error = set_groups(child);
    if (!error && (attributes->set & EXITBUS_ATTRIBUTE_GID)) {
        gid_t gid = attributes->gid, is[3];
        child_begin_step(child, EXITBUS_SPAWN_STEP_GID, 0);
        error = error_of(syscall(SYS_setresgid, gid, gid, gid));
        if (!error && (syscall(SYS_getresgid, &is[0], &is[1], &is[2]) < 0 || is[0] != gid ||
                       is[1] != gid || is[2] != gid))
            error = EPERM;
    }
    if (!error && (attributes->set & EXITBUS_ATTRIBUTE_UID)) {
        uid_t uid = attributes->uid, is[3];
        child_begin_step(child, EXITBUS_SPAWN_STEP_UID, 0);
        error = error_of(syscall(SYS_setresuid, uid, uid, uid));
        if (!error && (syscall(SYS_getresuid, &is[0], &is[1], &is[2]) < 0 || is[0] != uid ||
                       is[1] != uid || is[2] != uid))
            error = EPERM;
    }
    return error;
}

CHILD_CODE static int set_death_signal(struct child *child)
{
    child_begin_step(child, EXITBUS_SPAWN_STEP_DEATH_SIGNAL, 0);
    int error = error_of(
        syscall(SYS_prctl, PR_SET_PDEATHSIG, (long)child->options->attributes->death_signal));
    long parent = syscall(SYS_getppid); /* 0: it is in another pid namespace */
    return error ? error : parent != 0 && parent != child->parent ? ESRCH : 0;
}

CHILD_CODE int attributes_after_actions(struct child *child)
{
    uint32_t set = attributes_set(child->options);
    int error = set & EXITBUS_ATTRIBUTE_LIMITS ? set_limits(child) : 0;
    if (!error && set)
        error = set_priorities(child);
    if (!error && set)
        error = set_ids(child);
    if (!error && (child->options->flags & EXITBUS_SPAWN_NO_NEW_PRIVS)) {
        child_begin_step(child, EXITBUS_SPAWN_STEP_NO_NEW_PRIVS, 0);
        error = error_of(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L));
    }
    if (!error && (set & EXITBUS_ATTRIBUTE_DEATH_SIGNAL))
        error = set_death_signal(child);
    return error;
}

/* ---------------------------------------------------------------------------------- CLOSE_FROM */

/* Returns the number that a name in /proc/self/fd stands for; -1: none. */
CHILD_CODE static int number_of(const char *name)
{
    int number = 0;
    for (; *name; name++) {
        if (*name < '0' || *name > '9')
            return -1;
        number = number * 10 + (*name - '0');
    }
    return number;
}

/* Returns whether the child needs it until exec, which closes it. */
CHILD_CODE static bool is_needed(const struct child *child, int fd)
{
    return fd == child->gate_fd || fd == child->report_fd;
}

/* By the names in /proc/self/fd. Returns 0 or an errno. */
CHILD_CODE static int close_listed(const struct child *child, int first)
{
    long directory =
        syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0L);
    if (directory < 0)
        return errno;
    long size;
    while ((size = syscall(SYS_getdents64, (int)directory, child->buffer, (long)PATH_MAX)) > 0) {
        for (long at = 0; at < size;) {
            const struct sys_dirent *entry = (const void *)(child->buffer + at);
            int fd = number_of(entry->name);
            if (fd >= first && fd != (int)directory && !is_needed(child, fd))
                syscall(SYS_close, fd);
            at += entry->size;
        }
    }
    int error = size < 0 ? errno : 0;
    syscall(SYS_close, (int)directory);
    return error;
}

/* By trying every number. Returns 0 or an errno. */
CHILD_CODE static int close_each(const struct child *child, int first)
{
    uint64_t limit[2];
    if (syscall(SYS_prlimit64, 0L, (long)RLIMIT_NOFILE, NULL, limit) < 0)
        return errno;
    for (int fd = first; fd < INT_MAX && (uint64_t)fd < limit[0]; fd++)
        if (!is_needed(child, fd))
            syscall(SYS_close, fd);
    return 0;
}

/* Close a range; nothing if it is empty. Returns 0 or an errno. */
CHILD_CODE static int close_range_of(int first, unsigned last)
{
#ifdef SYS_close_range
    if (first >= 0 && (unsigned)first > last)
        return 0;
    return error_of(syscall(SYS_close_range, first, last, 0L));
#else
    (void)first, (void)last;
    return ENOSYS;
#endif
}

CHILD_CODE int attributes_close_from(const struct child *child, int first)
{
    /* What is needed divides the range; -1 is below it. */
    int low = child->gate_fd < child->report_fd ? child->gate_fd : child->report_fd;
    int high = child->gate_fd < child->report_fd ? child->report_fd : child->gate_fd;
    int error = 0, from = first;
    if (low >= from) {
        error = low > from ? close_range_of(from, (unsigned)low - 1) : 0;
        from = low + 1;
    }
    if (!error && high >= from) {
        error = high > from ? close_range_of(from, (unsigned)high - 1) : 0;
        from = high + 1;
    }
    if (!error)
        error = close_range_of(from, UINT_MAX);
    /* Linux 5.9 has the call; a filter may refuse it. */
    if (error)
        error = close_listed(child, first);
    return error ? close_each(child, first) : 0;
}
