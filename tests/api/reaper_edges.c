/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reapers beside hosts that do as they please: with handlers, signalfd, other waiters, descriptors
 * that are closed, and calls that are refused later. Each test has the name of a fault that a
 * reaper once had, or of one that others had.
 */
#include "support/cgroups.h"
#include "support/children.h"
#include "support/halt.h"
#include "support/harness.h"
#include "support/refuse.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int children_published(struct exitbus_subscription *all, int count)
{
    struct exitbus_event event;
    int lost = 0;
    for (int i = 0; i < count; i++) {
        must_equal(exitbus_receive(all, &event, -1), 0);
        lost += event.flags & EXITBUS_EVENT_STATUS_LOST ? 1 : 0;
    }
    return lost;
}

static void block_sigchld(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, NULL);
}

/* ---------------------------------------------------------------------------------- handlers */

static _Atomic int handled;
static _Atomic int handled_by_reaper;
static sigjmp_buf out;
static volatile sig_atomic_t jumps;

static void note_thread(int signal)
{
    (void)signal;
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "exitbus-reaper") == 0)
        atomic_fetch_add(&handled_by_reaper, 1);
    atomic_fetch_add(&handled, 1);
}

static void jump_out(int signal)
{
    note_thread(signal);
    if (jumps)
        siglongjmp(out, 1);
}

/*
 * The host has SIGCHLD blocked but while it waits in sigsuspend: its handler runs there, and never
 * on the reaper's thread, which has it unblocked. Before that the reaper has had the time to take
 * the signal: what it takes it must pass on.
 */
TEST(reaper_edges, handler_on_reaper_thread)
{
    struct sigaction action = {.sa_handler = note_thread, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    block_sigchld();
    sigset_t open;
    sigemptyset(&open);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    for (int i = 0; i < 50; i++) {
        int before = atomic_load(&handled);
        struct child child = child_fork(i);
        child_end(child);
        check_equal(receive_pid(all, child.pid).exit_code, i); /* so the signal came meanwhile */
        await(thread_is_in("exitbus-reaper", SYS_epoll_pwait));
        while (atomic_load(&handled) == before) /* block, test, sigsuspend: as in every textbook */
            sigsuspend(&open);
    }
    check_equal(atomic_load(&handled_by_reaper), 0);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* A handler that leaves by siglongjmp finds itself on the host's own stack. */
TEST(reaper_edges, handler_that_jumps_out)
{
    struct sigaction action = {.sa_handler = jump_out, .sa_flags = SA_NODEFER};
    sigaction(SIGCHLD, &action, NULL);
    block_sigchld();
    sigset_t open;
    sigemptyset(&open);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    for (volatile int i = 0; i < 50; i++) {
        struct child child = child_fork(0);
        volatile pid_t pid = child.pid;
        child_end(child);
        if (sigsetjmp(out, 1) == 0) {
            jumps = 1;
            for (;;)
                sigsuspend(&open);
        }
        jumps = 0;
        check_equal(receive_pid(all, pid).pid, pid);
    }
    check_equal(atomic_load(&handled_by_reaper), 0);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/*
 * The host has SIGCHLD unblocked in a thread that is not its first: the handler runs there, or the
 * signal is pending at the first thread. It is not lost to the host.
 */
static _Atomic bool unblocked;

static void *wait_for_handler(void *nothing)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &child, NULL);
    atomic_store(&unblocked, true);
    while (atomic_load(&handled) == 0)
        sched_yield();
    return nothing;
}

TEST(reaper_edges, handler_on_the_hosts_other_thread)
{
    struct sigaction action = {.sa_handler = note_thread, .sa_flags = SA_RESTART};
    sigaction(SIGCHLD, &action, NULL);
    block_sigchld();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    pthread_t thread = thread_start(wait_for_handler, NULL);
    await(atomic_load(&unblocked));
    struct child child = child_fork(1);
    child_end(child);
    check_equal(receive_pid(all, child.pid).exit_code, 1);
    sigset_t pending;
    await(atomic_load(&handled) > 0 ||
          (sigpending(&pending) == 0 && sigismember(&pending, SIGCHLD)));
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    thread_join(thread);
    check_equal(atomic_load(&handled_by_reaper), 0);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------- others take the signal */

static void *take_by_sigwait(void *taken)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (int signal; sigwait(&child, &signal) == 0;)
        atomic_fetch_add((_Atomic int *)taken, 1);
    return NULL;
}

static void *take_by_signalfd(void *taken)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int fd = signalfd(-1, &child, SFD_CLOEXEC);
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info)
        atomic_fetch_add((_Atomic int *)taken, 1);
    return NULL;
}

static void run_taken(void *(*take)(void *), uint32_t flags)
{
    enum { CHILDREN = 100 };
    static _Atomic int taken;
    block_sigchld();
    struct exitbus *bus = bus_new();
    pthread_t thread = thread_start(take, &taken);
    pthread_detach(thread);
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, flags);
    for (int i = 0; i < CHILDREN; i++) {
        struct exitbus_subscription *own;
        pid_t pid = spawn_tiny(bus, "7", &own);
        struct exitbus_event event;
        int result;
        while ((result = exitbus_receive(own, &event, flags ? 0 : -1)) == -EAGAIN)
            check_ok(exitbus_reaper_poll(reaper));
        check_ok(result);
        check(event.pid == pid && event.exit_code == 7);
        check_ok(exitbus_unsubscribe(own));
    }
    await(atomic_load(&taken) > 0); /* the host's share */
    await(no_children());
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper_edges, signal_taken_by_others)
{
    run_taken(take_by_sigwait, 0);
}

TEST(reaper_edges, signalfd_host)
{
    run_taken(take_by_signalfd, 0);
}

TEST(reaper_edges, signalfd_host_polls)
{
    run_taken(take_by_signalfd, EXITBUS_REAPER_POLLED);
}

/* A POLLED reaper finds children that nobody watches, too, though it never sees a signal. */
TEST(reaper_edges, polled_all_looks_unasked)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
    check_ok(exitbus_reaper_poll(reaper));
    block_sigchld();
    struct child child = child_fork(3);
    child_end(child);
    await(is_zombie(child.pid));
    check_equal(exitbus_reaper_poll(reaper), 1);
    check_equal(receive_pid(all, child.pid).exit_code, 3);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------- the signal left to the reaper */

