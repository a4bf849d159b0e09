/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* System calls: see sys.h. */
#include "base/sys.h"
#include "base/cancel.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef STATX_INO /* musl before 1.2.5 */
#include <linux/stat.h>
#endif

#define NS_PER_S 1000000000LL

#ifdef EXITBUS_TEST_HOOKS
int (*exitbus_test_syscall)(long number);

static int injected(long number)
{
    int (*hook)(long) = __atomic_load_n(&exitbus_test_syscall, __ATOMIC_ACQUIRE);
    return hook ? hook(number) : 0;
}
#else
static int injected(long number)
{
    (void)number;
    return 0;
}
#endif

/* Returns a result or -errno, and leaves the caller's errno as it was. */
static long call(long number, long a, long b, long c, long d, long e, long f)
{
    int fault = injected(number);
    if (fault < 0)
        return fault;
    int saved = errno;
    long result = syscall(number, a, b, c, d, e, f);
    if (result < 0) {
        result = -errno;
        errno = saved;
    }
    return result;
}

/*
 * Make a call again that a signal has interrupted, but not for ever: a filter (seccomp) may answer
 * EINTR every time. Calls made through here do not sleep, so a second try nearly always succeeds.
 */
#define TRIES 1000

static long call_again(long number, long a, long b, long c, long d, long e, long f)
{
    long result = -EINTR;
    for (int tries = 0; tries < TRIES && result == -EINTR; tries++)
        result = call(number, a, b, c, d, e, f);
    return result;
}

int sys_pipe(int fds[2])
{
    return (int)call_again(SYS_pipe2, (long)fds, O_CLOEXEC, 0, 0, 0, 0);
}

int sys_duplicate(int fd, int from)
{
    return (int)call_again(SYS_fcntl, fd, F_DUPFD_CLOEXEC, from, 0, 0, 0);
}

int sys_above_stdio(int fd)
{
    if (fd < 0 || fd > STDERR_FILENO)
        return fd;
    int high = sys_duplicate(fd, STDERR_FILENO + 1);
    sys_close(fd);
    return high;
}

/*
 * ThreadSanitizer holds a signal back until the thread calls a function that it intercepts. Our own
 * system calls are none, so a thread that sleeps in one would sleep through the SIGCHLD that it
 * waits for. In such a build, and in no other, sleeps are cut into slices.
 */
#if defined(__SANITIZE_THREAD__)
#define SLICE_MS 10
static void take_signals(void)
{
    int cancelling = cancel_disable();
    nanosleep(&(struct timespec){0}, NULL);
    cancel_restore(cancelling);
}
#else
#define SLICE_MS 0
static void take_signals(void)
{
}
#endif

/*
 * Wait some milliseconds by other means, after the kernel has refused a futex wait (a filter put on
 * later). So the caller's loop neither spins nor outlasts its deadline.
 * Returns -EINTR or -ETIMEDOUT.
 */
static int refused_wait(const struct timespec *deadline)
{
    static const struct timespec nap = {.tv_nsec = 5000000};
    if (deadline &&
        sys_clock_ns(CLOCK_MONOTONIC) >= deadline->tv_sec * NS_PER_S + deadline->tv_nsec)
        return -ETIMEDOUT;
    call(SYS_ppoll, 0, 0, (long)&nap, 0, 0, 0);
    return -EINTR;
}

static int wait_result(long result, const struct timespec *deadline)
{
    if (result >= 0 || result == -EAGAIN || result == -EINTR || result == -ETIMEDOUT)
        return (int)result;
    return refused_wait(deadline);
}

