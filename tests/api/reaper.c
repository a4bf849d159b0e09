/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reapers: modes, the SIGCHLD handler, what is an exit and what is not, and failing publishes. */
#include "support/children.h"
#include "support/harness.h"
#include "support/starve.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>

static void end_bus(struct exitbus *bus, struct exitbus_reaper *reaper,
                    struct exitbus_subscription *subscription)
{
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper, codes_and_signals)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    for (int code = 0; code < 256; code++) {
        char text[12];
        snprintf(text, sizeof text, "%d", code);
        struct exitbus_event event = receive_pid(all, spawn_tiny(bus, text, NULL));
        check_equal(event.exit_code, code);
        check(WIFEXITED(event.status) && WEXITSTATUS(event.status) == code);
        check(event.monotonic_ns > 0 && event.realtime_ns > event.monotonic_ns);
    }
    static const int signals[] = {SIGKILL, SIGTERM, SIGHUP, SIGPIPE, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        char text[12];
        snprintf(text, sizeof text, "k%d", signals[i]);
        struct exitbus_event event = receive_pid(all, spawn_tiny(bus, text, NULL));
        check_equal(event.exit_code, 128 + signals[i]);
        check(WIFSIGNALED(event.status) && WTERMSIG(event.status) == signals[i]);
    }
    await(no_children());
    end_bus(bus, reaper, all);
}

static void burn(void)
{
    struct rusage usage;
    volatile char *memory = malloc(8 << 20);
    for (size_t i = 0; i < 8 << 20; i += 4096)
        memory[i] = 1;
    do
        getrusage(RUSAGE_SELF, &usage);
    while (usage.ru_utime.tv_sec == 0 && usage.ru_utime.tv_usec < 20000);
}

TEST(reaper, resource_usage)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    pid_t pid = fork();
    if (pid == 0) {
        burn();
        _exit(0);
    }
    struct exitbus_event event = receive_pid(all, pid);
    check(event.user_us >= 20000);
    check(event.max_rss_kib >= 8 << 10);
    end_bus(bus, reaper, all);
}

/* A child that stops and goes on has not exited. */
TEST(reaper, stopped_and_continued)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(bus, "p", &own);
    siginfo_t info;
    for (int i = 0; i < 3; i++) {
        kill(pid, SIGSTOP);
        check_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED), 0);
        kill(pid, SIGCONT);
        check_equal(waitid(P_PID, (id_t)pid, &info, WCONTINUED), 0);
    }
    kill(pid, SIGKILL);
    check_equal(receive_pid(own, pid).exit_code, 128 + SIGKILL);
    check_equal(exitbus_subscription_pending(all), 1);
    check_ok(exitbus_unsubscribe(own));
    end_bus(bus, reaper, all);
}

/* Zombies from before the start are collected by ALL, and left alone by WATCHED. */
TEST(reaper, zombies_from_before)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct child child = child_fork(3);
    child_end(child);
    await(is_zombie(child.pid));
    struct exitbus_reaper *watching = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_subscription *own;
    pid_t spawned = spawn_tiny(bus, "0", &own);
    check_equal(receive_pid(own, spawned).exit_code, 0);
    check_ok(exitbus_unsubscribe(own));
    check(is_zombie(child.pid));
    check_ok(exitbus_reaper_stop(watching));
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    check_equal(receive_pid(all, child.pid).exit_code, 3);
    await(no_children());
    end_bus(bus, reaper, all);
}

static void *fork_here(void *out)
{
    *(struct child *)out = child_fork(4);
    return NULL;
}

/* Children of any thread of the process, also of one that has ended. */
TEST(reaper, children_of_other_threads)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct child child;
    thread_join(thread_start(fork_here, &child));
    child_end(child);
    check_equal(receive_pid(all, child.pid).exit_code, 4);
    end_bus(bus, reaper, all);
}

/* ------------------------------------------------------------------------------------- SIGCHLD */

static _Atomic int handled;
static _Atomic int handled_pid;

static void plain_handler(int signal)
{
    (void)signal;
    atomic_fetch_add(&handled, 1);
}

static void info_handler(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    atomic_store(&handled_pid, info->si_pid);
    atomic_fetch_add(&handled, 1);
}