#define LEFT_CHILDREN 1100 /* more than one pass collects */

/* Make children that exit at once; with `zombies` return when all have. */
static void make_children(int count, bool zombies)
{
    for (int i = 0; i < count; i++) {
        pid_t pid = fork();
        must(pid >= 0);
        if (pid == 0)
            _exit(5);
        siginfo_t info;
        if (zombies)
            must_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    }
}

static void run_signal_left(uint32_t flags)
{
    struct sigaction host = {.sa_handler = note_thread}, now;
    sigaction(SIGCHLD, &host, NULL);
    block_sigchld();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    make_children(LEFT_CHILDREN, true);
    struct exitbus_reaper *reaper =
        reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_SIGNALFD | flags);
    struct pollfd ready = {.fd = exitbus_reaper_fd(reaper), .events = POLLIN};
    sigaction(SIGCHLD, NULL, &now);
    check(now.sa_handler == note_thread); /* it installs none */
    for (int round = 0; round < 3; round++) {
        if (round > 0)
            make_children(20, false);
        for (int left = round > 0 ? 20 : LEFT_CHILDREN; left > 0;) {
            struct exitbus_event event;
            int result = exitbus_receive(all, &event, flags ? 0 : 20000000000);
            if (result == -EAGAIN) {
                must_equal(poll(&ready, 1, 20000), 1);
                must(exitbus_reaper_poll(reaper) >= 0);
            } else {
                must_equal(result, 0);
                must_equal(event.exit_code, 5);
                left--;
            }
        }
        await(no_children());
        while (flags && poll(&ready, 1, 0) == 1) /* until it is at rest */
            must_equal(exitbus_reaper_poll(reaper), 0);
    }
    check_equal(atomic_load(&handled), 0);
    check_ok(exitbus_reaper_stop(reaper));
    sigaction(SIGCHLD, NULL, &now);
    check(now.sa_handler == note_thread);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper_edges, signal_left_to_the_reaper)
{
    run_signal_left(0);
}

TEST(reaper_edges, signal_left_to_the_reaper_polled)
{
    run_signal_left(EXITBUS_REAPER_POLLED);
}

/* A signal of the thread's own hides one of the process's from a look that takes one alone. */
TEST(reaper_edges, signal_left_twice)
{
    block_sigchld();
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper =
        reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_SIGNALFD | EXITBUS_REAPER_POLLED);
    for (int i = 0; i < 3; i++) {
        must(raise(SIGCHLD) == 0 && kill(getpid(), SIGCHLD) == 0);
        must_equal(exitbus_reaper_poll(reaper), 0);
        sigset_t pending;
        must(sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD));
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* A reaper that is to take a signal which the host does not block, or ignores, is refused. */
TEST(reaper_edges, signal_not_left)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = NULL;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL,
                                             .flags = EXITBUS_REAPER_SIGNALFD};
    unsigned fds = open_fds();
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -EINVAL);
    block_sigchld();
    signal(SIGCHLD, SIG_IGN);
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -ENOTSUP);
    signal(SIGCHLD, SIG_DFL);
    options.mode = EXITBUS_REAPER_WATCHED;
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -EINVAL);
    check(!reaper);
    check_equal(open_fds(), fds);
    options.mode = EXITBUS_REAPER_ALL;
    options.flags |= EXITBUS_REAPER_SUBREAPER;
    check_ok(exitbus_reaper_start(bus, &options, &reaper));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------ orphans alone */

static _Atomic bool jobs_are_over;

/* What libraries do: start children of their own, and wait for them. */
static void *use_system(void *count)
{
    while (!atomic_load(&jobs_are_over)) {
        int result = system("exit 3");
        must(WIFEXITED(result) && WEXITSTATUS(result) == 3);
        FILE *output = popen("echo out; exit 4", "r");
        char line[8];
        must(output && fgets(line, sizeof line, output) && strcmp(line, "out\n") == 0);
        result = pclose(output);
        must(WIFEXITED(result) && WEXITSTATUS(result) == 4);
        pid_t pid = fork();
        if (pid == 0)
            _exit(6);
        int status;
        must(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 6);
        atomic_fetch_add((_Atomic int *)count, 1);
    }
    return NULL;
}

static void run_beside_libraries(uint32_t flags)
{
    enum { JOBS = 60 };
    char path[100];
    int cgroup = cgroup_new(path, sizeof path);
    if (cgroup < 0)
        return;
    static _Atomic int used;
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL,
                                             .flags = EXITBUS_REAPER_ORPHANS |
                                                      EXITBUS_REAPER_SUBREAPER | flags};
    struct exitbus_reaper *reaper;
    check_ok(exitbus_reaper_start(bus, &options, &reaper));
    struct child own = child_fork(9); /* waited for at the end, and a zombie by then */
    child_end(own);
    await(is_zombie(own.pid));
    pthread_t thread = thread_start(use_system, &used);
    for (int i = 0; i < JOBS; i++) {
        char *argv[] = {"/bin/sh", "-c", "(exit 5) & (exit 5) & exit 7", NULL};
        struct exitbus_spawn_attributes attributes = {.set = EXITBUS_ATTRIBUTE_CGROUP,
                                                      .cgroup_fd = cgroup};
        struct exitbus_spawn_options job = {
            .argv = argv, .flags = EXITBUS_SPAWN_ATTRIBUTES, .attributes = &attributes};
        pid_t pid;
        check_ok(exitbus_spawn(bus, &job, &pid, NULL));
    }
    int jobs = 0;
    while (jobs < JOBS) {
        struct exitbus_event event;
        must_equal(exitbus_receive(all, &event, -1), 0);
        must(event.exit_code == 7 || event.exit_code == 5);
        jobs += event.exit_code == 7;
    }
    await(atomic_load(&used) > 5);
    atomic_store(&jobs_are_over, true);
    thread_join(thread);
    int status;
    check_equal(waitpid(own.pid, &status, 0), own.pid);
    check_equal(WEXITSTATUS(status), 9);
    await(no_children()); /* each orphan was reaped */
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
    close(cgroup);
    await(rmdir(path) == 0);
}