int sys_futex_wait(uint32_t *word, uint32_t value, uint32_t bits, const struct timespec *deadline)
{
    if (SLICE_MS > 0) {
        take_signals();
        int64_t now = sys_clock_ns(CLOCK_MONOTONIC), until = now + SLICE_MS * 1000000LL;
        if (!deadline || deadline->tv_sec * NS_PER_S + deadline->tv_nsec > until) {
            struct timespec slice = {until / NS_PER_S, until % NS_PER_S};
            int result = (int)call(SYS_futex, (long)word, FUTEX_WAIT_BITSET_PRIVATE, (long)value,
                                   (long)&slice, 0, (long)bits);
            take_signals();
            return result == -ETIMEDOUT ? -EINTR : wait_result(result, deadline);
        }
    }
    /* The bitset form takes an absolute CLOCK_MONOTONIC time, so EINTR does not make it longer. */
    return wait_result(call(SYS_futex, (long)word, FUTEX_WAIT_BITSET_PRIVATE, (long)value,
                            (long)deadline, 0, (long)bits),
                       deadline);
}

void sys_futex_wake(uint32_t *word, uint32_t bits)
{
    /* The kernel fails it only for a bad address. A filter may refuse it, so tries are bounded. */
    for (int tries = 0; tries < TRIES; tries++)
        if (call(SYS_futex, (long)word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, 0, 0, (long)bits) >= 0)
            return;
}

void sys_futex_wake_all(uint32_t *word)
{
    sys_futex_wake(word, SYS_FUTEX_ANY);
}

int sys_eventfd(bool semaphore)
{
    long flags = EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0);
    return sys_above_stdio((int)call_again(SYS_eventfd2, 0, flags, 0, 0, 0, 0));
}

int sys_eventfd_add_tokens(int fd, uint64_t tokens)
{
    long result = call_again(SYS_write, fd, (long)&tokens, sizeof tokens, 0, 0, 0);
    return result < 0 ? (int)result : 0;
}

int sys_eventfd_add(int fd)
{
    return sys_eventfd_add_tokens(fd, 1);
}

int sys_eventfd_add_again(int fd)
{
    int result = -EAGAIN;
    for (int tries = 0; tries < 8 && result < 0; tries++)
        result = sys_eventfd_add(fd);
    return result;
}

bool sys_fd_open(int fd)
{
    return fd >= 0 && call_again(SYS_fcntl, fd, F_GETFD, 0, 0, 0, 0) != -EBADF;
}

int sys_eventfd_take(int fd)
{
    uint64_t value;
    long result = call_again(SYS_read, fd, (long)&value, sizeof value, 0, 0, 0);
    return result < 0 ? (int)result : 0;
}

int sys_timerfd(void)
{
    return sys_above_stdio((int)call_again(SYS_timerfd_create, CLOCK_MONOTONIC,
                                           TFD_CLOEXEC | TFD_NONBLOCK, 0, 0, 0, 0));
}

int sys_timerfd_arm(int fd, int64_t delay_ns)
{
    struct itimerspec spec = {
        .it_value = {.tv_sec = delay_ns / NS_PER_S, .tv_nsec = delay_ns % NS_PER_S}};
    return (int)call_again(SYS_timerfd_settime, fd, 0, (long)&spec, 0, 0, 0);
}

int sys_epoll_create(void)
{
    return sys_above_stdio((int)call_again(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0));
}

int sys_epoll_add(int epoll_fd, int fd, bool once, uint64_t key)
{
    struct epoll_event event = {.events = EPOLLIN | (once ? (uint32_t)EPOLLONESHOT : 0),
                                .data = {.u64 = key}};
    return (int)call_again(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_ADD, fd, (long)&event, 0, 0);
}

int sys_epoll_modify(int epoll_fd, int fd, uint64_t key)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u64 = key}};
    return (int)call_again(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_MOD, fd, (long)&event, 0, 0);
}

int sys_epoll_delete(int epoll_fd, int fd)
{
    return (int)call_again(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_DEL, fd, 0, 0, 0);
}

int sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity, int timeout_ms)
{
    bool sliced = SLICE_MS > 0 && timeout_ms < 0;
    long result;
    do {
        take_signals();
        result = call(SYS_epoll_pwait, epoll_fd, (long)events, capacity,
                      sliced ? SLICE_MS : timeout_ms, 0, 8);
    } while (result == 0 && sliced);
    return (int)result;
}

