/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No library: start a child, block in waitid. For one pid at a time this is the floor, and no
 * answer for a program that has more than one child to wait for; any child at once is what a loop
 * does. The relay is the least that a thread which waits for all children can do for the others:
 * hand the pid over and wake one. It costs more than waitid alone by the second wake, which no
 * library can save.
 */
#include "peer.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* ----------------------------------------------------------------------------------- relay */

/* More than any workload has in flight. */
#define RELAYED_MAX 4096
static pid_t relayed[RELAYED_MAX];
static _Atomic uint32_t relayed_count, spawned_count;
static uint32_t taken_count;

static void sleep_on(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void *relay(void *unused)
{
    (void)unused;
    for (;;) {
        uint32_t spawned = atomic_load(&spawned_count);
        pid_t pid = await(P_ALL, 0);
        if (pid < 0) {
            sleep_on(&spawned_count, spawned);
            continue;
        }
        uint32_t count = atomic_load(&relayed_count);
        relayed[count % RELAYED_MAX] = pid;
        atomic_store(&relayed_count, count + 1);
        wake(&relayed_count);
    }
    return NULL;
}

static int start_relay(void)
{
    pthread_t thread;
    return -pthread_create(&thread, NULL, relay, NULL);
}

static pid_t spawn_relayed(char *const argv[], bool awaited)
{
    (void)awaited;
    pid_t pid = spawn_by_vfork(argv);
    atomic_fetch_add(&spawned_count, 1);
    wake(&spawned_count);
    return pid;
}

static pid_t await_relayed(void)
{
    uint32_t count;
    while ((count = atomic_load(&relayed_count)) == taken_count)
        sleep_on(&relayed_count, count);
    return relayed[taken_count++ % RELAYED_MAX];
}

const struct exit_peer peer_bare_relay = {"bare-relay", "vfork and exec; a thread in waitid(P_ALL)",
                                          start_relay, spawn_relayed, await_relayed};
const struct exit_peer peer_bare_vfork = {"waitid", "vfork and exec; waitid(P_PID)", start,
                                          spawn_vfork, await_oldest};
const struct exit_peer peer_bare_posix_spawn = {"waitid+posix_spawn", "posix_spawn; waitid(P_PID)",
                                                start, spawn_posix, await_oldest};
const struct exit_peer peer_bare_wait_any = {"waitid-any", "vfork and exec; waitid(P_ALL)", start,
                                             spawn_vfork, await_any};