TEST(reaper_edges, orphans_without_theft)
{
    run_beside_libraries(0);
}

static _Atomic int thieves_loot;

static void reap_all(int signal)
{
    (void)signal;
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        atomic_fetch_add(&thieves_loot, 1);
    errno = saved;
}

/* The host's handler reaps whatever there is: each exit of spawn's comes, at worst without status.
 */
TEST(reaper_edges, handler_that_reaps)
{
    enum { CHILDREN = 200 };
    struct sigaction thief = {.sa_handler = reap_all, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
    sigaction(SIGCHLD, &thief, NULL);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    for (int i = 0; i < CHILDREN; i++)
        spawn_tiny(bus, "7", NULL);
    struct exitbus_event event;
    for (int i = 0; i < CHILDREN; i++) {
        check_ok(exitbus_receive(all, &event, -1));
        check(event.flags & EXITBUS_EVENT_STATUS_LOST ? event.exit_code == -1 && event.status == -1
                                                      : event.exit_code == 7);
    }
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    await(no_children());
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* SIGCHLD is set to SIG_DFL, or ignored, for a while: spawn's children do not need it. */
TEST(reaper_edges, signal_off_for_a_while)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    void (*ways[])(int) = {SIG_DFL, SIG_IGN};
    for (int i = 0; i < 2; i++) {
        struct sigaction off = {.sa_handler = ways[i]}, before;
        sigaction(SIGCHLD, &off, &before);
        for (int n = 0; n < 20; n++) {
            struct exitbus_subscription *own;
            pid_t pid = spawn_tiny(bus, "7", &own);
            struct exitbus_event event = receive_pid(own, pid);
            check(event.exit_code == 7 || (event.flags & EXITBUS_EVENT_STATUS_LOST));
            check_ok(exitbus_unsubscribe(own));
        }
        sigaction(SIGCHLD, &before, NULL);
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* STATUS_LOST does not read as success. */
TEST(reaper_edges, status_lost_is_no_success)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_event lost = {.kind = EXITBUS_EVENT_PID, .pid = 1};
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct child child = child_fork(0);
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    child_end(child);
    check_equal(waitpid(child.pid, NULL, 0), child.pid);
    while (exitbus_receive(all, &lost, 0) == -EAGAIN)
        check_ok(exitbus_reaper_poll(reaper));
    check_equal(lost.pid, child.pid);
    if (lost.flags & EXITBUS_EVENT_STATUS_LOST) { /* a kernel that can't tell */
        check_equal(lost.exit_code, -1);
        check(!WIFEXITED(lost.status) && !WIFSIGNALED(lost.status) && !WIFSTOPPED(lost.status));
    } else {
        check_equal(lost.exit_code, 0);
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------- start and stop */

/* SIGCHLD was ignored since before the program began (nohup, cron): ALL takes over, and gives back.
 */
TEST(reaper_edges, ignored_at_start)
{
    signal(SIGCHLD, SIG_IGN);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    struct exitbus_reaper *reaper = NULL;
    check_equal(exitbus_reaper_start(bus, &watched, &reaper), -ENOTSUP);
    check(strstr(exitbus_strerror(-ENOTSUP), "SIG_DFL") != NULL); /* it says what to do */
    reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct child child = child_fork(9);
    child_end(child);
    check_equal(receive_pid(all, child.pid).exit_code, 9);
    check_ok(exitbus_reaper_stop(reaper));
    struct sigaction now;
    sigaction(SIGCHLD, NULL, &now);
    check(now.sa_handler == SIG_IGN);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* Somebody has installed theirs over ours and does not call ours: the next start is not deaf. */
TEST(reaper_edges, restart_over_foreign)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    check_ok(exitbus_reaper_stop(reaper_of(bus, EXITBUS_REAPER_ALL, 0)));
    for (int i = 0; i < 40; i++) { /* more often than ours can be remembered to be in the chain */
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
        struct sigaction theirs = {.sa_handler = note_thread};
        sigaction(SIGCHLD, &theirs, NULL);
        check_ok(exitbus_reaper_stop(reaper));
        reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
        int before = atomic_load(&handled);
        struct child child = child_fork(4);
        child_end(child);
        check_equal(receive_pid(all, child.pid).exit_code, 4);
        await(atomic_load(&handled) > before); /* and theirs is called */
        check_ok(exitbus_reaper_stop(reaper));
    }
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* Six children exit, the youngest first, before one pass. */
static void run_birth_order(enum exitbus_reaper_mode mode)
{
    enum { CHILDREN = 6 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, mode, EXITBUS_REAPER_POLLED);
    check_ok(exitbus_reaper_poll(reaper));
    pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        pids[i] = spawn_tiny(bus, "p", NULL);
    for (int i = CHILDREN - 1; i >= 0; i--) {
        kill(pids[i], SIGKILL);
        await(is_zombie(pids[i]));
    }
    while (exitbus_subscription_pending(all) < CHILDREN)
        check_ok(exitbus_reaper_poll(reaper));
    struct exitbus_event event;
    for (int i = CHILDREN - 1; i >= 0; i--) {
        check_ok(exitbus_receive(all, &event, 0));
        check_equal(event.pid, pids[i]);
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper_edges, birth_order)
{
    run_birth_order(EXITBUS_REAPER_ALL);
}

TEST(reaper_edges, exit_order_is_not_birth_order)
{
    run_birth_order(EXITBUS_REAPER_WATCHED);
}

/* A reaper goes while children of spawn's run, and others wait for them. */
static void *wait_for_exit(void *subscription)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(subscription, &event, -1), 0);
    must_equal(exitbus_unsubscribe(subscription), 0);
    return NULL;
}

static void run_stranded(enum exitbus_reaper_mode mode, uint32_t flags)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *before, *during;
    pid_t first = spawn_tiny(bus, "p", &before); /* under the bus's own reaper */
    struct exitbus_reaper *reaper = reaper_of(bus, mode, flags);
    pid_t second = spawn_tiny(bus, "p", &during);
    pthread_t one = thread_start(wait_for_exit, before), two = thread_start(wait_for_exit, during);
    await(stats_of(bus).sleeping_receivers == 2);
    check_ok(exitbus_reaper_stop(reaper));
    kill(first, SIGKILL);
    kill(second, SIGKILL);
    thread_join(one);
    thread_join(two);
    await(no_children());
    check_ok(exitbus_destroy(bus));
}

TEST(reaper_edges, stop_strands_receivers)
{
    run_stranded(EXITBUS_REAPER_ALL, 0);
    run_stranded(EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
}

TEST(reaper_edges, reaper_stopped_while_waited_for)
{
    run_stranded(EXITBUS_REAPER_WATCHED, 0);
    run_stranded(EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
}

static _Atomic bool no_threads;

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *argument)
{
    return atomic_load(&no_threads) ? EAGAIN
                                    : __real_pthread_create(thread, attributes, run, argument);
}

/* If nobody can take spawn's children over, the stop fails, and the reaper goes on. */
TEST(reaper_edges, stop_without_an_heir_fails)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(bus, "p", &own);
    atomic_store(&no_threads, true);
    check_equal(exitbus_reaper_stop(reaper), -EAGAIN);
    kill(pid, SIGKILL);
    check_equal(receive_pid(own, pid).pid, pid);
    await(no_children());
    int result;
    await((result = exitbus_reaper_stop(reaper)) != -EAGAIN); /* the watch is dropped behind */
    check_ok(result);
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_destroy(bus));
}

/* A bus that has spawned once does not keep an ALL reaper from starting on another for ever. */
TEST(reaper_edges, default_bus_blocks_all)
{
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(exitbus_default(), "p", &own);
    struct exitbus *bus = bus_new();
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL};
    struct exitbus_reaper *reaper = NULL;
    check_equal(exitbus_reaper_start(bus, &all, &reaper), -EBUSY); /* it has work to do */
    kill(pid, SIGKILL);
    check_equal(receive_pid(own, pid).pid, pid);
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_reaper_start(bus, &all, &reaper)); /* at once */
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    check_equal(exitbus_spawn(exitbus_default(), &options, &pid, NULL), -EXDEV);
    check_ok(exitbus_reaper_stop(reaper));
    pid = spawn_tiny(exitbus_default(), "6", &own);
    check_equal(receive_pid(own, pid).exit_code, 6);
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------- watching by pid */

struct watching {
    struct exitbus_reaper *reaper;
    pid_t pid;
    struct halt halt;
    int result;
};

static void *watch_and_stop(void *argument)
{
    struct watching *watching = argument;
    halt_begin(&watching->halt);
    watching->result = exitbus_reaper_watch(watching->reaper, watching->pid);
    halt_end(&watching->halt);
    return NULL;
}

/*
 * A watch is held between pidfd_open and hand-over, while the child exits, and so do others of its
 * bucket: published once.
 */
TEST(reaper_edges, watched_twice)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    unsigned fds = open_fds();
    struct child child = child_fork(3);
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    struct watching watching = {.reaper = reaper, .pid = child.pid};
    halt_hook_set();
    halt_init(&watching.halt, PROBE_WATCH_POLLED, 0);
    pthread_t thread = thread_start(watch_and_stop, &watching);
    must(halt_await(&watching.halt));
    child_end(child);
    check_equal(receive_pid(all, child.pid).exit_code, 3);
    await(is_gone(child.pid));
    for (int i = 0; i < 2048; i++) { /* every bucket, twice */
        spawn_tiny(bus, "0", NULL);
        children_published(all, 1);
    }
    halt_release(&watching.halt);
    thread_join(thread);
    check_ok(watching.result);
    struct exitbus_event event;
    pid_t last = spawn_tiny(bus, "1", NULL);
    check_ok(exitbus_receive(all, &event, -1));
    check_equal(event.pid, last); /* nothing came between */
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    await(no_children() && open_fds() == fds);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

static _Atomic pid_t loot;

/* Another waiter takes the child right behind the reaper's look at it. */
static void steal(enum probe step)
{
    pid_t pid = step == PROBE_REAPER_PEEKED ? atomic_exchange(&loot, 0) : 0;
    if (pid > 0)
        must_equal(waitpid(pid, NULL, 0), pid);
}

/* Another waiter takes a child before the reaper looks: one exit, however many watches it has. */
TEST(reaper_edges, taken_before_the_look)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct exitbus_event event;
    unsigned fds = open_fds();
    for (int i = 0; i < 3; i++) {
        struct child child = child_fork(3);
        for (int watches = 0; watches <= i; watches++)
            check_ok(exitbus_reaper_watch(reaper, child.pid));
        child_end(child);
        must_equal(waitpid(child.pid, NULL, 0), child.pid);
        check_equal(exitbus_reaper_poll(reaper), 1);
        check_ok(exitbus_receive(all, &event, 0));
        check_equal(event.pid, child.pid);
        check(event.exit_code == 3 || (event.flags & EXITBUS_EVENT_STATUS_LOST));
        check_equal(exitbus_reaper_poll(reaper), 0);
        check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    }
    check_equal(open_fds(), fds);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* It has two watches: the second one must not be taken for that of an earlier process. */
TEST(reaper_edges, taken_behind_the_look)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct exitbus_event event;
    __atomic_store_n(&exitbus_probe_hook, steal, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        struct child child = child_fork(3);
        for (int watches = 0; watches <= i; watches++)
            check_ok(exitbus_reaper_watch(reaper, child.pid));
        child_end(child);
        await(is_zombie(child.pid));
        atomic_store(&loot, child.pid);
        check_equal(exitbus_reaper_poll(reaper), 1);
        check_equal(atomic_load(&loot), 0);
        check_ok(exitbus_receive(all, &event, 0));
        check_equal(event.pid, child.pid);
        check_equal(event.exit_code, 3);
        check_equal(exitbus_reaper_poll(reaper), 0);
        check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

struct spawning {
    struct exitbus *bus;
    pid_t pid;
};

static _Thread_local bool spawns;
static sem_t committing, go_on, polled;

/* Spawn hands its child over between the reaper's look and another waiter's. */
static void steal_during_hand_over(enum probe step)
{
    pid_t pid = step == PROBE_REAPER_PEEKED ? atomic_exchange(&loot, 0) : 0;
    if (pid > 0) {
        sem_post(&go_on);
        halt_wait(&polled);
        must_equal(waitpid(pid, NULL, 0), pid);
    }
    if (spawns && step == PROBE_WATCH_COMMITTING) {
        sem_post(&committing);
        halt_wait(&go_on);
    }
    if (spawns && step == PROBE_WATCH_POLLED)
        sem_post(&polled);
}

static void *spawn_slowly(void *argument)
{
    struct spawning *spawning = argument;
    spawns = true;
    spawning->pid = spawn_tiny(spawning->bus, "3", NULL);
    return NULL;
}

/* The same by an ALL reaper, which finds the child before spawn has handed it over. */
TEST(reaper_edges, taken_behind_the_look_before_the_hand_over)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
    struct exitbus_event event;
    siginfo_t info;
    __atomic_store_n(&exitbus_probe_hook, steal_during_hand_over, __ATOMIC_RELEASE);
    sem_init(&committing, 0, 0);
    sem_init(&go_on, 0, 0);
    sem_init(&polled, 0, 0);
    struct spawning spawning = {.bus = bus};
    pthread_t thread = thread_start(spawn_slowly, &spawning);
    halt_wait(&committing);
    must_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
    atomic_store(&loot, info.si_pid);
    int published = exitbus_reaper_poll(reaper);
    check_equal(atomic_load(&loot), 0);
    thread_join(thread);
    published += exitbus_reaper_poll(reaper);
    check_equal(published, 1);
    check_ok(exitbus_receive(all, &event, 0));
    check_equal(event.pid, spawning.pid);
    check(event.exit_code == 3 || (event.flags & EXITBUS_EVENT_STATUS_LOST));
    check_equal(exitbus_reaper_poll(reaper), 0);
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* Several threads watch what another has spawned: once each, and no descriptor stays. */
static _Atomic pid_t to_watch;

static void *watch_latest(void *reaper)
{
    for (pid_t pid, last = 0; (pid = atomic_load(&to_watch)) >= 0;)
        if (pid != last && pid > 0) {
            last = pid;
            int result = exitbus_reaper_watch(reaper, pid);
            must(result == 0 || result == -ECHILD);
        }
    return NULL;
}

TEST(reaper_edges, watched_by_many)
{
    int children = scaled(2000);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    unsigned fds = open_fds();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start(watch_latest, reaper);
    struct exitbus_event event;
    for (int i = 0; i < children; i++) {
        pid_t pid = spawn_tiny(bus, "2", NULL);
        atomic_store(&to_watch, pid);
        check_ok(exitbus_receive(all, &event, -1));
        check_equal(event.pid, pid);
        check_equal(event.exit_code, 2);
    }
    atomic_store(&to_watch, -1);
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    await(no_children() && open_fds() == fds);
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

static int exit_quietly(void *nothing)
{
    (void)nothing;
    _exit(7);
}

/* A child with another exit signal: WATCHED sees it, ALL does not, and leaves it for its maker. */
TEST(reaper_edges, other_exit_signal)
{
    static _Alignas(16) char stack[65536];
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    static const int signals[] = {0, SIGUSR1};
    signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
        pid_t pid = clone(exit_quietly, stack + sizeof stack, signals[i], NULL);
        must(pid > 0);
        check_ok(exitbus_reaper_watch(reaper, pid));
        check_equal(receive_pid(all, pid).exit_code, 7);
        check_ok(exitbus_reaper_stop(reaper));
        reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
        pid = clone(exit_quietly, stack + sizeof stack, signals[i], NULL);
        must(pid > 0);
        siginfo_t info;
        must_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | (int)__WALL), 0);
        check_equal(exitbus_reaper_poll(reaper), 0);
        check_equal(waitpid(pid, NULL, (int)__WALL), pid);
        check_ok(exitbus_reaper_stop(reaper));
    }
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* --------------------------------------------------------------------------- edge-triggered */

/* A POLLED reaper under EPOLLET: a pass that stops at its limit makes another edge. */
static void run_polled_edge(enum exitbus_reaper_mode mode)
{
    enum { CHILDREN = 1100 }; /* more than one pass collects */
    struct rlimit files = {CHILDREN + 200, CHILDREN + 200};
    setrlimit(RLIMIT_NOFILE, &files);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, mode, EXITBUS_REAPER_POLLED);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    must_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, exitbus_reaper_fd(reaper), &event), 0);
    int gate[2];
    must_equal(pipe2(gate, O_CLOEXEC), 0);
    static pid_t pids[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            char byte;
            close(gate[1]);
            _exit(read(gate[0], &byte, 1) < 0);
        }
        if (mode == EXITBUS_REAPER_WATCHED)
            check_ok(exitbus_reaper_watch(reaper, pids[i]));
    }
    check_ok(exitbus_reaper_poll(reaper));
    while (epoll_wait(epoll, &event, 1, 0) > 0)
        check_ok(exitbus_reaper_poll(reaper));
    close(gate[1]);
    for (int i = 0; i < CHILDREN; i++)
        await(is_zombie(pids[i]));
    int collected = 0;
    while (collected < CHILDREN) { /* the runner's timeout ends a loop that is stuck */
        must_equal(epoll_wait(epoll, &event, 1, -1), 1);
        int count = exitbus_reaper_poll(reaper); /* once for each edge */
        check_ok(count);
        collected += count;
    }
    check_equal(children_published(all, CHILDREN), 0);
    close(epoll);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper_edges, polled_reaper_edge)
{
    run_polled_edge(EXITBUS_REAPER_WATCHED);
}

