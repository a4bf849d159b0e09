/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Clean failure (G8) of the system calls that do not pass lib/base/sys.c: those that make memory,
 * threads and children, and those that a spawned child makes before its exec. The linker puts the
 * functions below in the place of the libc's (--wrap, tests/CMakeLists.txt). Each call fails once
 * with each error, over a life of a bus with a reaper and a child; each life is a process of its
 * own, since some calls are made once in a process. Left out: calls that Linux can't fail and whose
 * result nobody could act upon (rt_sigprocmask, rt_sigaction, munmap, exit).
 *
 * And spawn where CLONE_VM is refused by stealth, as by valgrind: the child works on a copy. There,
 * and for faults of clone(), clone3() is refused: the library prefers it, and calls no function.
 */
#include "support/coverage.h"
#include "support/harness.h"
#include "support/refuse.h"
#include "support/threads.h"

#include <exitbus/exitbus.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_NS 20000000000LL
#define EXIT_CODE 9

/* ------------------------------------------------------------------------------- the calls */

enum call {
    CALL_MMAP = 1000, /* above the numbers of system calls made by syscall() */
    CALL_MADVISE,
    CALL_CLONE,
    CALL_PRCTL,
    CALL_PTHREAD_CREATE,
    CALL_READ,
    CALL_WRITE,
};

/* Shared by all processes: a child that has a copy of the memory counts, too. */
static struct fault {
    _Atomic long call;
    _Atomic int error;
    _Atomic unsigned nth, calls, fired;
    _Atomic bool copies; /* CLONE_VM is dropped */
} * fault;

#define PLAIN_CODE __attribute__((no_sanitize_address, no_sanitize_thread))

/* True with errno set if this call is to fail. Runs in spawned children, too. */
PLAIN_CODE static bool fails(long call)
{
    if (!fault || call != atomic_load_explicit(&fault->call, memory_order_relaxed))
        return false;
    unsigned nth = atomic_fetch_add_explicit(&fault->calls, 1, memory_order_relaxed) + 1;
    if (nth != atomic_load_explicit(&fault->nth, memory_order_relaxed))
        return false;
    atomic_fetch_add_explicit(&fault->fired, 1, memory_order_relaxed);
    errno = atomic_load_explicit(&fault->error, memory_order_relaxed);
    return true;
}

void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fails(CALL_MMAP) ? MAP_FAILED
                            : __real_mmap(address, size, protection, flags, fd, offset);
}

int __real_madvise(void *address, size_t size, int advice);
int __wrap_madvise(void *address, size_t size, int advice);
int __wrap_madvise(void *address, size_t size, int advice)
{
    return fails(CALL_MADVISE) ? -1 : __real_madvise(address, size, advice);
}

int __real_clone(int (*body)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*body)(void *), void *stack, int flags, void *argument, ...);
int __wrap_clone(int (*body)(void *), void *stack, int flags, void *argument, ...)
{
    int *pid_or_pidfd = NULL;
    if (fails(CALL_CLONE))
        return -1;
    if (flags & (CLONE_PIDFD | CLONE_PARENT_SETTID)) {
        va_list rest;
        va_start(rest, argument);
        pid_or_pidfd = va_arg(rest, int *);
        va_end(rest);
    }
    if (atomic_load(&fault->copies))
        flags &= ~CLONE_VM;
    return __real_clone(body, stack, flags, argument, pid_or_pidfd);
}

int __real_prctl(int option, ...);
int __wrap_prctl(int option, ...);
int __wrap_prctl(int option, ...)
{
    va_list rest;
    va_start(rest, option);
    unsigned long argument = va_arg(rest, unsigned long);
    va_end(rest);
    return fails(CALL_PRCTL) ? -1 : __real_prctl(option, argument);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*body)(void *), void *argument)
{
    return fails(CALL_PTHREAD_CREATE) ? errno
                                      : __real_pthread_create(thread, attributes, body, argument);
}

ssize_t __real_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size);
ssize_t __wrap_read(int fd, void *buffer, size_t size)
{
    return fails(CALL_READ) ? -1 : __real_read(fd, buffer, size);
}

