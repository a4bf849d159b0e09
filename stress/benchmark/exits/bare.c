/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * No library: start a child, block in waitid. For one pid at a time this is the floor, and no answer
 * for a program that has more than one child to wait for; any child at once is what a loop does.
 */
#include "peer.h"

#include <errno.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/wait.h>

extern char **environ;

static int start(void)
{
    return 0;
}

static pid_t spawn_vfork(char *const argv[], bool awaited)
{
    pid_t pid = spawn_by_vfork(argv);
    if (pid > 0 && awaited)
        pids_push(pid);
    return pid;
}

static pid_t spawn_posix(char *const argv[], bool awaited)
{
    pid_t pid;
    int error = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    if (error)
        return -error;
    if (awaited)
        pids_push(pid);
    return pid;
}

static pid_t await(idtype_t type, pid_t pid)
{
    siginfo_t info;
    while (waitid(type, (id_t)pid, &info, WEXITED) != 0)
        if (errno != EINTR)
            return -errno;
    return info.si_pid;
}

static pid_t await_oldest(void)
{
    return await(P_PID, pids_pop());
}

static pid_t await_any(void)
{
    pids_pop();
    return await(P_ALL, 0);
}

const struct exit_peer peer_bare_vfork = {
    "waitid", "vfork and exec; waitid(P_PID)", start, spawn_vfork, await_oldest};
const struct exit_peer peer_bare_posix_spawn = {
    "waitid+posix_spawn", "posix_spawn; waitid(P_PID)", start, spawn_posix, await_oldest};
const struct exit_peer peer_bare_wait_any = {
    "waitid-any", "vfork and exec; waitid(P_ALL)", start, spawn_vfork, await_any};
