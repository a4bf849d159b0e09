/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * System calls. All are made here, and through syscall(2), because the libc wrappers of some are
 * cancellation points: a thread cancelled inside a publish would stay in its section for ever.
 *
 *   - Each returns a result >= 0 or a negative errno value.
 *   - EINTR is retried here wherever the caller could do nothing else, up to a bound.
 *   - Every descriptor made here is >= 3 and close-on-exec.
 *   - In a build with EXITBUS_TEST_HOOKS a test can make any call fail.
 */
#ifndef EXITBUS_SYS_H
#define EXITBUS_SYS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>

struct epoll_event;

/*
 * Move a descriptor out of 0, 1 and 2, which belong to the program even while they are closed.
 * Takes a descriptor or a negative errno. Returns a descriptor >= 3 or a negative errno.
 */
int sys_above_stdio(int fd);
/* A pipe, both ends closed on exec. Returns 0 or -errno. Its ends may be 0, 1 or 2. */
int sys_pipe(int fds[2]);
/* Duplicate to the lowest free number >= from, closed on exec. Returns it or -errno. */
int sys_duplicate(int fd, int from);
/* Returns whether it is open. It may be another file's by now. */
bool sys_fd_open(int fd);

#define SYS_FUTEX_ANY UINT32_MAX

/*
 * Sleep while *word == value, until the absolute CLOCK_MONOTONIC deadline; NULL: without a limit.
 * `bits` (not 0) says which wake-ups are for it.
 * Returns 0; -EAGAIN: the value differs; -EINTR; or -ETIMEDOUT. Where the kernel refuses futexes it
 * returns -EINTR after some milliseconds. Context: blocks.
 */
int sys_futex_wait(uint32_t *word, uint32_t value, uint32_t bits, const struct timespec *deadline);
/*
 * Wake every thread that sleeps on the word with one of the bits, or with any. Does nothing where
 * the kernel refuses futexes.
 */
void sys_futex_wake(uint32_t *word, uint32_t bits);
void sys_futex_wake_all(uint32_t *word);

/* Make an eventfd, non-blocking. With `semaphore` a read takes one token. */
int sys_eventfd(bool semaphore);
/* Add one token. */
int sys_eventfd_add(int fd);
/* Add one token, with up to 8 attempts. */
int sys_eventfd_add_again(int fd);
/* Add some tokens with one write. */
int sys_eventfd_add_tokens(int fd, uint64_t tokens);
/* Take a token; without `semaphore` all of them. Returns -EAGAIN if there is none. */
int sys_eventfd_take(int fd);

int sys_timerfd(void);
/* Expire once, after `delay_ns`; 0 disarms. */
int sys_timerfd_arm(int fd, int64_t delay_ns);

int sys_epoll_create(void);
/* Wait for input on `fd`, under the name `key`. `once`: only one epoll_wait names it. */
int sys_epoll_add(int epoll_fd, int fd, bool once, uint64_t key);
/* Set what sys_epoll_add() has set. Returns 0 or -errno: `fd` is not in that epoll set. */
int sys_epoll_modify(int epoll_fd, int fd, uint64_t key);
int sys_epoll_delete(int epoll_fd, int fd);
/*
 * Wait for up to `timeout_ms`; below 0: without a limit. Returns how many, or -EINTR, also without
 * a limit: the caller looks around and waits again. Context: blocks.
 */
int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity, int timeout_ms);

/* Returns 1 if it polls readable now, 0 if not, or -errno. */
int sys_readable(int fd);
/*
 * Wait until one of two descriptors polls readable, for up to `ns`; below 0: without a limit.
 * Returns how many are; 0; or -errno, also -EINTR. Context: blocks.
 */
int sys_wait_readable(int fd, int other, int64_t ns);
/* Wait for `fd`, which epoll has named once, to hang up; under the name `key`, and once. */
int sys_epoll_await_hangup(int epoll_fd, int fd, uint64_t key);

/* Returns the inode of what a descriptor is of; 0 if the kernel does not tell. */
uint64_t sys_inode(int fd);