ssize_t __real_write(int fd, const void *buffer, size_t size);
ssize_t __wrap_write(int fd, const void *buffer, size_t size);
ssize_t __wrap_write(int fd, const void *buffer, size_t size)
{
    return fails(CALL_WRITE) ? -1 : __real_write(fd, buffer, size);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
PLAIN_CODE long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++) /* as syscall() itself does */
        a[i] = va_arg(rest, long);
    va_end(rest);
    return fails(number) ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---------------------------------------------------------------------------------- a life */

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    must(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static bool descriptors_settle(unsigned most)
{
    for (int tries = 0; tries < 1000 && open_descriptors() > most; tries++)
        usleep(10000); /* the last of them go with a grace period */
    return open_descriptors() <= most;
}

/* The error injected, or what it comes to. */
static bool explained(int result)
{
    int error = atomic_load(&fault->error);
    return atomic_load(&fault->fired) == 1 && (result == -error || result == -ENOMEM);
}

/* A call, again if it fails as injected; a failed call leaves no descriptor and no child. (There
 * may be fewer, if that of a child from before has been closed meanwhile.) */
#define attempt(call)                                                                              \
    do {                                                                                           \
        unsigned before_ = open_descriptors();                                                     \
        int result_ = (call);                                                                      \
        if (result_ < 0) {                                                                         \
            if (!explained(result_))                                                               \
                fprintf(stderr, "%s says %d\n", #call, result_);                                   \
            must(explained(result_));                                                              \
            must(descriptors_settle(before_));                                                     \
            must_equal((call), 0);                                                                 \
        }                                                                                          \
    } while (0)

static bool has_children(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

static bool is_subreaper(void)
{
    int yes = 0;
    must_equal(__real_prctl(PR_GET_CHILD_SUBREAPER, (unsigned long)&yes), 0);
    return yes;
}

static const struct exitbus_spawn_action actions[] = {
    {.kind = EXITBUS_SPAWN_OPEN, .fd = 20, .path = "/dev/null", .open_flags = O_RDWR},
    {.kind = EXITBUS_SPAWN_DUP2, .fd = 21, .source_fd = 20},
    {.kind = EXITBUS_SPAWN_DUP2, .fd = 21, .source_fd = 21},
    {.kind = EXITBUS_SPAWN_CLOSE, .fd = 20},
};

/* A child that needs every call there is; `name` is looked up along PATH. */
static int spawn(struct exitbus *bus, uint32_t flags, pid_t *pid,
                 struct exitbus_subscription **subscription)
{
    char code[8], *argv[] = {"exitbus-tiny", code, NULL}, *envp[] = {NULL};
    snprintf(code, sizeof code, "%d", EXIT_CODE);
    struct exitbus_spawn_options options = {.argv = argv,
                                            .envp = envp,
                                            .flags = EXITBUS_SPAWN_SEARCH_PATH | flags,
                                            .directory = "/",
                                            .actions = actions,
                                            .action_count = sizeof actions / sizeof actions[0]};
    return exitbus_spawn(bus, &options, pid, subscription);
}

static void spawn_and_receive(struct exitbus *bus, uint32_t flags)
{
    struct exitbus_subscription *own;
    struct exitbus_event event;
    pid_t pid;
    attempt(spawn(bus, flags, &pid, &own));
    must_equal(exitbus_receive(own, &event, PATIENCE_NS), 0);
    must_equal(event.pid, pid);
    must_equal(event.exit_code, EXIT_CODE);
    must_equal(exitbus_unsubscribe(own), 0);
}

/*
 * One publish and two exits, in order. A copied child that has failed to exec may have been an
 * exit, too (see lib/process/spawn.c).
 */
static void receive_all(struct exitbus_subscription *all)
{
    struct exitbus_event event;
    int result, exits = 0;
    for (uint64_t seq = 1; (result = exitbus_receive(all, &event, 0)) != -EAGAIN; seq++) {
        while (result == -ENOMEM) /* an event that waits for memory will come */
            result = exitbus_receive(all, &event, PATIENCE_NS);
        must_equal(result, 0);
        must_equal(event.seq, seq);
        must(event.exit_code == (seq == 1 ? 0 : EXIT_CODE) || atomic_load(&fault->copies));
        exits += event.exit_code == EXIT_CODE;
    }
    must_equal(exits, 2);
}

static void live(bool watched)
{
    struct exitbus_reaper_options options = {.mode = watched ? EXITBUS_REAPER_WATCHED
                                                             : EXITBUS_REAPER_ALL,
                                             .flags = watched ? 0 : EXITBUS_REAPER_SUBREAPER};
    struct exitbus *bus;
    struct exitbus_reaper *reaper;
    struct exitbus_subscription *all;
    unsigned before = open_descriptors();
    attempt(exitbus_create(&bus, NULL));
    attempt(exitbus_subscribe(bus, exitbus_topic_all(), 0, &all));
    attempt(exitbus_publish_pid(bus, 1, 0));
    attempt(exitbus_reaper_start(bus, &options, &reaper));
    must_equal(is_subreaper(), !watched);
    spawn_and_receive(bus, EXITBUS_SPAWN_SETSID);
    spawn_and_receive(bus, EXITBUS_SPAWN_SETPGROUP);
    receive_all(all);
    must_equal(exitbus_unsubscribe(all), 0);
    must_equal(exitbus_reaper_stop(reaper), 0);
    bool stuck = atomic_load(&fault->call) == CALL_PRCTL && atomic_load(&fault->nth) == 3;
    must(!is_subreaper() || stuck); /* what stop fails to restore it has no way to tell */
    must_equal(exitbus_destroy(bus), 0);
    must(!has_children());
    must(descriptors_settle(before));
}

/* In a process of its own. True if the fault has struck. */
static bool live_with(long call, unsigned nth, int error, bool watched)
{
    atomic_store(&fault->calls, 0);
    atomic_store(&fault->fired, 0);
    atomic_store(&fault->nth, nth);
    atomic_store(&fault->error, error);
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        alarm(60);
        if (call == CALL_CLONE || atomic_load(&fault->copies))
            refuse_call(SYS_clone3, ENOSYS);
        atomic_store(&fault->call, call);
        live(watched);
        atomic_store(&fault->call, -1);
        leave_process(0);
    }
    int status;
    must_equal(waitpid(pid, &status, 0), pid);
    atomic_store(&fault->call, -1);
    if (status != 0)
        fprintf(stderr, "call %ld, the %uth, error %d: status %#x\n", call, nth, error, status);
    must_equal(status, 0);
    return atomic_load(&fault->fired) > 0;
}

static void set_up(bool copies)
{
    static char path[4096];
    fault =
        __real_mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(fault != MAP_FAILED);
    atomic_store(&fault->copies, copies);
    strcpy(path, TINY_CHILD);
    *strrchr(path, '/') = '\0';
    must_equal(setenv("PATH", path, 1), 0);
    must_equal(chdir(path), 0);
}

/* Each call of each kind, with each error, once. */
static void each_fails_once(const long *calls, size_t count, bool copies)
{
    static const int errors[] = {EINTR, EAGAIN, EMFILE, ENOMEM, ECHILD, ESRCH};
    set_up(copies);
    for (size_t c = 0; c < count; c++)
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
            unsigned made = 0;
            for (int watched = 0; watched < 2; watched++)
                for (unsigned nth = 1; live_with(calls[c], nth, errors[e], watched); nth++)
                    made++;
            must(made > 0);
        }
}

#define EACH_FAILS_ONCE(name, copies, ...)                                                         \
    TEST(syscall_faults, name)                                                                     \
    {                                                                                              \
        static const long calls[] = {__VA_ARGS__};                                                 \
        each_fails_once(calls, sizeof calls / sizeof calls[0], copies);                            \
    }

EACH_FAILS_ONCE(memory, false, CALL_MMAP, CALL_MADVISE)
EACH_FAILS_ONCE(threads_and_processes, false, CALL_PTHREAD_CREATE, CALL_CLONE, CALL_PRCTL)
EACH_FAILS_ONCE(of_the_child, false, SYS_setsid, SYS_setpgid, SYS_chdir, SYS_openat, SYS_dup3,
                SYS_fcntl, SYS_execve)
EACH_FAILS_ONCE(of_the_copied_child, true, SYS_chdir, SYS_openat, SYS_execve)
EACH_FAILS_ONCE(pipes_to_the_copied_child, true, SYS_pipe2, SYS_fcntl, CALL_CLONE, CALL_WRITE,
                SYS_pidfd_open)

/* A path of the search that ends in nothing, and one that is refused. */
TEST(syscall_faults, nothing_along_the_path)
{
    for (int copies = 0; copies < 2; copies++) {
        set_up(copies);
        must_equal(setenv("PATH", "/etc:/proc::/nonexistent", 1), 0);
        must_equal(chdir("/"), 0);
        pid_t process = fork();
        if (process == 0) {
            struct exitbus *bus;
            struct exitbus_subscription *own;
            pid_t pid;
            if (copies)
                refuse_call(SYS_clone3, ENOSYS);
            must_equal(exitbus_create(&bus, NULL), 0);
            must_equal(spawn(bus, 0, &pid, &own), -ENOENT);
            must_equal(unsetenv("PATH"), 0); /* then it is /bin:/usr/bin */
            must_equal(spawn(bus, 0, &pid, &own), -ENOENT);
            must(!has_children());
            must_equal(exitbus_destroy(bus), 0);
            leave_process(0);
        }
        int status;
        must_equal(waitpid(process, &status, 0), process);
        must_equal(status, 0);
    }
}