TEST(reaper_edges, polled_all_reaper_edge)
{
    run_polled_edge(EXITBUS_REAPER_ALL);
}

/* ----------------------------------------------------------------------- no lock over exec */

struct fifo {
    char directory[32], path[40];
};

static void fifo_make(struct fifo *fifo)
{
    strcpy(fifo->directory, "/tmp/exitbus-fifo-XXXXXX");
    must(mkdtemp(fifo->directory) != NULL);
    snprintf(fifo->path, sizeof fifo->path, "%s/fifo", fifo->directory);
    must_equal(mkfifo(fifo->path, 0600), 0);
}

static void fifo_let_reader_go(const struct fifo *fifo)
{
    int writer = open(fifo->path, O_WRONLY | O_CLOEXEC);
    must(writer >= 0);
    close(writer);
}

static void fifo_remove(const struct fifo *fifo)
{
    unlink(fifo->path);
    rmdir(fifo->directory);
}

struct end_of_fifo {
    struct exitbus *bus;
    const char *path;
    int flags;
};

/* A child that opens its end before it execs. */
static pid_t spawn_opening(const struct end_of_fifo *end, struct exitbus_subscription **own)
{
    struct exitbus_spawn_action action = {
        .kind = EXITBUS_SPAWN_OPEN, .fd = 0, .path = end->path, .open_flags = end->flags};
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .actions = &action, .action_count = 1};
    pid_t pid;
    must_equal(exitbus_spawn(end->bus, &options, &pid, own), 0);
    return pid;
}