/* What getdents64 writes. */
struct sys_dirent {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

/* Open a file in a directory, to read or to write. */
int sys_open_at(int directory_fd, const char *name, bool write);
/* Read entries of a directory, as the kernel has them. Returns how many bytes, or -errno. */
int sys_list(int directory_fd, char *entries, size_t size);
/* Returns the name of the entry at *at if it is a directory below, else NULL. Moves *at on. */
const char *sys_next_directory(const char *entries, int *at);
/* Read and write. Return how many bytes, or -errno. */
int sys_read(int fd, void *bytes, size_t size);
int sys_read_at(int fd, void *bytes, size_t size, off_t offset);
int sys_write(int fd, const void *bytes, size_t size);
/* What a descriptor is of. */
struct sys_file {
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    bool regular;
    bool appends; /* it is open for writing, and each write appends */
};
/* Returns 0 or -errno. */
int sys_file(int fd, struct sys_file *file);
/*
 * Append with one write. Returns how many bytes, or -errno. A file that has reached RLIMIT_FSIZE
 * raises no SIGXFSZ, and a pipe without a reader no SIGPIPE.
 */
int sys_append(int fd, const void *bytes, size_t size);
/* Wait for changes of a file of the kernel's (EPOLLPRI), under the name `key`. */
int sys_epoll_add_changes(int epoll_fd, int fd, uint64_t key);

/*
 * Read a small file. Sets `text`, which is terminated. Returns its length, or -errno.
 * Context: blocks as long as the file does.
 */
int sys_read_file(const char *path, char *text, size_t size);

/* Returns whether the numbers in /proc are those of this process's pid namespace. */
bool sys_proc_is_ours(void);

int sys_pidfd_open(pid_t pid);
/*
 * Returns the pid of a pidfd's process, as this process has it; -ESRCH: it was reaped, or has no
 * pid here; -EINVAL: the descriptor is no pidfd, or a thread's; -EBADF; -ENOTSUP: the kernel does
 * not tell.
 */
pid_t sys_pidfd_pid(int pidfd);
/* Send a signal by a pid; below 0 to the process group of that number. */
int sys_kill(pid_t pid, int signal);
/* Send a signal by a pidfd; with `group` to the process group that has that process's pid. */
int sys_pidfd_signal(int pidfd, int signal, bool group);
int sys_close(int fd);

#ifndef P_PIDFD
#define P_PIDFD 3 /* of waitid(), which older headers lack */
#endif
/* waitid(2) with the usage. Returns 0 or -ECHILD. info->si_pid is 0 if WNOHANG found no child. */
int sys_waitid(int id_type, int id, siginfo_t *info, int options, struct rusage *usage);
/*
 * Returns 0 if the process of that pidfd, or for a negative one of that pid, is a child of ours,
 * alive or a zombie; -ECHILD; or what waitid says where it is refused.
 */
int sys_find_child(pid_t pid, int pidfd);
/* Get the wait status of a process that was reaped. Returns 0; -errno: the kernel can't tell. */
int sys_pidfd_exit_status(int pidfd, int *status);

/* Make every thread of this process run a full barrier. Returns -errno where the kernel can't. */
int sys_membarrier(void);
int sys_membarrier_register(void);

int64_t sys_clock_ns(clockid_t clock);

/*
 * sys_futex_wait() for a thread that has nothing else to do. Returns after a wake-up, after `ns`
 * (below 0: no such limit), or early. Where the kernel does not let it sleep it naps, so a loop
 * around it never spins. It does not read the clock. Context: blocks.
 */
void sys_sleep_on(uint32_t *word, uint32_t value, int64_t ns);
/* Sleep for that time, or less. Context: blocks. */
void sys_nap(int64_t ns);
/*
 * Fill memory with random bytes. Where the kernel has none yet, or a filter refuses the call, they
 * are made of clocks and addresses. Context: never blocks.
 */
void sys_random(void *bytes, size_t size);

/* Returns the kernel's number of the calling thread; and whether no thread has that number now. */
uint32_t sys_thread_id(void);
bool sys_thread_ended(uint32_t thread);

/* Make a signalfd for one signal. Context: the threads that call have blocked that signal. */
int sys_signalfd(int signal);
/* Take the signal if it is pending for the thread or the process. Returns false if it is not. */
bool sys_signalfd_take(int fd);
/* Send a signal to the first thread of the process. */
void sys_signal_first_thread(int signal);

#ifdef EXITBUS_TEST_HOOKS
/* Called before each system call. A negative result is returned in its place. By tests. */
extern int (*exitbus_test_syscall)(long number);
#endif

#endif
