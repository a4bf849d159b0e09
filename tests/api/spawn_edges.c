/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus_spawn at the edges: in namespaces and sandboxes, from threads with next to no stack, with
 * signals blocked and ignored, without standard descriptors; and what it says when it fails.
 */
#include "support/children.h"
#include "support/halt.h"
#include "support/harness.h"
#include "support/refuse.h"
#include "support/threads.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

extern char **environ;

#define NOBODY INT_MAX /* above all pids */

static bool unshared_pids(void)
{
    if (unshare(CLONE_NEWPID) == 0)
        return true;
    fprintf(stderr, "skipped: a new pid namespace takes privileges (%s)\n", strerror(errno));
    return false;
}

static int spawn_shell(struct exitbus *bus, const char *command, pid_t *pid,
                       struct exitbus_subscription **subscription,
                       struct exitbus_spawn_report *report)
{
    char *argv[] = {"/bin/sh", "-c", (char *)command, NULL};
    struct exitbus_spawn_options options = {.argv = argv, .report = report};
    return exitbus_spawn(bus, &options, pid, subscription);
}

/*
 * The exit comes to the subscription of spawn and to one of all events. The latter is waited for:
 * the former may be for a wrong pid. Behind a publish, every event before it is in all its queues.
 */
static int exit_code_of(struct exitbus *bus, struct exitbus_subscription *all,
                        struct exitbus_subscription *own, pid_t pid)
{
    struct exitbus_event event;
    check_equal(receive_pid(all, pid).pid, pid);
    check_ok(exitbus_publish_pid(bus, NOBODY, 0));
    receive_pid(all, NOBODY);
    check_ok(exitbus_receive(own, &event, 0));
    check_equal(event.pid, pid);
    check_ok(exitbus_unsubscribe(own));
    return event.exit_code;
}

static int run_shell(struct exitbus *bus, struct exitbus_subscription *all, const char *command)
{
    struct exitbus_subscription *own;
    pid_t pid;
    check_ok(spawn_shell(bus, command, &pid, &own, NULL));
    return exit_code_of(bus, all, own, pid);
}

/* Is a line of its /proc/self/status like this? Not by way of the shell, which unblocks signals. */
static bool status_has(struct exitbus *bus, uint32_t flags, const char *pattern)
{
    char *argv[] = {"/bin/grep", "-q", (char *)pattern, "/proc/self/status", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .flags = flags};
    struct exitbus_subscription *subscription;
    pid_t pid;
    check_ok(exitbus_spawn(bus, &options, &pid, &subscription));
    int code = receive_pid(subscription, pid).exit_code;
    check_ok(exitbus_unsubscribe(subscription));
    return code == 0;
}

/* --------------------------------------------------------------------------------- namespaces */

static void first_child_is_init(int clone3_error)
{
    struct exitbus_spawn_report report;
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all()), *own;
    if (clone3_error)
        refuse_call(SYS_clone3, clone3_error);
    if (!unshared_pids())
        return;
    check_equal(run_shell(bus, all, "test $$ = 1 && exit 5"), 5);
    /* Its init has ended, and with it the namespace: the kernel makes no process there. */
    pid_t pid;
    check_equal(spawn_shell(bus, "exit 5", &pid, &own, &report), -ENOMEM);
    check_equal(report.step, EXITBUS_SPAWN_STEP_PROCESS);
    check(strstr(exitbus_spawn_strerror(&report), "init") != NULL);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_edges, newpid_namespace_destroyed)
{
    first_child_is_init(0);
}

TEST(spawn_edges, newpid_namespace_destroyed_without_clone3)
{
    first_child_is_init(ENOSYS);
}

#ifdef __GLIBC__ /* musl does not say why there is no thread */
/* A process that has left its pid namespace can't make threads: that is said, and a way out. */
TEST(spawn_edges, newpid_without_a_reaper)
{
    struct exitbus_spawn_report report;
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *own;
    struct exitbus_event event;
    pid_t pid;
    if (!unshared_pids())
        return;
    check_equal(spawn_shell(bus, "exit 5", &pid, &own, &report), -EINVAL);
    check_equal(report.step, EXITBUS_SPAWN_STEP_REAPER);
    check(strstr(exitbus_spawn_strerror(&report), "CLONE_NEWPID") != NULL);
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    check_ok(spawn_shell(bus, "test $$ = 1 && exit 5", &pid, &own, &report));
    await(exitbus_reaper_poll(reaper) > 0);
    check_ok(exitbus_receive(own, &event, 0));
    check(event.pid == pid && event.exit_code == 5);
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}
#endif

