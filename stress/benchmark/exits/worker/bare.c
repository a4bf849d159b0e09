/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * No library: start a child, block in waitid. For one pid at a time this is the floor, and no
 * answer for a program that has more than one child to wait for; any child at once is what a loop
 * does. The relay is the least that a thread which waits for all children can do for the others:
 * hand the pid over and wake one. It costs more than waitid alone by the second wake, which no
 * library can save. The loops are the least that a program can do which sleeps at a descriptor, and
 * looks at an exit before it reaps the child.
 */
#include "peer.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
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

/* ------------------------------------------------------------------------------------ loops */

#define POLLED_MAX 4096 /* more than any workload has in flight */
static int loop_fd, signal_fd;
static int pidfds[POLLED_MAX];
static unsigned pidfds_first, pidfds_last;

static int add_to_loop(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(loop_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

static int start_loop(void)
{
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    return loop_fd < 0 ? -errno : 0;
}

static int start_signal_loop(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    int result = start_loop();
    return result < 0 ? result : add_to_loop(signal_fd);
}

/* Look, with the times that the child took, and reap. 0: there is none. */
static pid_t look_and_reap(idtype_t type, int id)
{
    siginfo_t info = {.si_pid = 0};
    struct rusage usage;
    if (syscall(SYS_waitid, type, id, &info, WEXITED | WNOHANG | WNOWAIT, &usage) != 0)
        return errno == ECHILD ? 0 : -errno;
    pid_t pid = info.si_pid;
    if (pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) != 0)
        return -errno;
    return pid;
}

static void sleep_in_loop(void)
{
    struct epoll_event event;
    while (epoll_wait(loop_fd, &event, 1, -1) < 0 && errno == EINTR)
        continue;
}

static pid_t await_signal(void)
{
    pid_t pid;
    while ((pid = look_and_reap(P_ALL, 0)) == 0) {
        struct signalfd_siginfo info;
        sleep_in_loop();
        if (read(signal_fd, &info, sizeof info) < 0 && errno != EAGAIN)
            return -errno;
    }
    return pid;
}

static pid_t spawn_pidfd(char *const argv[], bool awaited)
{
    pid_t pid = spawn_by_vfork(argv);
    if (pid < 0 || !awaited)
        return pid;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int result = pidfd < 0 ? -errno : add_to_loop(pidfd);
    pidfds[pidfds_last++ % POLLED_MAX] = pidfd;
    return result < 0 ? result : pid;
}

static pid_t await_pidfd(void)
{
    int pidfd = pidfds[pidfds_first++ % POLLED_MAX];
    pid_t pid;
    do
        sleep_in_loop(); /* level-triggered: it may name a later one, too */
    while ((pid = look_and_reap(P_PIDFD, pidfd)) == 0);
    close(pidfd);
    return pid;
}

const struct exit_peer peer_bare_loop = {"bare-loop",
                                         "vfork and exec; epoll, pidfds; look and reap", start_loop,
                                         spawn_pidfd, await_pidfd};
const struct exit_peer peer_bare_init = {"bare-init", "vfork and exec; epoll, signalfd; look, reap",
                                         start_signal_loop, spawn_vfork, await_signal};
const struct exit_peer peer_bare_relay = {"bare-relay", "vfork and exec; a thread in waitid(P_ALL)",
                                          start_relay, spawn_relayed, await_relayed};
const struct exit_peer peer_bare_vfork = {"waitid", "vfork and exec; waitid(P_PID)", start,
                                          spawn_vfork, await_oldest};
const struct exit_peer peer_bare_posix_spawn = {"waitid+posix_spawn", "posix_spawn; waitid(P_PID)",
                                                start, spawn_posix, await_oldest};
const struct exit_peer peer_bare_wait_any = {"waitid-any", "vfork and exec; waitid(P_ALL)", start,
                                             spawn_vfork, await_any};