static void with_handler(const struct sigaction *mine)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct sigaction now;
    sigaction(SIGCHLD, mine, NULL);
    for (uint32_t flags = 0; flags <= EXITBUS_REAPER_POLLED; flags += EXITBUS_REAPER_POLLED) {
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, flags);
        int before = atomic_load(&handled);
        struct child child = child_fork(8);
        child_end(child);
        await(atomic_load(&handled) > before);
        while (flags && exitbus_subscription_pending(all) == 0)
            check_ok(exitbus_reaper_poll(reaper));
        check_equal(receive_pid(all, child.pid).exit_code, 8);
        check_ok(exitbus_reaper_stop(reaper));
        sigaction(SIGCHLD, NULL, &now);
        check(now.sa_sigaction == mine->sa_sigaction);
        check_equal(now.sa_flags & SA_SIGINFO, mine->sa_flags & SA_SIGINFO);
        /* A thread of the host that did not run in time gets the signal from the reaper's thread,
         * with our own pid: si_code SI_TKILL. */
        if (mine->sa_flags & SA_SIGINFO && atomic_load(&handled_pid) != getpid())
            check_equal(atomic_load(&handled_pid), child.pid);
    }
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper, existing_handler)
{
    struct sigaction plain = {.sa_handler = plain_handler, .sa_flags = SA_RESTART};
    struct sigaction info = {.sa_sigaction = info_handler, .sa_flags = SA_SIGINFO | SA_NOCLDSTOP};
    with_handler(&plain);
    with_handler(&info);
}

static struct sigaction ours_below;

static void chaining_handler(int signal, siginfo_t *info, void *context)
{
    atomic_fetch_add(&handled, 1);
    if (ours_below.sa_flags & SA_SIGINFO)
        ours_below.sa_sigaction(signal, info, context);
}

/* Somebody puts a handler over ours, which calls ours; stop leaves theirs, and a new start works.
 */
TEST(reaper, handler_put_over_ours)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct sigaction theirs = {.sa_sigaction = chaining_handler, .sa_flags = SA_SIGINFO};
    for (int i = 0; i < 3; i++) {
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
        if (i == 0)
            sigaction(SIGCHLD, &theirs, &ours_below);
        int before = atomic_load(&handled);
        struct child child = child_fork(i);
        child_end(child);
        check_equal(receive_pid(all, child.pid).exit_code, i);
        await(atomic_load(&handled) > before);
        check_ok(exitbus_reaper_stop(reaper));
        struct sigaction now;
        sigaction(SIGCHLD, NULL, &now);
        check(now.sa_sigaction == chaining_handler);
    }
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper, handler_restored_to_default)
{
    struct exitbus *bus = bus_new();
    struct sigaction now;
    check_ok(exitbus_reaper_stop(reaper_of(bus, EXITBUS_REAPER_ALL, 0)));
    sigaction(SIGCHLD, NULL, &now);
    check(now.sa_handler == SIG_DFL);
    check_ok(exitbus_destroy(bus));
}

/* ---------------------------------------------------------------------------- who may, and when */

TEST(reaper, one_of_all)
{
    struct exitbus *bus = bus_new(), *other = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0), *second = NULL;
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL};
    struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    check_equal(exitbus_reaper_start(bus, &all, &second), -EBUSY);
    check_equal(exitbus_reaper_start(other, &all, &second), -EBUSY);
    check_equal(exitbus_reaper_start(other, &watched, &second), -EBUSY);
    check(!second);
    check_equal(exitbus_destroy(bus), -EBUSY);
    check_equal(exitbus_reaper_watch(reaper, getpid()), -ENOTSUP);
    check_equal(exitbus_reaper_fd(reaper), -ENOTSUP);
    check_equal(exitbus_reaper_poll(reaper), -ENOTSUP);
    check_ok(exitbus_reaper_stop(reaper));
    reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    second = reaper_of(other, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_reaper *third = NULL;
    check_equal(exitbus_reaper_start(bus, &all, &third), -EBUSY);
    check_ok(exitbus_reaper_stop(second));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(other));
    check_ok(exitbus_destroy(bus));
}

