/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* exitbus_spawn: what the child is given, what failure looks like, and that nothing is left. */
#include "base/sys.h"
#include "support/children.h"
#include "support/harness.h"
#include "support/refuse.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static char directory[] = "/tmp/exitbus-spawn-XXXXXX";
static char output[64];

static void set_up_directory(void)
{
    check(mkdtemp(directory) != NULL);
    snprintf(output, sizeof output, "%s/output", directory);
}

static void remove_directory(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    check_equal(system(command), 0);
}

/* Run a program with these options, and give back its exit code. */
static int run_program(struct exitbus *bus, struct exitbus_spawn_options *options, char **argv)
{
    struct exitbus_subscription *subscription;
    pid_t pid;
    options->argv = argv;
    check_ok(exitbus_spawn(bus, options, &pid, &subscription));
    int code = receive_pid(subscription, pid).exit_code;
    check_ok(exitbus_unsubscribe(subscription));
    return code;
}

static int run(struct exitbus *bus, struct exitbus_spawn_options *options, const char *command)
{
    char *argv[] = {"/bin/sh", "-c", (char *)command, "name", NULL};
    return run_program(bus, options, argv);
}

/* Is a line of its /proc/self/status like this? Not by way of the shell, which unblocks signals. */
static bool status_has(struct exitbus *bus, struct exitbus_spawn_options *options,
                       const char *pattern)
{
    char *argv[] = {"/bin/grep", "-q", (char *)pattern, "/proc/self/status", NULL};
    return run_program(bus, options, argv) == 0;
}

TEST(spawn, arguments_and_environment)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_options options = {0};
    setenv("EXITBUS_TEST", "inherited", 1);
    check_equal(run(bus, &options, "test $0 = name && test $EXITBUS_TEST = inherited"), 0);
    char *environment[] = {"EXITBUS_TEST=own", NULL};
    options.envp = environment;
    check_equal(run(bus, &options, "test $EXITBUS_TEST = own && test -z \"$HOME\""), 0);
    check_ok(exitbus_destroy(bus));
}

TEST(spawn, directory_session_group)
{
    struct exitbus *bus = bus_new();
    set_up_directory();
    struct exitbus_spawn_options options = {.directory = directory};
    check_equal(run(bus, &options, "test \"$PWD\" = \"$(pwd)\" && touch output"), 0);
    check_equal(access(output, F_OK), 0);
    options = (struct exitbus_spawn_options){.flags = EXITBUS_SPAWN_SETSID};
    check_equal(run(bus, &options, "test $(cut -d' ' -f6 /proc/$$/stat) = $$"), 0);
    options = (struct exitbus_spawn_options){.flags = EXITBUS_SPAWN_SETPGROUP};
    check_equal(run(bus, &options, "test $(cut -d' ' -f5 /proc/$$/stat) = $$"), 0);
    remove_directory();
    check_ok(exitbus_destroy(bus));
}

TEST(spawn, file_actions)
{
    struct exitbus *bus = bus_new();
    set_up_directory();
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_OPEN,
         .fd = 1,
         .path = output,
         .open_flags = O_WRONLY | O_CREAT | O_TRUNC,
         .mode = 0600},
        {.kind = EXITBUS_SPAWN_DUP2, .source_fd = 1, .fd = 9},
        {.kind = EXITBUS_SPAWN_CLOSE, .fd = 0},
    };
    struct exitbus_spawn_options options = {.actions = actions, .action_count = 3};
    check_equal(run(bus, &options, "echo one; echo two >&9; ! test -e /proc/self/fd/0"), 0);
    char text[20] = "";
    int fd = open(output, O_RDONLY | O_CLOEXEC);
    check_equal(read(fd, text, sizeof text), 8);
    check(strcmp(text, "one\ntwo\n") == 0);
    close(fd);

    /* A descriptor duplicated onto itself survives exec. */
    int kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char command[60];
    snprintf(command, sizeof command, "test -e /proc/self/fd/%d", kept);
    options.action_count = 0;
    check_equal(run(bus, &options, command), 1);
    struct exitbus_spawn_action same = {.kind = EXITBUS_SPAWN_DUP2, .source_fd = kept, .fd = kept};
    options = (struct exitbus_spawn_options){.actions = &same, .action_count = 1};
    check_equal(run(bus, &options, command), 0);
    close(kept);
    remove_directory();
    check_ok(exitbus_destroy(bus));
}

