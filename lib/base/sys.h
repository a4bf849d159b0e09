/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * System calls, all made here and through syscall(2): the libc wrappers of some of these are
 * cancellation points, and a thread cancelled inside a publish would stay in its read-side section
 * for ever. Each returns a result >= 0 or a negative errno value. EINTR is retried here wherever
 * the caller could do nothing else, up to a bound. Every descriptor made here is >= 3 and
 * close-on-exec. Uses: platform.
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

/*
 * Move a descriptor out of 0, 1 and 2, which belong to the program even while they are closed.
 * Takes and returns a result: a descriptor >= 3 or a negative errno.
 */
int sys_above_stdio(int fd);
/* Is it open? Tells nothing about what it is. */
bool sys_fd_open(int fd);

/*
 * Sleep while *word == value, until the absolute CLOCK_MONOTONIC deadline (NULL: none).
 * 0, -EAGAIN (value differs), -EINTR, -ETIMEDOUT. Where the kernel refuses futexes: -EINTR after
 * some milliseconds.
 */
int sys_futex_wait(uint32_t *word, uint32_t value, const struct timespec *deadline);
/* Wake every thread that sleeps on word. Does nothing where the kernel refuses futexes. */
void sys_futex_wake_all(uint32_t *word);

/* An eventfd, non-blocking and close-on-exec; with `semaphore`, a read takes one token. */
int sys_eventfd(bool semaphore);
/* Add one token. */
int sys_eventfd_add(int fd);
/* The same, up to 8 times. */
int sys_eventfd_add_again(int fd);
/* Add some with one write. */
int sys_eventfd_add_tokens(int fd, uint64_t tokens);
/* Take a token (or all, without semaphore); -EAGAIN if there is none. */
int sys_eventfd_take(int fd);

int sys_timerfd(void);
/* One expiry after `delay_ns`; 0 disarms. */
int sys_timerfd_arm(int fd, int64_t delay_ns);

int sys_epoll_create(void);
/* Input on fd, named by `key`; `once`: named by one epoll_wait at most. */
int sys_epoll_add(int epoll_fd, int fd, bool once, uint64_t key);
int sys_epoll_delete(int epoll_fd, int fd);
/* timeout_ms < 0: for ever. -EINTR, also then: the caller looks around and waits again. */
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

/*
 * sys_futex_wait() for a thread that has nothing else to do: returns after a wake-up, after `ns`
 * (< 0: there is no such limit), or early. Where the kernel refuses to let it sleep it naps, so a
 * loop around it never spins. Does not read the clock.
 */
void sys_sleep_on(uint32_t *word, uint32_t value, int64_t ns);
/* Sleep for that time, or less. */
void sys_nap(int64_t ns);
/* The calling thread, as the kernel numbers it; and is there none of that number any more? */
uint32_t sys_thread_id(void);
bool sys_thread_ended(uint32_t thread);

/* A signalfd for one signal, which the calling threads have blocked. */
int sys_signalfd(int signal);
/* Take the signal from the thread's or the process's pending ones. False: it is not pending. */
bool sys_signalfd_take(int fd);
/* Send a signal to the process's first thread. */
void sys_signal_first_thread(int signal);

#ifdef EXITBUS_TEST_HOOKS
/* Called before a system call; a negative result is returned in its place. */
extern int (*exitbus_test_syscall)(long number);
#endif

#endif