TEST(reaper, bad_input)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = NULL;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL};
    check_equal(exitbus_reaper_start(NULL, &options, &reaper), -EINVAL);
    check_equal(exitbus_reaper_start(bus, NULL, &reaper), -EINVAL);
    check_equal(exitbus_reaper_start(bus, &options, NULL), -EINVAL);
    options.mode = 0;
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -EINVAL);
    options = (struct exitbus_reaper_options){.mode = EXITBUS_REAPER_ALL, .flags = 0x40};
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -EINVAL);
    options = (struct exitbus_reaper_options){.mode = EXITBUS_REAPER_WATCHED,
                                              .flags = EXITBUS_REAPER_SUBREAPER};
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -EINVAL);
    check_equal(exitbus_reaper_watch(NULL, 1), -EINVAL);
    check_equal(exitbus_reaper_fd(NULL), -EINVAL);
    check_equal(exitbus_reaper_poll(NULL), -EINVAL);
    check_equal(exitbus_reaper_stop(NULL), 0);
    check(!reaper);
    check_ok(exitbus_destroy(bus));
}

TEST(reaper, watch)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    check_equal(exitbus_reaper_watch(reaper, getppid()), -ECHILD);
    check_equal(exitbus_reaper_watch(reaper, getpid()), -ECHILD);
    check_equal(exitbus_reaper_watch(reaper, 0), -EINVAL);
    struct child child = child_fork(2);
    for (int i = 0; i < 5; i++)
        check_ok(exitbus_reaper_watch(reaper, child.pid));
    child_end(child);
    check_equal(receive_pid(all, child.pid).exit_code, 2);
    await(is_gone(child.pid));
    check_equal(exitbus_reaper_watch(reaper, child.pid), -ECHILD);
    check_equal(exitbus_subscription_pending(all), 0); /* once, for five watches */
    end_bus(bus, reaper, all);
}

TEST(reaper, out_of_descriptors)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct child child = child_fork(1);
    struct rlimit limit, none = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    none.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none);
    char *argv[] = {TINY_CHILD, NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_reaper *second = NULL;
    struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    pid_t pid = -7;
    check_equal(exitbus_reaper_watch(reaper, child.pid), -EMFILE);
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), -EMFILE);
    check_equal(exitbus_subscription_fd(all), -EMFILE);
    check_equal(exitbus_reaper_start(bus, &watched, &second), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    check(pid == -7 && !second);
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    check_ok(exitbus_subscription_fd(all));
    child_end(child);
    check_equal(receive_pid(all, child.pid).exit_code, 1);
    end_bus(bus, reaper, all);
}

/* ----------------------------------------------------------------------------- failing publishes
 */

static void stays_a_zombie(enum exitbus_reaper_mode mode, uint32_t flags)
{
    struct exitbus *bus = bus_that_starves();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_reaper *reaper = reaper_of(bus, mode, flags);
    struct child child = child_fork(66);
    if (mode == EXITBUS_REAPER_WATCHED)
        check_ok(exitbus_reaper_watch(reaper, child.pid));
    uint64_t filled = starve(bus);
    child_end(child);
    await(is_zombie(child.pid));
    struct pollfd fd = {flags ? exitbus_reaper_fd(reaper) : -1, POLLIN, 0};
    for (int i = 0; i < 5; i++) { /* the reaper tries, and tries again */
        poll(&fd, 1, 30);
        if (flags)
            exitbus_reaper_poll(reaper);
        check(is_zombie(child.pid));
        check_equal(exitbus_publish_pid(bus, 1, 0), -ENOMEM);
    }
    atomic_store(&no_memory, false);
    while (!is_gone(child.pid)) {
        poll(&fd, 1, 30);
        if (flags)
            check_ok(exitbus_reaper_poll(reaper));
    }
    struct exitbus_event event;
    for (uint64_t i = 0; i < filled; i++) {
        check_ok(exitbus_receive(all, &event, 0));
        check_equal(event.pid, 1);
        check_equal(event.seq, i + 1);
    }
    check_ok(exitbus_receive(all, &event, 0));
    check_equal(event.pid, child.pid);
    check_equal(event.exit_code, 66);
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    end_bus(bus, reaper, all);
}

/* An exit that can't be published stays with the kernel, and comes later, once. */
TEST(reaper, no_memory_all)
{
    stays_a_zombie(EXITBUS_REAPER_ALL, 0);
}

TEST(reaper, no_memory_all_polled)
{
    stays_a_zombie(EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
}

TEST(reaper, no_memory_watched)
{
    stays_a_zombie(EXITBUS_REAPER_WATCHED, 0);
}

TEST(reaper, no_memory_watched_polled)
{
    stays_a_zombie(EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
}