static void *spawn_at_fifo(void *end)
{
    struct exitbus_subscription *own;
    pid_t pid = spawn_opening(end, &own);
    receive_pid(own, pid);
    must_equal(exitbus_unsubscribe(own), 0);
    return NULL;
}

static bool has_a_child(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG | (int)__WALL) == 0;
}

/*
 * Two spawns wait for each other at the two ends of a FIFO; in between comes what takes the lock
 * over reapers: a destroy, a stop, a start and a stop, a first spawn on another bus.
 */
static void run_fifo(int between)
{
    struct fifo fifo;
    fifo_make(&fifo);
    struct exitbus *bus = bus_new(), *other = bus_new(), *third = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_reaper *others = reaper_of(other, EXITBUS_REAPER_WATCHED, 0);
    struct end_of_fifo reads = {bus, fifo.path, O_RDONLY}, writes = {bus, fifo.path, O_WRONLY};
    pthread_t reader = thread_start(spawn_at_fifo, &reads);
    await(has_a_child()); /* which gets no further than its open */
    if (between == 0)
        check_ok(exitbus_destroy(third));
    else if (between == 1)
        check_ok(exitbus_reaper_stop(others));
    else if (between == 2)
        check_ok(exitbus_reaper_stop(reaper_of(third, EXITBUS_REAPER_WATCHED, 0)));
    else
        writes.bus = third; /* whose first spawn starts a reaper */
    spawn_at_fifo(&writes);
    thread_join(reader);
    if (between != 1)
        check_ok(exitbus_reaper_stop(others));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(between == 0 ? NULL : third));
    check_ok(exitbus_destroy(other));
    check_ok(exitbus_destroy(bus));
    fifo_remove(&fifo);
}