int sys_epoll_await_hangup(int epoll_fd, int fd, uint64_t key)
{
    struct epoll_event event = {.events = EPOLLONESHOT, .data = {.u64 = key}}; /* implies HUP */
    return (int)call_again(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_MOD, fd, (long)&event, 0, 0);
}

uint64_t sys_inode(int fd)
{
    struct statx status = {0};
    return call_again(SYS_statx, fd, (long)"", AT_EMPTY_PATH, STATX_INO, (long)&status, 0) == 0
               ? status.stx_ino
               : 0;
}

int sys_readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    const struct timespec now = {0};
    long result = call_again(SYS_ppoll, (long)&pollfd, 1, (long)&now, 0, 0, 0);
    return result < 0 ? (int)result : (pollfd.revents & POLLIN) != 0;
}

int sys_wait_readable(int fd, int other, int64_t ns)
{
    struct pollfd pollfds[] = {{.fd = fd, .events = POLLIN}, {.fd = other, .events = POLLIN}};
    const struct timespec time = {ns / NS_PER_S, ns % NS_PER_S};
    take_signals();
    return (int)call(SYS_ppoll, (long)pollfds, 2, ns < 0 ? 0 : (long)&time, 0, 0, 0);
}

int sys_pidfd_open(pid_t pid)
{
    return sys_above_stdio((int)call_again(SYS_pidfd_open, pid, 0, 0, 0, 0, 0));
}

int sys_open_at(int directory_fd, const char *name, bool write)
{
    long flags = (write ? O_WRONLY : O_RDONLY) | O_CLOEXEC;
    return sys_above_stdio((int)call_again(SYS_openat, directory_fd, (long)name, flags, 0, 0, 0));
}

int sys_list(int directory_fd, char *entries, size_t size)
{
    return (int)call_again(SYS_getdents64, directory_fd, (long)entries, (long)size, 0, 0, 0);
}

const char *sys_next_directory(const char *entries, int *at)
{
    const struct sys_dirent *entry = (const void *)(entries + *at);
    *at += entry->size;
    return entry->type == DT_DIR && entry->name[0] != '.' ? entry->name : NULL;
}

int sys_read(int fd, void *bytes, size_t size)
{
    return (int)call_again(SYS_read, fd, (long)bytes, (long)size, 0, 0, 0);
}

int sys_read_at(int fd, void *bytes, size_t size, off_t offset)
{
    return (int)call_again(SYS_pread64, fd, (long)bytes, (long)size, offset, 0, 0);
}

int sys_write(int fd, const void *bytes, size_t size)
{
    return (int)call_again(SYS_write, fd, (long)bytes, (long)size, 0, 0, 0);
}

int sys_file(int fd, struct sys_file *file)
{
    struct statx status = {0};
    long flags = call_again(SYS_fcntl, fd, F_GETFL, 0, 0, 0, 0);
    if (flags < 0)
        return (int)flags;
    long result = call_again(SYS_statx, fd, (long)"", AT_EMPTY_PATH,
                             STATX_TYPE | STATX_INO | STATX_SIZE, (long)&status, 0);
    bool writable = (flags & O_ACCMODE) != O_RDONLY;
    *file = (struct sys_file){.device = (uint64_t)status.stx_dev_major << 32 | status.stx_dev_minor,
                              .inode = status.stx_ino,
                              .size = status.stx_size,
                              .regular = S_ISREG(status.stx_mode),
                              .appends = writable && (flags & O_APPEND) && !(flags & O_DIRECT)};
    return (int)result;
}