/* The subscription is for the pid that the parent has, also where two or three calls are refused.
 */
static void subscribes_to_the_outer_pid(int clone3_error, int pidfd_error)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    check_equal(run_shell(bus, all, "exit 3"), 3); /* its reaper is there from now on */
    if (clone3_error)
        refuse_call(SYS_clone3, clone3_error);
    if (pidfd_error)
        refuse_call(SYS_pidfd_open, pidfd_error);
    if (!unshared_pids())
        return;
    check_equal(run_shell(bus, all, "test $$ = 1 && exit 5"), 5);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_edges, inner_pid)
{
    subscribes_to_the_outer_pid(ENOSYS, 0);
}

TEST(spawn_edges, inner_pid_with_clone3)
{
    subscribes_to_the_outer_pid(0, 0);
}

TEST(spawn_edges, inner_pid_without_pidfd_open)
{
    subscribes_to_the_outer_pid(EPERM, EPERM);
}

/* ------------------------------------------------------------------------------------ signals */

static void block_and_ignore(void)
{
    sigset_t blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGABRT);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGINT, SIG_DFL); /* a shell's background job has these two ignored */
    signal(SIGQUIT, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGRTMIN + 5, SIG_IGN);
    signal(SIGRTMAX, SIG_IGN);
}

static void signals_are_clean(struct exitbus *bus)
{
    check(status_has(bus, 0, "SigBlk:.0000000000000000$"));
    check(status_has(bus, 0, "SigIgn:.0000000000000000$"));
    check(!status_has(bus, EXITBUS_SPAWN_INHERIT_SIGMASK, "SigBlk:.0000000000000000$"));
    check(status_has(bus, EXITBUS_SPAWN_INHERIT_SIGMASK, "SigIgn:.0000000000000000$"));
    check(status_has(bus, EXITBUS_SPAWN_INHERIT_IGNORED, "SigBlk:.0000000000000000$"));
    /* 1, 13, and two real-time signals, the last of them 64. */
    check(status_has(bus, EXITBUS_SPAWN_INHERIT_IGNORED, "SigIgn:.80000[0-9a-f]*1001$"));
}

TEST(spawn_edges, blocked_mask_inherited)
{
    struct exitbus *bus = bus_new();
    block_and_ignore();
    signals_are_clean(bus);
    check_ok(exitbus_destroy(bus));
}

/* Where the kernel does not reset handlers as it makes the child. */
TEST(spawn_edges, blocked_mask_inherited_without_clone3)
{
    struct exitbus *bus = bus_new();
    refuse_call(SYS_clone3, ENOSYS);
    block_and_ignore();
    signals_are_clean(bus);
    check_ok(exitbus_destroy(bus));
}

/* So many groups that what is ignored stands behind them, out of reach. */
TEST(spawn_edges, blocked_mask_inherited_with_many_groups)
{
    enum { GROUPS = 2000 };
    struct exitbus *bus = bus_new();
    gid_t groups[GROUPS];
    for (unsigned i = 0; i < GROUPS; i++)
        groups[i] = 100000 + i;
    if (setgroups(GROUPS, groups) != 0) {
        fprintf(stderr, "skipped: groups take privileges (%s)\n", strerror(errno));
        return;
    }
    block_and_ignore();
    signals_are_clean(bus);
    check_ok(exitbus_destroy(bus));
}

/* A shell that acts upon SIGCHLD, started from a thread that has it blocked. */
TEST(spawn_edges, sigchld_blocked_in_child)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    check_equal(run_shell(bus, all, "trap 'exit 3' CHLD; kill -CHLD $$; exit 9"), 3);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* ---------------------------------------------------------------------------------- the stack */