TEST(reaper_edges, lock_across_exec)
{
    for (int between = 0; between < 3; between++)
        run_fifo(between);
}

TEST(reaper_edges, spawn_lock_deadlock)
{
    run_fifo(3);
}

/* The reaper of a spawn in progress is stopped, and its bus destroyed, without waiting for it. */
TEST(reaper_edges, stop_and_destroy_during_a_spawn)
{
    struct fifo fifo;
    fifo_make(&fifo);
    unsigned fds = open_fds();
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct end_of_fifo reads = {bus, fifo.path, O_RDONLY};
    pthread_t reader = thread_start(spawn_at_fifo, &reads);
    await(has_a_child());
    check_ok(exitbus_reaper_stop(reaper)); /* its exit is the implicit reaper's now */
    fifo_let_reader_go(&fifo);
    thread_join(reader);
    await(no_children());
    check_ok(exitbus_destroy(bus));
    await(open_fds() == fds);
    fifo_remove(&fifo);
}

static void *spawn_in_a_bus_that_goes(void *end)
{
    struct exitbus_subscription *own;
    static pid_t pid;
    pid = spawn_opening(end, &own);
    struct exitbus_event event;
    must_equal(exitbus_receive(own, &event, -1), -ESHUTDOWN);
    must_equal(exitbus_unsubscribe(own), 0);
    return &pid;
}

TEST(reaper_edges, destroy_during_a_spawn)
{
    struct fifo fifo;
    fifo_make(&fifo);
    unsigned fds = open_fds();
    struct exitbus *bus = bus_new();
    struct end_of_fifo reads = {bus, fifo.path, O_RDONLY};
    pthread_t reader = thread_start(spawn_in_a_bus_that_goes, &reads);
    await(has_a_child());
    check_ok(exitbus_destroy(bus));
    fifo_let_reader_go(&fifo);
    pid_t *pid;
    must_equal(pthread_join(reader, (void **)&pid), 0);
    check_equal(waitpid(*pid, NULL, 0), *pid); /* nobody's: the caller may wait for it */
    await(open_fds() == fds);
    fifo_remove(&fifo);
}

/* -------------------------------------------------- destroy before a call gets its lock */

static _Thread_local bool stops_at_lock;
static sem_t at_lock, go_on;

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    if (stops_at_lock) {
        stops_at_lock = false;
        sem_post(&at_lock);
        while (sem_wait(&go_on) < 0)
            continue;
    }
    return __real_pthread_mutex_lock(mutex);
}

static void *spawn_behind_a_lock(void *bus)
{
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    pid_t pid;
    stops_at_lock = true;
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), -ESHUTDOWN);
    return NULL;
}

static void *start_behind_a_lock(void *bus)
{
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_WATCHED};
    struct exitbus_reaper *reaper;
    stops_at_lock = true;
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -ESHUTDOWN);
    return NULL;
}

