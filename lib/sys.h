/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * System calls, all made here and through syscall(2): the libc wrappers of some of these are
 * cancellation points, and a thread cancelled inside a publish would stay in its read-side section
 * for ever. Each returns a result >= 0 or a negative errno value. EINTR is retried here wherever
 * the caller could do nothing else. Uses: platform.
 *
 * In a build with EXITBUS_TEST_HOOKS a test can make any call fail.
 */
#ifndef EXITBUS_SYS_H
#define EXITBUS_SYS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

struct epoll_event;

/* Sleep while *word == value, until the absolute CLOCK_MONOTONIC deadline (NULL: none).
 * 0, -EAGAIN (value differs), -EINTR, -ETIMEDOUT. */
int sys_futex_wait(uint32_t *word, uint32_t value, const struct timespec *deadline);
/* Wake every thread that sleeps on word. */
void sys_futex_wake_all(uint32_t *word);

/* An eventfd, non-blocking and close-on-exec; with `semaphore`, a read takes one token. */
int sys_eventfd(bool semaphore);
/* Add one token. */
int sys_eventfd_add(int fd);
/* Add some with one write. */
int sys_eventfd_add_tokens(int fd, uint64_t tokens);
/* The same, again if a fault is injected; gives up only if somebody has closed the descriptor. */
void sys_eventfd_add_surely(int fd);
/* Take a token (or all, without semaphore); -EAGAIN if there is none. */
int sys_eventfd_take(int fd);

int sys_timerfd(void);
/* One expiry after `delay_ns`; 0 disarms. */
int sys_timerfd_arm(int fd, int64_t delay_ns);

int sys_epoll_create(void);
/* Input on fd; `once`: named by one epoll_wait at most. */
int sys_epoll_add(int epoll_fd, int fd, bool once, void *data);
int sys_epoll_delete(int epoll_fd, int fd);
/* timeout_ms < 0: for ever. Retries EINTR only if it may wait for ever. */
int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity, int timeout_ms);

/* Does it poll readable now? */
bool sys_readable(int fd);

int sys_pidfd_open(pid_t pid);
int sys_close(int fd);

/* waitid with rusage; -ECHILD. info->si_pid is 0 when WNOHANG found none. */
int sys_waitid(int id_type, int id, siginfo_t *info, int options, struct rusage *usage);
/* The wait status of a process that was reaped already; -errno where the kernel can't tell. */
int sys_pidfd_exit_status(int pidfd, int *status);

/* Every thread of this process executes a full barrier; -errno where the kernel can't. */
int sys_membarrier(void);
int sys_membarrier_register(void);

int64_t sys_clock_ns(clockid_t clock);

#ifdef EXITBUS_TEST_HOOKS
/* Called before a system call; a negative result is returned in its place. */
extern int (*exitbus_test_syscall)(long number);
#endif

#endif
