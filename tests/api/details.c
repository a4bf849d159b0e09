/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Details of exits: what a reaper reads of a zombie is that process's, travels with the event, and
 * is left out where it can't be had. An exit comes all the same.
 */
#include "base/sys.h"
#include "support/children.h"
#include "support/harness.h"
#include "support/refuse.h"

#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define TICK_NS 10000000
#define NAME "a) Z 1 (\n2 3"

static ino_t inode_of(int fd)
{
    struct stat status;
    must_equal(fstat(fd, &status), 0);
    return status.st_ino;
}

/* A child with a name that /proc does not make easy to read. */
static struct child child_named(int code)
{
    int fds[2];
    must_equal(pipe(fds), 0);
    struct child child = {fork(), fds[1]};
    if (child.pid == 0) {
        char byte;
        close(fds[1]);
        prctl(PR_SET_NAME, NAME);
        ssize_t got = read(fds[0], &byte, 1);
        _exit(got >= 0 ? code : 255);
    }
    must(child.pid > 0);
    close(fds[0]);
    return child;
}

static struct exitbus_event receive_next(struct exitbus_subscription *all,
                                         struct exitbus_reaper *polled)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(all, &event, polled ? 0 : -1)) == -EAGAIN)
        must(exitbus_reaper_poll(polled) >= 0);
    must_equal(result, 0);
    return event;
}

static bool has_details(const struct exitbus_event *event)
{
    struct exitbus_event_details details;
    int result = exitbus_event_details(event, &details);
    must(result == 0 || result == -ENODATA);
    must_equal(result == 0, (event->flags & EXITBUS_EVENT_DETAILS) != 0);
    return result == 0;
}

static void end(struct exitbus *bus, struct exitbus_reaper *reaper,
                struct exitbus_subscription *subscription)
{
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* The details are those that the process had; what was told without them is the same. */
static void told_by(enum exitbus_reaper_mode mode, uint32_t flags)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, mode, flags | EXITBUS_REAPER_DETAILS);
    uint64_t before = (uint64_t)sys_clock_ns(CLOCK_BOOTTIME);
    struct child child = child_named(7);
    int pidfd = (int)syscall(SYS_pidfd_open, child.pid, 0), self;
    uint64_t after = (uint64_t)sys_clock_ns(CLOCK_BOOTTIME);
    must(pidfd >= 0);
    must((self = (int)syscall(SYS_pidfd_open, getpid(), 0)) >= 0);
    if (mode == EXITBUS_REAPER_WATCHED)
        check_ok(exitbus_reaper_watch(reaper, child.pid));
    child_end(child);
    struct exitbus_event event = receive_next(all, flags & EXITBUS_REAPER_POLLED ? reaper : NULL);
    struct exitbus_event_details details;
    check_ok(exitbus_event_details(&event, &details));
    check_equal(event.pid, child.pid);
    check_equal(event.exit_code, 7);
    check_equal(event.flags, EXITBUS_EVENT_DETAILS);
    check_equal(event.container_id_size + event.exec_id_size, 0);
    check(event.container_id[0] == '\0' && event.exec_id[0] == '\0');
    check(details.start_ns + TICK_NS >= before && details.start_ns <= after + TICK_NS);
    check(strcmp(details.comm, NAME) == 0);
    for (size_t i = 0; i < sizeof details.reserved / sizeof *details.reserved; i++)
        check_equal(details.reserved[i], 0);
    check(details.inode == (inode_of(pidfd) == inode_of(self) ? 0 : inode_of(pidfd)));
    close(pidfd);
    close(self);
    end(bus, reaper, all);
}

TEST(details, of_a_watched_child)
{
    told_by(EXITBUS_REAPER_WATCHED, 0);
    told_by(EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
}

TEST(details, of_a_child_without_a_watch)
{
    told_by(EXITBUS_REAPER_ALL, 0);
    told_by(EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
}

TEST(details, only_where_they_are_asked_for)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_event event;
    spawn_tiny(bus, "0", NULL); /* the bus's own reaper */
    check_ok(exitbus_receive(all, &event, -1));
    check(!has_details(&event));
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    spawn_tiny(bus, "0", NULL);
    check_ok(exitbus_receive(all, &event, -1));
    check(!has_details(&event));
    check_ok(exitbus_reaper_stop(reaper));
    reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_DETAILS);
    spawn_tiny(bus, "0", NULL);
    check_ok(exitbus_receive(all, &event, -1));
    check(has_details(&event));
    end(bus, reaper, all);
}