TEST(spawn, signals)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_options options = {0};
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    signal(SIGINT, SIG_DFL); /* a shell's background job has these two ignored */
    signal(SIGQUIT, SIG_DFL);
    signal(SIGUSR2, SIG_IGN);
    /* Signals 10 and 12. Neither the mask nor what is ignored is inherited … */
    check(status_has(bus, &options, "SigBlk:.*0000000000000000$"));
    check(status_has(bus, &options, "SigIgn:.*0000000000000000$"));
    /* … unless told so: each on its own. */
    options.flags = EXITBUS_SPAWN_INHERIT_SIGMASK;
    check(status_has(bus, &options, "SigBlk:.*0200$"));
    check(status_has(bus, &options, "SigIgn:.*0000000000000000$"));
    options.flags = EXITBUS_SPAWN_INHERIT_IGNORED;
    check(status_has(bus, &options, "SigBlk:.*0000$"));
    check(status_has(bus, &options, "SigIgn:.*0800$"));
    sigset_t mask, second;
    sigemptyset(&mask);
    sigaddset(&mask, SIGHUP);
    sigemptyset(&second);
    sigaddset(&second, SIGUSR2);
    options = (struct exitbus_spawn_options){
        .flags = EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_SIGDEFAULT | EXITBUS_SPAWN_INHERIT_IGNORED,
        .signal_mask = &mask,
        .signal_default = &second};
    check(status_has(bus, &options, "SigBlk:.*0001$"));
    check(status_has(bus, &options, "SigIgn:.*0000$"));
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, &before, &now); /* the caller's own is untouched */
    check(sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn, path_search)
{
    struct exitbus *bus = bus_new();
    char *argv[] = {"true", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .flags = EXITBUS_SPAWN_SEARCH_PATH};
    struct exitbus_subscription *subscription;
    pid_t pid;
    setenv("PATH", "/nonexistent::/usr/bin:/bin", 1);
    check_ok(exitbus_spawn(bus, &options, &pid, &subscription));
    check_equal(receive_pid(subscription, pid).exit_code, 0);
    check_ok(exitbus_unsubscribe(subscription));
    setenv("PATH", "/nonexistent:/proc", 1);
    check_equal(exitbus_spawn(bus, &options, &pid, &subscription), -ENOENT);
    options.flags = 0;
    check_equal(exitbus_spawn(bus, &options, &pid, &subscription), -ENOENT);
    check_ok(exitbus_destroy(bus));
}

static void expect_failure(struct exitbus *bus, const struct exitbus_spawn_options *options,
                           int error)
{
    struct exitbus_subscription *untouched = NULL, *subscription = untouched;
    pid_t pid = -7;
    uint64_t published = stats_of(bus).published, live = stats_of(bus).subscriptions;
    unsigned fds = open_fds();
    errno = 12345;
    check_equal(exitbus_spawn(bus, options, &pid, &subscription), error);
    check_equal(errno, 12345);
    check(pid == -7 && subscription == untouched);
    check(no_children());
    check_equal(stats_of(bus).published, published);
    check_equal(stats_of(bus).subscriptions, live);
    check_equal(open_fds(), fds);
}