/* The call has begun, so the bus is there until it ends. */
TEST(reaper_edges, destroy_before_a_call_has_its_lock)
{
    void *(*const calls[])(void *) = {spawn_behind_a_lock, start_behind_a_lock};
    sem_init(&at_lock, 0, 0);
    sem_init(&go_on, 0, 0);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct exitbus *bus = bus_new();
        pthread_t thread = thread_start(calls[i], bus);
        while (sem_wait(&at_lock) < 0)
            continue;
        check_ok(exitbus_destroy(bus));
        sem_post(&go_on);
        must_equal(pthread_join(thread, NULL), 0);
    }
    check(!has_a_child());
}

/* ---------------------------------------------------------------------------- descriptors */

/* The host closes all descriptors from 3 on: stop, destroy and poll say so, and end. */
static void close_ours(void)
{
    must_equal(syscall(SYS_close_range, 3, ~0U, 0), 0);
}

/* The same, of a reaper whose thread is asleep: it learns of the close by nothing. */
static void close_ours_asleep(void)
{
    await(thread_is_in("exitbus-reaper", SYS_epoll_pwait));
    close_ours();
}

#ifndef __SANITIZE_THREAD__

static void closed_under_watched(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(bus, "p", &own);
    close_ours_asleep();
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    pid_t second;
    must_equal(exitbus_spawn(bus, &options, &second, NULL), -EBADF);
    must_equal(exitbus_reaper_stop(reaper), -EBADF);
    /* Its children are the implicit reaper's now, which begins with descriptors of its own. */
    kill(pid, SIGKILL);
    must_equal(receive_pid(own, pid).pid, pid);
    must_equal(exitbus_unsubscribe(own), 0);
    must_equal(exitbus_destroy(bus), 0);
}

static void closed_under_implicit(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *own, *next;
    pid_t pid = spawn_tiny(bus, "p", &own);
    close_ours_asleep();
    pid_t second = spawn_tiny(bus, "4", &next); /* begins anew */
    must_equal(receive_pid(next, second).exit_code, 4);
    kill(pid, SIGKILL);
    must_equal(receive_pid(own, pid).pid, pid);
    must_equal(exitbus_unsubscribe(own), 0);
    must_equal(exitbus_unsubscribe(next), 0);
    must_equal(exitbus_destroy(bus), 0);
}

#endif

static void closed_under_destroy(void)
{
    struct exitbus *bus = bus_new();
    pid_t pid = spawn_tiny(bus, "p", NULL);
    close_ours_asleep();
    must_equal(exitbus_destroy(bus), -EBADF);
    kill(pid, SIGKILL);
}

static void closed_under_polled(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    close_ours();
    must_equal(exitbus_reaper_poll(reaper), -EBADF);
    must_equal(exitbus_reaper_stop(reaper), -EBADF);
    must_equal(exitbus_destroy(bus), 0);
}

static void closed_under_all(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    close_ours_asleep();
    must_equal(exitbus_reaper_stop(reaper), -EBADF);
    must_equal(exitbus_destroy(bus), 0);
}

/* The numbers that the host closed are its own files by now. */
static void reused_under_destroy(void)
{
    struct exitbus *bus = bus_new();
    pid_t pid = spawn_tiny(bus, "p", NULL);
    close_ours_asleep();
    for (int i = 0; i < 16; i++)
        must(open("/dev/null", O_RDWR | O_CLOEXEC) >= 3);
    int result = exitbus_destroy(bus);
    kill(pid, SIGKILL);
#ifdef __SANITIZE_THREAD__ /* which cuts sleeps into slices, so the thread sees the close: sys.c   \
                            */
    must(result == 0 || result == -EBADF);
#else
    must_equal(result, -EBADF);
#endif
}

/* With our descriptors at the lowest numbers, new ones get those of the ones that were closed. */
static void (*lowest_body)(void);
static void at_the_lowest_numbers(void)
{
    close_ours();
    lowest_body();
}

/*
 * Under ThreadSanitizer the old reaper's thread comes back after each slice of its sleep, to a
 * number that may be the next reaper's by then, and takes a name from it. So there is no next one.
 */
static void (*const closed_under[])(void) = {
    reused_under_destroy, closed_under_destroy,  closed_under_polled, closed_under_all,
#ifndef __SANITIZE_THREAD__
    closed_under_watched, closed_under_implicit,
#endif
};

TEST(reaper_edges, host_closes_all_from_the_lowest)
{
    for (size_t i = 0; i < sizeof closed_under / sizeof closed_under[0]; i++) {
        lowest_body = closed_under[i];
        check_equal(in_a_child(at_the_lowest_numbers), 0);
    }
}

TEST(reaper_edges, host_closes_all)
{
    for (size_t i = 0; i < sizeof closed_under / sizeof closed_under[0]; i++)
        check_equal(in_a_child(closed_under[i]), 0);
}

/* A pidfd of ours is closed by somebody: whoever looks at that child next finds it by its pid. */
TEST(reaper_edges, pidfd_closed)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    pid_t pid = spawn_tiny(bus, "p", NULL);
    int pidfd = find_pidfd(pid);
    must(pidfd >= 3);
    close(pidfd);
    int pipe_on_it[2];
    must_equal(pipe(pipe_on_it), 0); /* the number is another's now */
    kill(pid, SIGKILL);
    await(is_zombie(pid));
    check_ok(exitbus_reaper_stop(reaper)); /* the implicit reaper looks at every child */
    check_equal(receive_pid(all, pid).exit_code, 128 + SIGKILL);
    await(no_children());
    check(fcntl(pipe_on_it[0], F_GETFD) >= 0 && fcntl(pipe_on_it[1], F_GETFD) >= 0);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* One of two watches of a child has lost its pidfd, or both: neither holds up the other. */