/* Sanitizers' own frames do not fit the smallest stack. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SMALL_STACK ((size_t)256 * 1024)
#else
#define SMALL_STACK ((size_t)16 * 1024) /* glibc's PTHREAD_STACK_MIN */
#endif

static struct {
    struct exitbus *bus;
    bool posix;
    int result;
    char *path; /* NULL: by its full path */
} small;

static void *spawn_small(void *nothing)
{
    pid_t pid;
    char *name = strrchr(TINY_CHILD, '/') + 1;
    char *argv[] = {small.path ? name : TINY_CHILD, "0", NULL};
    if (small.posix) {
        small.result = small.path ? posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ)
                                  : posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
        return nothing;
    }
    struct exitbus_spawn_options options = {.argv = argv,
                                            .flags = small.path ? EXITBUS_SPAWN_SEARCH_PATH : 0};
    small.result = exitbus_spawn(small.bus, &options, &pid, NULL);
    return nothing;
}

static void on_small_stack(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    small.result = 12345;
    check_ok(pthread_attr_init(&attributes));
    check_ok(pthread_attr_setstacksize(&attributes, SMALL_STACK));
    check_equal(pthread_create(&thread, &attributes, spawn_small, NULL), 0);
    thread_join(thread);
    check_equal(small.result, 0);
}

/* A directory whose name is nearly as long as a path can be, and then the right one. */
static char *long_path(void)
{
    static char path[2 * PATH_MAX];
    size_t longest = PATH_MAX - 40;
    memset(path, 'x', longest);
    path[0] = '/';
    for (size_t i = 200; i < longest; i += 200)
        path[i] = '/';
    path[longest] = ':';
    strcpy(path + longest + 1, TINY_CHILD);
    *strrchr(path, '/') = '\0';
    return path;
}

TEST(spawn_edges, small_stack)
{
    small.bus = bus_new();
    on_small_stack(); /* the first one starts the reaper, too */
    on_small_stack();
    small.path = long_path();
    check_ok(setenv("PATH", small.path, 1));
    on_small_stack();
    check_ok(exitbus_destroy(small.bus));
}

TEST(spawn_edges, small_stack_posix_spawn)
{
    small.posix = true;
    on_small_stack();
    small.path = long_path();
    check_ok(setenv("PATH", small.path, 1));
    on_small_stack();
}

TEST(spawn_edges, small_stack_without_clone3)
{
    small.bus = bus_new();
    refuse_call(SYS_clone3, ENOSYS);
    on_small_stack();
    refuse_vfork();
    on_small_stack();
    check_ok(exitbus_destroy(small.bus));
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
/* What is touched of a stack that was filled before: all of it that a spawn needs. */
static size_t stack_needed(void *(*body)(void *))
{
    enum { SIZE = 128 * 1024, FILL = 0xa5 };
    pthread_attr_t attributes;
    pthread_t thread;
    unsigned char *stack =
        mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(stack != MAP_FAILED);
    memset(stack, FILL, SIZE);
    must_equal(pthread_attr_init(&attributes), 0);
    must_equal(pthread_attr_setstack(&attributes, stack, SIZE), 0);
    must_equal(pthread_create(&thread, &attributes, body, NULL), 0);
    thread_join(thread);
    size_t untouched = 0;
    while (untouched < SIZE && stack[untouched] == FILL)
        untouched++;
    munmap(stack, SIZE);
    return SIZE - untouched;
}

static void *do_nothing(void *nothing)
{
    return nothing;
}

/* Beside what a thread needs anyway: no more than half of what is left of the smallest stack. */
TEST(spawn_edges, small_stack_measured)
{
    small.bus = bus_new();
    on_small_stack();
    size_t empty = stack_needed(do_nothing), spawning = stack_needed(spawn_small);
    fprintf(stderr, "a thread: %zu bytes of stack; with a spawn: %zu\n", empty, spawning);
    check_equal(small.result, 0);
    check(spawning - empty < (16 * 1024 - empty) / 2);
    check_ok(exitbus_destroy(small.bus));
}
#endif

/* ------------------------------------------------------------------------------------- errors */

static void expect_report(struct exitbus *bus, struct exitbus_spawn_options options, int error,
                          enum exitbus_spawn_step step, size_t index, const char *text)
{
    struct exitbus_spawn_report report = {.step = EXITBUS_SPAWN_STEP_EXEC, .error = 1, .index = 77};
    pid_t pid;
    options.report = &report;
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), error);
    check_equal(report.step, step);
    check_equal(report.index, index);
    check_equal(report.error, error);
    if (strstr(exitbus_spawn_strerror(&report), text) == NULL)
        fprintf(stderr, "\"%s\" lacks \"%s\"\n", exitbus_spawn_strerror(&report), text);
    check(strstr(exitbus_spawn_strerror(&report), text) != NULL);
    check(no_children() || error == 0);
}