int sys_append(int fd, const void *bytes, size_t size)
{
    const struct timespec now = {0};
    sigset_t raised, before, pending;
    sigemptyset(&raised);
    sigemptyset(&pending);
    sigaddset(&raised, SIGXFSZ);
    sigaddset(&raised, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &raised, &before);
    call_again(SYS_rt_sigpending, (long)&pending, sizeof(uint64_t), 0, 0, 0, 0);
    int result = sys_write(fd, bytes, size);
    int signal = result == -EFBIG ? SIGXFSZ : result == -EPIPE ? SIGPIPE : 0;
    if (signal > 0 && !sigismember(&pending, signal)) { /* else it is the host's own */
        sigemptyset(&raised);
        sigaddset(&raised, signal);
        call_again(SYS_rt_sigtimedwait, (long)&raised, 0, (long)&now, sizeof(uint64_t), 0, 0);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

int sys_epoll_add_changes(int epoll_fd, int fd, uint64_t key)
{
    struct epoll_event event = {.events = EPOLLPRI, .data = {.u64 = key}};
    return (int)call_again(SYS_epoll_ctl, epoll_fd, EPOLL_CTL_ADD, fd, (long)&event, 0, 0);
}

int sys_read_file(const char *path, char *text, size_t size)
{
    int fd = sys_above_stdio(
        (int)call_again(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0));
    if (fd < 0)
        return fd;
    long length = call_again(SYS_read, fd, (long)text, (long)size - 1, 0, 0, 0);
    sys_close(fd);
    text[length < 0 ? 0 : length] = '\0';
    return (int)length;
}

bool sys_proc_is_ours(void)
{
    char text[16] = "";
    call_again(SYS_readlinkat, AT_FDCWD, (long)"/proc/self", (long)text, sizeof text - 1, 0, 0);
    return strtol(text, NULL, 10) == getpid();
}

int sys_kill(pid_t pid, int signal)
{
    return (int)call_again(SYS_kill, pid, signal, 0, 0, 0, 0);
}

int sys_pidfd_signal(int pidfd, int signal, bool group)
{
    long flags = group ? 1L << 2 : 0; /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */
    return (int)call_again(SYS_pidfd_send_signal, pidfd, signal, 0, flags, 0, 0);
}

int sys_close(int fd)
{
    /* Linux has closed the descriptor even when close says EINTR, so it is never retried. */
    return (int)call(SYS_close, fd, 0, 0, 0, 0, 0);
}

int sys_waitid(int id_type, int id, siginfo_t *info, int options, struct rusage *usage)
{
    info->si_pid = 0;
    return (int)call_again(SYS_waitid, id_type, id, (long)info, options, (long)usage, 0);
}

int sys_find_child(pid_t pid, int pidfd)
{
    siginfo_t info;
    bool by_pidfd = pidfd >= 0;
    return sys_waitid(by_pidfd ? P_PIDFD : P_PID, by_pidfd ? pidfd : pid, &info,
                      WEXITED | WNOHANG | WNOWAIT | __WALL, NULL);
}

/* PIDFD_GET_INFO's layout up to the exit code (Linux 6.15 and later), which older headers lack. */
struct pidfd_info_exit {
    uint64_t mask;
    uint64_t cgroup_id;
    uint32_t ids[11]; /* pid, tgid, ppid; then the user and group ids */
    int32_t exit_code;
};
#define PIDFD_INFO_MASK_EXIT (1UL << 3)
#define PIDFD_GET_INFO_EXIT _IOWR(0xFF, 11, struct pidfd_info_exit)

/* By what /proc says of the descriptor. */
static pid_t pid_by_fdinfo(int pidfd)
{
    char path[40], text[512];
    if (!sys_proc_is_ours())
        return -ENOTSUP;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    int result = sys_read_file(path, text, sizeof text);
    if (result < 0)
        return result == -EMFILE || result == -ENFILE || result == -ENOMEM ? result : -ENOTSUP;
    const char *line = strstr(text, "\nPid:");
    if (!line)
        return -EINVAL;
    long pid = strtol(line + sizeof "\nPid:" - 1, NULL, 10);
    return pid > 0 ? (pid_t)pid : -ESRCH;
}

pid_t sys_pidfd_pid(int pidfd)
{
    long flags = call_again(SYS_fcntl, pidfd, F_GETFL, 0, 0, 0, 0);
    if (flags < 0)
        return (pid_t)flags;
    if (flags & O_EXCL) /* PIDFD_THREAD, Linux 6.9 */
        return -EINVAL;
    /* First: other files may have an ioctl of that number. */
    int alive = sys_pidfd_signal(pidfd, 0, false);
    if (alive == -EBADF || alive == -ESRCH)
        return alive == -EBADF ? -EINVAL : -ESRCH;
    pid_t pid = pid_by_fdinfo(pidfd);
    if (pid == -EINVAL) /* a directory of /proc, by which a process can be signalled, too */
        return pid;
    struct pidfd_info_exit info = {0};
    int result = (int)call_again(SYS_ioctl, pidfd, (long)PIDFD_GET_INFO_EXIT, (long)&info, 0, 0, 0);
    if (result < 0)
        return result == -ESRCH ? -ESRCH : pid;
    return info.ids[0] > 0 ? (pid_t)info.ids[0] : -ESRCH;
}

int sys_pidfd_exit_status(int pidfd, int *status)
{
    struct pidfd_info_exit info = {.mask = PIDFD_INFO_MASK_EXIT};
    int result = (int)call_again(SYS_ioctl, pidfd, (long)PIDFD_GET_INFO_EXIT, (long)&info, 0, 0, 0);
    if (result < 0)
        return result;
    if (!(info.mask & PIDFD_INFO_MASK_EXIT))
        return -ENODATA;
    *status = info.exit_code;
    return 0;
}

int sys_membarrier(void)
{
    return (int)call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0);
}

int sys_membarrier_register(void)
{
    return (int)call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0, 0, 0, 0);
}