/* exec's own errors are returned; no child, no event, no descriptor is left. With every reaper. */
TEST(spawn, failures)
{
    struct exitbus *bus = bus_new();
    set_up_directory();
    int fd = open(output, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    check_equal(write(fd, "\177ELF nonsense", 13), 13);
    close(fd);
    for (int with = 0; with < 3; with++) {
        struct exitbus_reaper *reaper = NULL;
        struct exitbus_subscription *own;
        if (with == 0) { /* spawn's own: make it start */
            pid_t spawned = spawn_tiny(bus, "0", &own);
            check_equal(receive_pid(own, spawned).exit_code, 0);
            check_ok(exitbus_unsubscribe(own));
        } else {
            reaper = reaper_of(bus, with == 1 ? EXITBUS_REAPER_ALL : EXITBUS_REAPER_WATCHED, 0);
        }
        await(no_children());
        char *argv[] = {"/nonexistent", NULL};
        struct exitbus_spawn_options options = {.argv = argv};
        expect_failure(bus, &options, -ENOENT);
        options.path = "/etc/passwd/x";
        expect_failure(bus, &options, -ENOTDIR);
        options.path = "/etc/passwd";
        expect_failure(bus, &options, -EACCES);
        options.path = output;
        expect_failure(bus, &options, -ENOEXEC);
        options = (struct exitbus_spawn_options){.argv = argv, .path = TINY_CHILD};
        options.directory = "/nonexistent";
        expect_failure(bus, &options, -ENOENT);
        options.directory = NULL;
        struct exitbus_spawn_action bad = {.kind = EXITBUS_SPAWN_DUP2, .source_fd = 19999, .fd = 3};
        options.actions = &bad;
        options.action_count = 1;
        expect_failure(bus, &options, -EBADF);
        char *huge = malloc(1 << 20);
        memset(huge, 'x', 1 << 20);
        huge[(1 << 20) - 1] = '\0';
        char *huge_argv[] = {TINY_CHILD, huge, NULL};
        options = (struct exitbus_spawn_options){.argv = huge_argv};
        expect_failure(bus, &options, -E2BIG);
        free(huge);
        check_ok(exitbus_reaper_stop(reaper));
    }
    remove_directory();
    check_ok(exitbus_destroy(bus));
}

TEST(spawn, bad_input)
{
    struct exitbus *bus = bus_new();
    char *argv[] = {TINY_CHILD, NULL}, *empty[] = {NULL};
    struct exitbus_spawn_options good = {.argv = argv}, bad;
    pid_t pid;
    check_equal(exitbus_spawn(NULL, &good, &pid, NULL), -EINVAL);
    check_equal(exitbus_spawn(bus, NULL, &pid, NULL), -EINVAL);
    check_equal(exitbus_spawn(bus, &good, NULL, NULL), -EINVAL);
    bad = (struct exitbus_spawn_options){.argv = empty};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    bad = (struct exitbus_spawn_options){.argv = argv, .flags = 0x8000};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    bad = (struct exitbus_spawn_options){.argv = argv, .flags = EXITBUS_SPAWN_SIGMASK};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    bad = (struct exitbus_spawn_options){.argv = argv, .action_count = 1};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    bad.action_count = 0;
    bad.flags = EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_INHERIT_SIGMASK;
    sigset_t none;
    sigemptyset(&none);
    bad.signal_mask = &none;
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    struct exitbus_spawn_action action = {.kind = 99};
    bad = (struct exitbus_spawn_options){.argv = argv, .actions = &action, .action_count = 1};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    action = (struct exitbus_spawn_action){.kind = EXITBUS_SPAWN_OPEN, .fd = 1};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    action = (struct exitbus_spawn_action){.kind = EXITBUS_SPAWN_DUP2, .fd = 1, .source_fd = -1};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    action = (struct exitbus_spawn_action){.kind = EXITBUS_SPAWN_CLOSE, .fd = -1};
    check_equal(exitbus_spawn(bus, &bad, &pid, NULL), -EINVAL);
    check_equal(stats_of(bus).published, 0);
    check_ok(exitbus_destroy(bus));
}

struct spawner {
    struct exitbus *bus;
    int children;
};

static void *spawn_many(void *argument)
{
    struct spawner *spawner = argument;
    for (int i = 0; i < spawner->children; i++) {
        char code[12];
        struct exitbus_subscription *subscription;
        struct exitbus_event event;
        snprintf(code, sizeof code, "%d", i % 256);
        pid_t pid = spawn_tiny(spawner->bus, code, &subscription);
        must_equal(exitbus_receive(subscription, &event, -1), 0);
        must_equal(event.pid, pid);
        must_equal(event.exit_code, i % 256);
        must_equal(exitbus_receive(subscription, &event, 0), -ESHUTDOWN);
        must_equal(exitbus_unsubscribe(subscription), 0);
    }
    return NULL;
}

static void spawn_from_threads(struct exitbus *bus)
{
    struct spawner spawner = {bus, scaled(1000) / 4};
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = thread_start(spawn_many, &spawner);
    for (int i = 0; i < 4; i++)
        thread_join(threads[i]);
    await(no_children());
    check_equal(stats_of(bus).subscriptions, 0);
}

TEST(spawn, many_from_threads)
{
    struct exitbus *bus = bus_new();
    spawn_from_threads(bus); /* collected by spawn's own reaper */
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    spawn_from_threads(bus);
    check_ok(exitbus_reaper_stop(reaper));
    reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    spawn_from_threads(bus);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* Spawn's own reaper hands over to an ALL reaper in the middle: each exit comes once. */
TEST(spawn, reaper_taken_over)
{
    enum { CHILDREN = 40 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        pids[i] = spawn_tiny(bus, "p", NULL);
    for (int i = 0; i < CHILDREN / 2; i++)
        kill(pids[i], SIGKILL);
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    for (int i = CHILDREN / 2; i < CHILDREN; i++)
        kill(pids[i], SIGTERM);
    await(no_children());
    check_equal(exitbus_subscription_pending(all), CHILDREN);
    for (int i = 0; i < CHILDREN; i++) {
        struct exitbus_event event;
        check_ok(exitbus_receive(all, &event, 0));
        check(event.exit_code == 128 + SIGKILL || event.exit_code == 128 + SIGTERM);
        check(event.flags == 0);
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(spawn, on_the_wrong_bus)
{
    struct exitbus *one = bus_new(), *other = bus_new();
    struct exitbus_reaper *reaper = reaper_of(one, EXITBUS_REAPER_ALL, 0);
    char *argv[] = {TINY_CHILD, NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    pid_t pid;
    check_equal(exitbus_spawn(other, &options, &pid, NULL), -EXDEV);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(one));
    check_ok(exitbus_destroy(other));
}

TEST(spawn, into_a_polled_reaper)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct exitbus_subscription *subscription;
    spawn_tiny(bus, "6", &subscription);
    struct pollfd fd = {exitbus_reaper_fd(reaper), POLLIN, 0};
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(subscription, &event, 0)) == -EAGAIN) {
        poll(&fd, 1, -1);
        check_ok(exitbus_reaper_poll(reaper));
    }
    check_equal(result, 0);
    check_equal(event.exit_code, 6);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* ---------------------------------------------------------------- handlers until the child execs
 */

static volatile sig_atomic_t handled;

static void count_signal(int signal)
{
    (void)signal;
    handled++;
}

struct held_spawn {
    struct exitbus *bus;
    const char *fifo;
    int result;
};

/* The child hangs in opening the other end. */
static void *spawn_held(void *argument)
{
    struct held_spawn *held = argument;
    sigset_t none;
    sigemptyset(&none);
    struct exitbus_spawn_action open_it = {
        .kind = EXITBUS_SPAWN_OPEN, .fd = 9, .path = held->fifo, .open_flags = O_RDONLY};
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv,
                                            .actions = &open_it,
                                            .action_count = 1,
                                            .flags = EXITBUS_SPAWN_SIGMASK,
                                            .signal_mask = &none};
    pid_t pid;
    held->result = exitbus_spawn(held->bus, &options, &pid, NULL);
    return NULL;
}

/*
 * A signal that comes for the child before it has exec'd kills it: the parent's handler must not
 * run in the memory that both share. Here the parent blocks it, so who runs the handler is the
 * child.
 */
static void run_signalled_before_exec(void)
{
    set_up_directory();
    char fifo[80];
    snprintf(fifo, sizeof fifo, "%s/fifo", directory);
    check_ok(mkfifo(fifo, 0600));
    check(setpgid(0, 0) == 0 || getpgrp() == getpid());
    struct held_spawn held = {.bus = bus_new(), .fifo = fifo};
    signal(SIGUSR1, count_signal);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    struct timespec delay = {.tv_nsec = 20000000};
    do { /* until it was there in time */
        pthread_t thread;
        check_ok(pthread_create(&thread, NULL, spawn_held, &held));
        nanosleep(&delay, NULL);
        kill(0, SIGUSR1);
        int end = open(fifo, O_WRONLY);
        check_ok(pthread_join(thread, NULL));
        close(end);
        delay.tv_nsec = delay.tv_nsec < 500000000 ? delay.tv_nsec * 2 : delay.tv_nsec;
    } while (held.result == 0);
    check_equal(held.result, -EINTR);
    check_equal(handled, 0);
    check_ok(exitbus_destroy(held.bus));
    remove_directory();
}

TEST(spawn, no_handler_runs_before_exec)
{
    run_signalled_before_exec();
}

TEST(spawn, where_clone3_is_unknown)
{
    refuse_call(SYS_clone3, ENOSYS);
    run_signalled_before_exec();
}

TEST(spawn, where_clone3_is_forbidden)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_options options = {0};
    check_equal(run(bus, &options, "exit 3"), 3); /* starts the reaper's thread */
    refuse_call(SYS_clone3, EPERM);
    check_equal(run(bus, &options, "exit 4"), 4);
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------ what others see of it */

/* A parent that has left its pid namespace for a new one: the child's own pid is 1 there. */
TEST(spawn, into_another_pid_namespace)
{
    struct exitbus *bus = bus_new();
    struct exitbus_spawn_options options = {0};
    check_equal(run(bus, &options, "exit 6"), 6); /* the reaper's thread is there from now on */
    if (unshare(CLONE_NEWPID) != 0)
        return; /* takes privileges */
    check_equal(run(bus, &options, "exit 7"), 7);
    check_ok(exitbus_destroy(bus));
}

static struct {
    struct exitbus *bus;
    struct exitbus_reaper *reaper;
    int fds[2]; /* the child writes its pid there */
    pthread_t spawner;
    _Atomic bool armed, published;
} race;

/* Learns the child's pid from itself, has it watched, and waits until its exit is out. */
static void *watch_early(void *nothing)
{
    char text[16] = "";
    must(read(race.fds[0], text, sizeof text - 1) > 0);
    must_equal(exitbus_reaper_watch(race.reaper, atoi(text)), 0);
    struct exitbus_stats stats;
    do
        must_equal(exitbus_stats(race.bus, &stats), 0);
    while (stats.published < 2);
    atomic_store(&race.published, true);
    return nothing;
}

/* The spawner's first wait is to learn that its child has begun: it stops there. */
static int stop_spawner(long number)
{
    if (number == SYS_waitid && pthread_equal(pthread_self(), race.spawner) &&
        atomic_exchange(&race.armed, false))
        await(atomic_load(&race.published));
    return 0;
}

TEST(spawn, a_child_that_another_thread_watches_at_once)
{
    struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    struct exitbus_subscription *all;
    struct exitbus_event event;
    race.bus = bus_new();
    race.spawner = pthread_self();
    check_ok(pipe(race.fds));
    check_ok(exitbus_reaper_start(race.bus, &watched, &race.reaper));
    struct exitbus_spawn_options first = {0};
    check_equal(run(race.bus, &first, "exit 3"), 3); /* how children are made here is known now */
    check_ok(exitbus_subscribe(race.bus, exitbus_topic_all(), 0, &all));
    pthread_t other = thread_start(watch_early, NULL);
    atomic_store(&race.armed, true);
    __atomic_store_n(&exitbus_test_syscall, stop_spawner, __ATOMIC_RELEASE);
    struct exitbus_spawn_action action = {
        .kind = EXITBUS_SPAWN_DUP2, .fd = 9, .source_fd = race.fds[1]};
    char *argv[] = {"/bin/sh", "-c", "echo $$ >&9", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .actions = &action, .action_count = 1};
    pid_t pid;
    check_ok(exitbus_spawn(race.bus, &options, &pid, NULL));
    thread_join(other);
    __atomic_store_n(&exitbus_test_syscall, NULL, __ATOMIC_RELEASE);
    check(atomic_load(&race.published));
    /* A last one, whose exit is published after whatever was still to come of the first. */
    struct exitbus_spawn_options last = {.argv = (char *[]){"/bin/true", NULL}};
    pid_t last_pid;
    check_ok(exitbus_spawn(race.bus, &last, &last_pid, NULL));
    check_ok(exitbus_receive(all, &event, -1));
    check_equal(event.pid, pid);
    check_equal(event.exit_code, 0);
    check_ok(exitbus_receive(all, &event, -1));
    check_equal(event.pid, last_pid);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_reaper_stop(race.reaper));
    check_ok(exitbus_destroy(race.bus));
}