static void each_step_is_named(struct exitbus *bus)
{
    char *argv[] = {TINY_CHILD, "0", NULL}, *missing[] = {"/missing", NULL};
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_OPEN, .fd = 9, .path = "/dev/null", .open_flags = O_RDWR},
        {.kind = EXITBUS_SPAWN_DUP2, .fd = 10, .source_fd = 9},
        {.kind = EXITBUS_SPAWN_OPEN, .fd = 11, .path = "/missing", .open_flags = O_RDWR},
    };
    struct exitbus_spawn_options options = {.argv = argv, .actions = actions, .action_count = 3};
    expect_report(bus, options, -ENOENT, EXITBUS_SPAWN_STEP_ACTION, 2, "opened");
    actions[1].source_fd = 5000;
    expect_report(bus, options, -EBADF, EXITBUS_SPAWN_STEP_ACTION, 1, "not open");
    actions[2].path = NULL;
    expect_report(bus, options, -EINVAL, EXITBUS_SPAWN_STEP_ACTION, 2, "action");
    options = (struct exitbus_spawn_options){.argv = argv, .flags = 0x80000000};
    expect_report(bus, options, -EINVAL, EXITBUS_SPAWN_STEP_ARGUMENTS, 0, "options");
    options.flags = EXITBUS_SPAWN_SETSID | EXITBUS_SPAWN_SETPGROUP;
    expect_report(bus, options, -EPERM, EXITBUS_SPAWN_STEP_PROCESS_GROUP, 0, "group");
    options.flags = 0;
    options.directory = "/missing";
    expect_report(bus, options, -ENOENT, EXITBUS_SPAWN_STEP_DIRECTORY, 0, "directory");
    options.directory = "/dev/null";
    expect_report(bus, options, -ENOTDIR, EXITBUS_SPAWN_STEP_DIRECTORY, 0, "directory");
    options = (struct exitbus_spawn_options){.argv = missing};
    expect_report(bus, options, -ENOENT, EXITBUS_SPAWN_STEP_EXEC, 0, "program");
    options.path = "/etc/passwd";
    expect_report(bus, options, -EACCES, EXITBUS_SPAWN_STEP_EXEC, 0, "program");
    options = (struct exitbus_spawn_options){.argv = argv};
    expect_report(bus, options, 0, EXITBUS_SPAWN_STEP_NONE, 0, "success");
    await(no_children());
}

TEST(spawn_edges, errors_say_what)
{
    struct exitbus *bus = bus_new(), *other = bus_new();
    each_step_is_named(bus);
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    expect_report(other, options, -EXDEV, EXITBUS_SPAWN_STEP_REAPER, 0, "another bus");
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(other));
    check_ok(exitbus_destroy(bus));
    /* True of every call that can return it. */
    check(strstr(exitbus_strerror(-EPERM), "not permitted") != NULL);
    check(strstr(exitbus_strerror(-EINTR), "child") != NULL);
    check(strstr(exitbus_strerror(-EBADF), "descriptor") != NULL);
    struct exitbus_spawn_report killed = {.step = EXITBUS_SPAWN_STEP_ACTION, .error = -EINTR};
    check(strstr(exitbus_spawn_strerror(&killed), "killed") != NULL);
    check(exitbus_spawn_strerror(NULL) != NULL);
    for (int step = -1; step < 20; step++)
        for (int error = -200; error < 2; error++) {
            killed.step = (enum exitbus_spawn_step)step;
            killed.error = error;
            check(exitbus_spawn_strerror(&killed)[0] != '\0');
        }
}