int64_t sys_clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

void sys_nap(int64_t ns)
{
    struct timespec time = {ns / NS_PER_S, ns % NS_PER_S};
    take_signals();
    if (call(SYS_ppoll, 0, 0, (long)&time, 0, 0, 0) < 0)
        sched_yield();
}

#define NAP_NS 10000000

void sys_sleep_on(uint32_t *word, uint32_t value, int64_t ns)
{
    struct timespec time = {ns / NS_PER_S, ns % NS_PER_S};
    int result = ns < 0 ? sys_futex_wait(word, value, SYS_FUTEX_ANY, NULL)
                        : (int)call(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, (long)value,
                                    (long)&time, 0, 0);
    if (result < 0 && result != -EAGAIN && result != -EINTR && result != -ETIMEDOUT)
        sys_nap(NAP_NS);
}

void sys_random(void *bytes, size_t size)
{
    if (call(SYS_getrandom, (long)bytes, (long)size, GRND_NONBLOCK, 0, 0, 0) == (long)size)
        return;
    uint64_t state = (uint64_t)sys_clock_ns(CLOCK_MONOTONIC) ^ (uint64_t)(uintptr_t)bytes ^
                     (uint64_t)sys_clock_ns(CLOCK_REALTIME) << 20 ^ (uint64_t)(uintptr_t)&state;
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ((unsigned char *)bytes)[i] = (unsigned char)(state >> 56);
    }
}

uint32_t sys_thread_id(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

bool sys_thread_ended(uint32_t thread)
{
    return call(SYS_tgkill, getpid(), (long)thread, 0, 0, 0, 0) == -ESRCH;
}

int sys_signalfd(int signal)
{
    uint64_t set = (uint64_t)1 << (signal - 1);
    return sys_above_stdio((int)call_again(SYS_signalfd4, -1, (long)&set, sizeof set,
                                           SFD_CLOEXEC | SFD_NONBLOCK, 0, 0));
}

bool sys_signalfd_take(int fd)
{
    struct signalfd_siginfo info[2]; /* one for the thread, one for the process */
    return fd >= 0 && call_again(SYS_read, fd, (long)info, sizeof info, 0, 0, 0) > 0;
}

void sys_signal_first_thread(int signal)
{
    long process = call_again(SYS_getpid, 0, 0, 0, 0, 0, 0);
    call_again(SYS_tgkill, process, process, signal, 0, 0, 0);
}