TEST(reaper_edges, pidfd_closed_of_two)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    for (int which = 1; which <= 3; which++) {
        struct child child = child_fork(3);
        for (int i = 0; i < 2; i++)
            check_ok(exitbus_reaper_watch(reaper, child.pid));
        int first = find_pidfd(child.pid), second = find_pidfd_from(first + 1, child.pid);
        must(first >= 3 && second > first);
        if (which & 1)
            close(first);
        if (which & 2)
            close(second);
        child_end(child);
        await(is_zombie(child.pid));
        if (which == 3) /* nothing names it any more, but a third watch */
            check_ok(exitbus_reaper_watch(reaper, child.pid));
        check_equal(exitbus_reaper_poll(reaper), 1);
        check_equal(receive_pid(all, child.pid).exit_code, 3);
        check_equal(exitbus_reaper_poll(reaper), 0);
        check_equal(exitbus_subscription_pending(all), 0);
        check(is_gone(child.pid));
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* The number of a pidfd is that of another child, alive. An ALL reaper goes on to the zombie. */
TEST(reaper_edges, pidfd_is_of_another)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
    pid_t pid = spawn_tiny(bus, "p", NULL), other = spawn_tiny(bus, "p", NULL);
    must(dup2(find_pidfd(other), find_pidfd(pid)) >= 3);
    kill(pid, SIGKILL);
    await(is_zombie(pid));
    check_equal(exitbus_reaper_poll(reaper), 1);
    check_equal(receive_pid(all, pid).exit_code, 128 + SIGKILL);
    check_equal(exitbus_reaper_poll(reaper), 0);
    check_equal(exitbus_subscription_pending(all), 0);
    kill(other, SIGKILL);
    await(is_zombie(other));
    while (exitbus_subscription_pending(all) == 0)
        check(exitbus_reaper_poll(reaper) >= 0);
    check_equal(receive_pid(all, other).exit_code, 128 + SIGKILL);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* Started with 0, 1 and 2 closed: none of the library's descriptors lands there. */
static void run_without_stdio(void)
{
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    static const enum exitbus_reaper_mode modes[] = {EXITBUS_REAPER_ALL, EXITBUS_REAPER_WATCHED};
    for (int i = 0; i < 4; i++) {
        struct exitbus *bus = bus_new();
        struct exitbus_reaper *reaper =
            reaper_of(bus, modes[i % 2], i < 2 ? 0 : EXITBUS_REAPER_POLLED);
        struct exitbus_subscription *own, *all = subscribe(bus, exitbus_topic_all());
        must(exitbus_subscription_fd(all) >= 3);
        pid_t pid = spawn_tiny(bus, "p", &own);
        for (int fd = 0; fd < 3; fd++)
            must(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
        int null = open("/dev/null", O_RDWR); /* what a daemon does next */
        for (int fd = 0; fd < 3; fd++)
            must(null == fd ? true : dup2(null, fd) == fd);
        kill(pid, SIGKILL);
        while (i >= 2 && exitbus_subscription_pending(own) == 0)
            must(exitbus_reaper_poll(reaper) >= 0);
        must_equal(receive_pid(own, pid).exit_code, 128 + SIGKILL);
        for (int fd = 0; fd < 3; fd++)
            close(fd);
        must_equal(exitbus_unsubscribe(own), 0);
        must_equal(exitbus_unsubscribe(all), 0);
        must_equal(exitbus_reaper_stop(reaper), 0);
        must_equal(exitbus_destroy(bus), 0);
    }
}

TEST(reaper_edges, stdio_closed_at_start)
{
    check_equal(in_a_child(run_without_stdio), 0);
}

/* ------------------------------------------------------------------------- refused later on */

/*
 * A filter is put on after the start, over all threads, one call after the other: every call of the
 * library still returns, and a stop ends.
 */
static long refused_number;
static int refused_error;

static void run_refused(void)
{
    struct exitbus *bus = bus_new();
    static const enum exitbus_reaper_mode modes[] = {EXITBUS_REAPER_ALL, EXITBUS_REAPER_WATCHED};
    struct exitbus_reaper *reaper = reaper_of(bus, modes[refused_error % 2], 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    refuse_call_everywhere(refused_number, refused_error);
    struct exitbus_event event;
    pid_t pid;
    char *argv[] = {TINY_CHILD, "3", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    int spawned = exitbus_spawn(bus, &options, &pid, NULL);
    int result = exitbus_receive(all, &event, 50000000);
    must(result == 0 || result == -ETIMEDOUT);
    must(spawned == 0 || result == -ETIMEDOUT);
    must_equal(exitbus_unsubscribe(all), 0);
    exitbus_reaper_stop(reaper);
    exitbus_destroy(bus);
}

TEST(reaper_edges, sandbox_later)
{
    static const long numbers[] = {SYS_waitid,     SYS_epoll_pwait,   SYS_epoll_ctl,
                                   SYS_pidfd_open, SYS_eventfd2,      SYS_timerfd_settime,
                                   SYS_membarrier, SYS_rt_sigprocmask};
    static const int errors[] = {EPERM, ENOSYS, EINTR};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
            refused_number = numbers[i];
            refused_error = errors[e];
            check_equal(in_a_child(run_refused), 0);
        }
}

/* --------------------------------------------------------------------------- the reaper's thread
 */

static pid_t thread_named(const char *name)
{
    pid_t found = 0;
    DIR *tasks = opendir("/proc/self/task");
    must(tasks != NULL);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[300], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(comm, sizeof comm, file) && strcmp(comm, name) == 0)
            found = (pid_t)atoi(entry->d_name);
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return found;
}

static void *spawn_when_idle(void *bus)
{
    struct sched_param none = {0};
    must_equal(syscall(SYS_sched_setscheduler, 0, SCHED_IDLE, &none), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    must_equal(sched_setaffinity(0, sizeof one, &one), 0);
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(bus, "0", &own);
    receive_pid(own, pid);
    must_equal(exitbus_unsubscribe(own), 0);
    return NULL;
}

/* The thread that happens to spawn first leaves nothing of its scheduling to the bus's reaper. */
TEST(reaper_edges, scheduling_inherited)
{
    struct exitbus *bus = bus_new();
    thread_join(thread_start(spawn_when_idle, bus));
    pid_t reaper = thread_named("exitbus-reaper\n");
    must(reaper > 0);
    check_equal(syscall(SYS_sched_getscheduler, reaper), SCHED_OTHER);
    cpu_set_t process, thread;
    must_equal(sched_getaffinity(getpid(), sizeof process, &process), 0);
    must_equal(sched_getaffinity(reaper, sizeof thread, &thread), 0);
    check(CPU_EQUAL(&process, &thread));
    check_ok(exitbus_destroy(bus));
}