/* A handle says what it says without them; but it knows its start time, though nobody has asked. */
TEST(details, handles_keep_the_start_time)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_DETAILS);
    char *argv[] = {TINY_CHILD, "3", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    struct exitbus_process *process;
    struct exitbus_event event, kept;
    struct exitbus_event_details details;
    uint64_t start_ns;
    check_ok(exitbus_process_spawn(bus, &options, &process));
    check_ok(exitbus_receive(all, &event, -1));
    check_ok(exitbus_event_details(&event, &details));
    check_ok(exitbus_process_wait(process, &kept, -1));
    check(!has_details(&kept));
    check_equal(kept.exit_code, 3);
    check(kept.seq == event.seq && kept.monotonic_ns == event.monotonic_ns);
    check_ok(exitbus_process_start_time(process, &start_ns));
    check(start_ns == details.start_ns);
    check_ok(exitbus_process_unref(process));
    options.flags = EXITBUS_SPAWN_DIRECT;
    check_ok(exitbus_process_spawn(bus, &options, &process));
    check_ok(exitbus_process_wait(process, &kept, -1)); /* this thread collects it */
    check(!has_details(&kept));
    check_ok(exitbus_receive(all, &event, -1));
    check(!has_details(&event));
    check_ok(exitbus_process_unref(process));
    end(bus, reaper, all);
}

/* The events of names are about names. */
TEST(details, execs_have_none)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_container("c"));
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_DETAILS);
    struct exitbus_task *task;
    struct exitbus_exec *exec;
    struct exitbus_event event;
    check_ok(exitbus_task_create(bus, "c", NULL, &task));
    check_ok(exitbus_exec_reserve(task, "e", &exec));
    check_ok(exitbus_exec_started(exec, spawn_tiny(bus, "4", NULL), -1));
    check_ok(exitbus_receive(all, &event, -1));
    check_equal(event.kind, EXITBUS_EVENT_STARTED);
    check_ok(exitbus_receive(all, &event, -1));
    check_equal(event.kind, EXITBUS_EVENT_EXEC);
    check_equal(event.exit_code, 4);
    check(!has_details(&event));
    check(strcmp(event.container_id, "c") == 0 && strcmp(event.exec_id, "e") == 0);
    check_ok(exitbus_exec_wait(exec, &event, -1));
    check(!has_details(&event));
    check_ok(exitbus_exec_unref(exec));
    check_ok(exitbus_task_unref(task));
    end(bus, reaper, all);
}

/* ------------------------------------------------------------------------- where they can't be had
 */

/* A process whose /proc is another pid namespace's. */
static void in_anothers_proc(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_DETAILS);
    struct child child = child_fork(5);
    child_end(child);
    struct exitbus_event event = receive_next(all, NULL);
    must_equal(event.pid, child.pid);
    must_equal(event.exit_code, 5);
    must(!has_details(&event));
    must_equal(exitbus_unsubscribe(all), 0);
    must_equal(exitbus_reaper_stop(reaper), 0);
    must_equal(exitbus_destroy(bus), 0);
}

TEST(details, not_from_another_namespaces_proc)
{
    in_a_namespace(in_anothers_proc);
}

TEST(details, no_descriptor_is_free)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_DETAILS);
    struct child second = child_fork(7),
                 first = child_fork(6); /* which has the gate of the other */
    struct rlimit limit, none = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    none.rlim_max = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none);
    child_end(first);
    struct exitbus_event event = receive_next(all, NULL);
    setrlimit(RLIMIT_NOFILE, &limit);
    check_equal(event.pid, first.pid);
    check_equal(event.exit_code, 6);
    check(!has_details(&event));
    child_end(second);
    event = receive_next(all, NULL);
    check_equal(event.pid, second.pid);
    check(has_details(&event));
    end(bus, reaper, all);
}

static _Atomic pid_t loot;
static _Atomic long loot_at; /* the system call before which another waiter takes the child */

static int steal(long number)
{
    pid_t pid = number == atomic_load(&loot_at) ? atomic_exchange(&loot, 0) : 0;
    if (pid > 0)
        must_equal(waitpid(pid, NULL, 0), pid);
    return 0;
}