TEST(spawn_edges, errors_say_what_by_clone)
{
    struct exitbus *bus = bus_new();
    refuse_call(SYS_clone3, ENOSYS);
    each_step_is_named(bus);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_edges, errors_say_what_by_fork)
{
    struct exitbus *bus = bus_new();
    refuse_vfork();
    each_step_is_named(bus);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_edges, wrong_enoent)
{
    struct exitbus *bus = bus_new();
    char *argv[] = {TINY_CHILD, "0", NULL}, *missing[] = {"/missing", NULL};
    struct exitbus_spawn_action action = {.kind = EXITBUS_SPAWN_OPEN, .path = "/missing"};
    struct exitbus_spawn_report reports[3];
    struct exitbus_spawn_options options[3] = {
        {.argv = argv, .directory = "/missing"},
        {.argv = argv, .actions = &action, .action_count = 1},
        {.argv = missing},
    };
    pid_t pid;
    for (int i = 0; i < 3; i++) {
        options[i].report = &reports[i];
        check_equal(exitbus_spawn(bus, &options[i], &pid, NULL), -ENOENT);
    }
    for (int i = 0; i < 3; i++) {
        const struct exitbus_spawn_report *one = &reports[i], *next = &reports[(i + 1) % 3];
        check(one->step != next->step);
        check(strcmp(exitbus_spawn_strerror(one), exitbus_spawn_strerror(next)) != 0);
    }
    check_ok(exitbus_destroy(bus));
}

/* "" is no program, along PATH or not: as execvp() has it. */
TEST(spawn_edges, empty_name)
{
    struct exitbus *bus = bus_new();
    char *argv[] = {"", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    expect_report(bus, options, -ENOENT, EXITBUS_SPAWN_STEP_EXEC, 0, "program");
    options.flags = EXITBUS_SPAWN_SEARCH_PATH;
    expect_report(bus, options, -ENOENT, EXITBUS_SPAWN_STEP_EXEC, 0, "program");
    check_ok(exitbus_destroy(bus));
}

/* Open for writing, here for the whole time. */
TEST(spawn_edges, text_file_busy)
{
    struct exitbus *bus = bus_new();
    char path[] = "/tmp/exitbus-busy-XXXXXX";
    int fd = mkstemp(path);
    check(fd >= 0);
    check_ok(fchmod(fd, 0700));
    char *argv[] = {path, NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    expect_report(bus, options, -ETXTBSY, EXITBUS_SPAWN_STEP_EXEC, 0, "try again");
    close(fd);
    unlink(path);
    check_ok(exitbus_destroy(bus));
}

/* -------------------------------------------------------------------------------- descriptors */

TEST(spawn_edges, close_of_closed)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *own;
    char *argv[] = {TINY_CHILD, "4", NULL};
    struct exitbus_spawn_action action = {.kind = EXITBUS_SPAWN_CLOSE, .fd = 777};
    struct exitbus_spawn_options options = {.argv = argv, .actions = &action, .action_count = 1};
    pid_t pid;
    check_ok(exitbus_spawn(bus, &options, &pid, &own));
    check_equal(receive_pid(own, pid).exit_code, 4);
    check_ok(exitbus_unsubscribe(own));
    action.fd = INT_MAX;
    check_ok(exitbus_spawn(bus, &options, &pid, &own));
    check_equal(receive_pid(own, pid).exit_code, 4);
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_destroy(bus));
}

/* Has the program a descriptor 90 that was opened so, and 91, which an action copied from it? */
static int opened(struct exitbus *bus, int flags)
{
    struct exitbus_subscription *own;
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_OPEN, .fd = 90, .path = "/dev/null", .open_flags = O_RDWR | flags},
        {.kind = EXITBUS_SPAWN_DUP2, .fd = 91, .source_fd = 90},
    };
    char *argv[] = {"/bin/sh", "-c",
                    "code=0; test -e /proc/self/fd/90 && code=1; "
                    "test -e /proc/self/fd/91 && code=$((code + 2)); exit $code",
                    NULL};
    struct exitbus_spawn_options options = {.argv = argv, .actions = actions, .action_count = 2};
    pid_t pid;
    check_ok(exitbus_spawn(bus, &options, &pid, &own));
    int code = receive_pid(own, pid).exit_code;
    check_ok(exitbus_unsubscribe(own));
    return code;
}

/* Whether the kernel gives it the wanted number at once, or it has to be moved there. */
TEST(spawn_edges, open_cloexec)
{
    struct exitbus *bus = bus_new();
    check_equal(opened(bus, 0), 3);
    check_equal(opened(bus, O_CLOEXEC), 2);
    check_equal(dup2(0, 90), 90);
    check_equal(opened(bus, 0), 3);
    check_equal(opened(bus, O_CLOEXEC), 2);
    int fd; /* all numbers below are taken: in the child 90 is the lowest once it is closed */
    while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) < 90)
        check(fd >= 0);
    check_equal(opened(bus, 0), 3);
    check_equal(opened(bus, O_CLOEXEC), 2);
    check_ok(exitbus_destroy(bus));
}

static bool stdio_is_closed(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return false;
    return true;
}

struct held {
    struct exitbus *bus;
    char directory[30], fifo[40];
    int result;
    pid_t pid;
};

/* The child hangs in opening the other end. */
static void *spawn_held(void *argument)
{
    struct held *held = argument;
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_OPEN, .fd = 9, .path = held->fifo, .open_flags = O_RDONLY},
        {.kind = EXITBUS_SPAWN_DUP2, .fd = 0, .source_fd = 9},
    };
    char *argv[] = {TINY_CHILD, "r3", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .actions = actions, .action_count = 2};
    held->result = exitbus_spawn(held->bus, &options, &held->pid, NULL);
    return NULL;
}