/* Another waiter is first: what was read may be of another process, which has that pid by now. */
TEST(details, child_taken_by_another_waiter)
{
    static const long calls[] = {SYS_readlinkat, SYS_openat, SYS_pidfd_open, SYS_statx};
    static const enum exitbus_reaper_mode modes[] = {EXITBUS_REAPER_ALL, EXITBUS_REAPER_WATCHED};
    __atomic_store_n(&exitbus_test_syscall, steal, __ATOMIC_RELEASE);
    for (size_t i = 0; i < 2 * sizeof calls / sizeof *calls; i++) {
        enum exitbus_reaper_mode mode = modes[i % 2];
        if (mode == EXITBUS_REAPER_WATCHED && calls[i / 2] == SYS_pidfd_open)
            continue; /* it has one */
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
        struct exitbus_reaper *reaper =
            reaper_of(bus, mode, EXITBUS_REAPER_POLLED | EXITBUS_REAPER_DETAILS);
        struct child child = child_fork(8);
        if (mode == EXITBUS_REAPER_WATCHED)
            check_ok(exitbus_reaper_watch(reaper, child.pid));
        child_end(child);
        await(is_zombie(child.pid));
        atomic_store(&loot_at, calls[i / 2]);
        atomic_store(&loot, child.pid);
        struct exitbus_event event = receive_next(all, reaper);
        check_equal(atomic_load(&loot), 0);
        check_equal(event.pid, child.pid);
        check_equal(event.exit_code, 8); /* which the look had told */
        check(!has_details(&event));
        check_equal(exitbus_subscription_pending(all), 0);
        end(bus, reaper, all);
    }
}

/* ----------------------------------------------------------------------------- given to publish */

static struct exitbus_event event_with_details(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_DETAILS);
    spawn_tiny(bus, "9", NULL);
    struct exitbus_event event = receive_next(all, NULL);
    must(has_details(&event));
    end(bus, reaper, all);
    return event;
}

/* An event that was received goes on with its details, alone and in a batch, by every queue. */
TEST(details, published_again)
{
    const struct exitbus_event given = event_with_details();
    struct exitbus *bus = bus_new();
    const struct exitbus_topic topics[] = {exitbus_topic_all(), exitbus_topic_any_pid(),
                                           exitbus_topic_pid(given.pid)};
    struct exitbus_subscription *subscriptions[3];
    for (int i = 0; i < 3; i++)
        subscriptions[i] = subscribe(bus, topics[i]);
    struct exitbus_event batch[] = {pid_event(given.pid), given, pid_event(given.pid)};
    for (int round = 0; round < 100; round++) {
        check_ok(exitbus_publish_batch(bus, batch, 3, NULL));
        check_ok(exitbus_publish(bus, &given, NULL));
    }
    for (int i = 0; i < 3; i++) {
        for (int at = 0; at < 400; at++) {
            struct exitbus_event event;
            check_ok(exitbus_receive(subscriptions[i], &event, 0));
            check_equal(has_details(&event), at % 2);
            if (at % 2 == 0)
                continue;
            struct exitbus_event_details mine, others;
            check_ok(exitbus_event_details(&event, &mine));
            check_ok(exitbus_event_details(&given, &others));
            check(memcmp(&mine, &others, sizeof mine) == 0);
            check_equal(event.exit_code, 9);
        }
        check_ok(exitbus_unsubscribe(subscriptions[i]));
    }
    check_ok(exitbus_destroy(bus));
}

static void is_refused(struct exitbus *bus, const struct exitbus_event *event)
{
    struct exitbus_event batch[] = {pid_event(1), *event};
    check_equal(exitbus_publish(bus, event, NULL), -EINVAL);
    check_equal(exitbus_publish_batch(bus, batch, 2, NULL), -EINVAL);
}

TEST(details, bad_ones_are_refused)
{
    const struct exitbus_event given = event_with_details();
    struct exitbus *bus = bus_new();
    struct exitbus_event event = pid_event(1);
    struct exitbus_event_details details;
    event.flags = EXITBUS_EVENT_DETAILS; /* there are none */
    is_refused(bus, &event);
    event = given;
    event.container_id[0] = 'x';
    is_refused(bus, &event);
    event = given;
    memset(event.container_id + 1, 0xff, sizeof event.container_id - 1);
    is_refused(bus, &event);
    event = given;
    event.flags |= 0x10;
    is_refused(bus, &event);
    event = given;
    event.pid = 0;
    is_refused(bus, &event);
    event = exec_event("c", "e");
    event.flags = EXITBUS_EVENT_DETAILS;
    is_refused(bus, &event);
    check_equal(stats_of(bus).published, 0);
    check_equal(exitbus_event_details(NULL, &details), -EINVAL);
    check_equal(exitbus_event_details(&given, NULL), -EINVAL);
    check_equal(exitbus_event_details(&event, &details), -ENODATA);
    check_ok(exitbus_destroy(bus));
}