/* Neither while the child is on its way to exec, nor while it runs, is there one of ours. */
static void stays_off_stdio(bool fork_only)
{
    struct held held = {.bus = bus_new(), .directory = "/tmp/exitbus-edges-XXXXXX"};
    struct exitbus_subscription *all = subscribe(held.bus, exitbus_topic_all());
    check(mkdtemp(held.directory) != NULL);
    snprintf(held.fifo, sizeof held.fifo, "%s/fifo", held.directory);
    check_ok(mkfifo(held.fifo, 0600));
    check_equal(run_shell(held.bus, all, "exit 3"), 3); /* the reaper has its descriptors now */
    if (fork_only)
        refuse_vfork();
    int saved = fcntl(2, F_DUPFD_CLOEXEC, 30);
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    pthread_t thread = thread_start(spawn_held, &held);
    /* It can be opened without waiting once the child has opened its end: look until then. */
    bool clean = true;
    int fifo;
    while ((fifo = open(held.fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0)
        clean = clean && (errno == ENXIO);
    int high = fcntl(fifo, F_DUPFD_CLOEXEC, 40);
    close(fifo);
    thread_join(thread);
    clean = clean && stdio_is_closed();
    close(high); /* the child reads its end, and exits */
    int code = receive_pid(all, held.pid).exit_code;
    clean = clean && stdio_is_closed();
    dup2(saved, 2);
    check_equal(held.result, 0);
    check_equal(code, 3);
    check(clean);
    unlink(held.fifo);
    rmdir(held.directory);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(held.bus));
}

TEST(spawn_edges, descriptors_on_stdio)
{
    stays_off_stdio(false);
}

TEST(spawn_edges, descriptors_on_stdio_by_fork)
{
    stays_off_stdio(true);
}

/* ----------------------------------------------------------------------------------- max_rss */

/* A child's peak is never less than its parent's, whatever starts it: so Linux counts. */
TEST(spawn_edges, parents_peak)
{
    enum { PEAK = 64 << 20 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *own;
    char *memory = mmap(NULL, PEAK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(memory != MAP_FAILED);
    memset(memory, 1, PEAK);
    munmap(memory, PEAK);
    pid_t pid = spawn_tiny(bus, "0", &own);
    check(receive_pid(own, pid).max_rss_kib >= PEAK / 1024);
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_destroy(bus));
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct rusage usage;
    int status;
    check_equal(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ), 0);
    check_equal(wait4(pid, &status, 0, &usage), pid);
    check(usage.ru_maxrss >= PEAK / 1024);
}

/* ------------------------------------------------------------------------ pids that come back */

static _Thread_local bool spawns_first;
static struct exitbus_subscription *exits;
static sem_t pid_is_free;
static _Atomic pid_t free_pid;
static const char *gate; /* a FIFO */

/* The child has exec'd, and was reaped. A child of another spawn gets its pid, and stops. */
static void give_pid_away(enum probe step)
{
    struct exitbus_event event;
    if (step != PROBE_SPAWN_CLONED || !spawns_first)
        return;
    spawns_first = false;
    must_equal(exitbus_receive(exits, &event, -1), 0);
    await(is_gone(event.pid));
    atomic_store(&free_pid, event.pid);
    sem_post(&pid_is_free);
    await(!is_gone(event.pid));
}

static void *spawn_at_the_gate(void *bus)
{
    char *argv[] = {TINY_CHILD, "4", NULL};
    struct exitbus_spawn_action wait = {
        .kind = EXITBUS_SPAWN_OPEN, .fd = 9, .path = gate, .open_flags = O_RDONLY};
    struct exitbus_spawn_options options = {.argv = argv, .actions = &wait, .action_count = 1};
    pid_t pid;
    halt_wait(&pid_is_free);
    next_pid_is(atomic_load(&free_pid));
    must_equal(exitbus_spawn(bus, &options, &pid, NULL), 0);
    must_equal(pid, atomic_load(&free_pid));
    return NULL;
}

static void pid_is_of_another_spawn(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    exits = subscribe(bus, exitbus_topic_any_pid());
    sem_init(&pid_is_free, 0, 0);
    pthread_t other = thread_start(spawn_at_the_gate, bus);
    __atomic_store_n(&exitbus_probe_hook, give_pid_away, __ATOMIC_RELEASE);
    spawns_first = true;
    pid_t pid = spawn_tiny(bus, "3", NULL);
    must_equal(pid, atomic_load(&free_pid));
    int fd = open(gate, O_WRONLY | O_CLOEXEC);
    must(fd >= 0);
    thread_join(other);
    must_equal(receive_pid(exits, pid).exit_code, 4);
    must_equal(exitbus_reaper_stop(reaper), 0);
    must_equal(exitbus_unsubscribe(exits), 0);
    must_equal(exitbus_destroy(bus), 0);
}

TEST(spawn_edges, pid_is_of_another_spawn)
{
    char path[] = "/tmp/exitbus-gate-XXXXXX";
    must(mkdtemp(path) != NULL);
    char fifo[sizeof path + 8];
    snprintf(fifo, sizeof fifo, "%s/gate", path);
    must_equal(mkfifo(fifo, 0600), 0);
    gate = fifo;
    in_a_namespace(pid_is_of_another_spawn);
    unlink(fifo);
    rmdir(path);
}

/* -------------------------------------------------------------------- where calls are refused */

static void works(struct exitbus *bus)
{
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    for (int i = 0; i < 3; i++)
        check_equal(run_shell(bus, all, "exit 6"), 6);
    check_ok(exitbus_unsubscribe(all));
}

/* Whatever a filter says of clone3(), lack of memory included. */
#define WITHOUT_CLONE3(name, error)                                                                \
    TEST(spawn_edges, name)                                                                        \
    {                                                                                              \
        struct exitbus *bus = bus_new();                                                           \
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);                 \
        refuse_call(SYS_clone3, error);                                                            \
        works(bus);                                                                                \
        check_ok(exitbus_reaper_stop(reaper));                                                     \
        reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);                    \
        check_ok(exitbus_reaper_stop(reaper));                                                     \
        check_ok(exitbus_destroy(bus));                                                            \
    }
WITHOUT_CLONE3(clone3_is_unknown, ENOSYS)
WITHOUT_CLONE3(clone3_is_forbidden, EPERM)
WITHOUT_CLONE3(clone3_lacks_memory, ENOMEM)
WITHOUT_CLONE3(clone3_is_to_be_tried_again, EAGAIN)

TEST(spawn_edges, clone3_and_pidfd_open_are_forbidden)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    refuse_call(SYS_clone3, EPERM);
    refuse_call(SYS_pidfd_open, EPERM);
    works(bus);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/*
 * No pidfd is to be had once the child has exec'd. Then it is too late to fail: the child has run,
 * and its exit will be published.
 */
static void pidfd_is_refused(enum exitbus_reaper_mode mode, bool everywhere)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, mode, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_event event;
    close(STDIN_FILENO); /* or the clone brings the pidfd */
    if (everywhere)
        refuse_call_everywhere(SYS_pidfd_open, EMFILE);
    else
        refuse_call(SYS_pidfd_open, EMFILE);
    for (int i = 0; i < 3; i++)
        check_equal(run_shell(bus, all, "exit 6"), 6);
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_edges, pidfd_refused_to_the_spawner_watched)
{
    pidfd_is_refused(EXITBUS_REAPER_WATCHED, false);
}

TEST(spawn_edges, pidfd_refused_everywhere_watched)
{
    pidfd_is_refused(EXITBUS_REAPER_WATCHED, true);
}

TEST(spawn_edges, pidfd_refused_to_the_spawner_all)
{
    pidfd_is_refused(EXITBUS_REAPER_ALL, false);
}

TEST(spawn_edges, pidfd_refused_everywhere_all)
{
    pidfd_is_refused(EXITBUS_REAPER_ALL, true);
}

/* The child waits at a pipe, on a number that no action names. */
TEST(spawn_edges, by_fork)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *own;
    refuse_vfork();
    works(bus);
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_OPEN, .fd = 200, .path = "/dev/null", .open_flags = O_RDWR},
        {.kind = EXITBUS_SPAWN_CLOSE, .fd = 201},
        {.kind = EXITBUS_SPAWN_DUP2, .fd = 202, .source_fd = 0},
        {.kind = EXITBUS_SPAWN_CLOSE, .fd = 203},
        {.kind = EXITBUS_SPAWN_CLOSE, .fd = 204},
    };
    char *argv[] = {TINY_CHILD, "7", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .actions = actions, .action_count = 5};
    pid_t pid;
    check_ok(exitbus_spawn(bus, &options, &pid, &own));
    check_equal(receive_pid(own, pid).exit_code, 7);
    check_ok(exitbus_unsubscribe(own));
    actions[2].source_fd = 206; /* not open: neither is a pipe put there */
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), -EBADF);
    actions[2].source_fd = 205;
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), -EBADF);
    check_ok(exitbus_destroy(bus));
}

/* For the spawning thread alone; the reaper waits as ever. Nothing loops. */
static void waits_are_refused(int error, bool without_clone3)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    if (without_clone3)
        refuse_call(SYS_clone3, ENOSYS);
    refuse_call(SYS_waitid, error);
    check_equal(run_shell(bus, all, "exit 6"), 6);
    char *missing[] = {"/missing", NULL};
    struct exitbus_spawn_options options = {.argv = missing};
    pid_t pid;
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), -ENOENT);
    check_equal(exitbus_subscription_pending(all), 0);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn_edges, waitid_is_forbidden)
{
    waits_are_refused(EPERM, false);
}

TEST(spawn_edges, waitid_is_unknown)
{
    waits_are_refused(ENOSYS, true);
}

/* In a process of its own that leaves at once: liburcu aborts where it is refused that. */
TEST(spawn_edges, sigprocmask_is_forbidden)
{
    pid_t process = fork();
    if (process == 0) {
        struct exitbus_spawn_report report;
        struct exitbus *bus = bus_new();
        pid_t pid;
        reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
        must_equal(exitbus_thread_prepare(), 0);
        refuse_call(SYS_rt_sigprocmask, EPERM);
        must_equal(spawn_shell(bus, "exit 6", &pid, NULL, &report), -EPERM);
        must_equal(report.step, EXITBUS_SPAWN_STEP_SIGNALS);
        must(no_children());
        _exit(0);
    }
    int status;
    check_equal(waitpid(process, &status, 0), process);
    check_equal(status, 0);
}
