/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Groups that end: done means empty, whatever the members do; nobody else is hit; and the event
 * comes behind the exits.
 */
#include "base/sys.h"
#include "support/cgroups.h"
#include "support/children.h"
#include "support/harness.h"
#include "support/ways.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static struct exitbus_process *spawn_with(struct exitbus *bus, char *const *argv, uint32_t flags,
                                          int keep_open, int cgroup_fd)
{
    struct exitbus_spawn_action action = {
        .kind = EXITBUS_SPAWN_DUP2, .source_fd = keep_open, .fd = 7};
    struct exitbus_spawn_attributes attributes = {.set = EXITBUS_ATTRIBUTE_CGROUP,
                                                  .cgroup_fd = cgroup_fd};
    struct exitbus_spawn_options options = {
        .argv = argv,
        .flags = flags | (cgroup_fd >= 0 ? EXITBUS_SPAWN_ATTRIBUTES : 0),
        .attributes = &attributes,
        .actions = &action,
        .action_count = keep_open >= 0 ? 1 : 0};
    struct exitbus_process *process;
    check_ok(exitbus_process_spawn(bus, &options, &process));
    return process;
}

static struct exitbus_process *spawn_waiting(struct exitbus *bus)
{
    char *argv[] = {TINY_CHILD, "p", NULL};
    return spawn_with(bus, argv, 0, -1, -1);
}

/* A shell job, which has said that it is ready, and holds a pipe open as long as it has processes.
 */
static struct exitbus_process *spawn_job(struct exitbus *bus, const char *script, uint32_t flags,
                                         int cgroup_fd, int *pipe_end)
{
    int fds[2];
    check_ok(pipe2(fds, O_CLOEXEC));
    char *argv[] = {"/bin/sh", "-c", (char *)script, TINY_CHILD, NULL};
    struct exitbus_process *process = spawn_with(bus, argv, flags, fds[1], cgroup_fd);
    close(fds[1]);
    char byte;
    check_equal(read(fds[0], &byte, 1), 1);
    *pipe_end = fds[0];
    return process;
}

/* One process, which has no children that would be left. */
#define IGNORES_TERM "trap '' TERM; echo >&7; exec $0 p"

static void await_end_of_pipe(int fd)
{
    char byte;
    check_equal(read(fd, &byte, 1), 0);
    close(fd);
}

static struct exitbus_group *group_of(struct exitbus *bus, enum exitbus_group_kind kind,
                                      struct exitbus_process *leader, int cgroup_fd)
{
    struct exitbus_group_options options = {
        .kind = kind, .name = "job", .leader = leader, .cgroup_fd = cgroup_fd};
    struct exitbus_group *group;
    check_ok(exitbus_group_create(bus, &options, &group));
    return group;
}

static struct exitbus_event wait_for_end(struct exitbus_group *group)
{
    struct exitbus_event event;
    check_ok(exitbus_group_wait(group, &event, -1));
    check_equal(event.kind, EXITBUS_EVENT_EMPTY);
    check(strcmp(event.container_id, "job") == 0 && event.exec_id[0] == '\0');
    return event;
}

static bool has_ended(struct exitbus_process *process)
{
    struct exitbus_event event;
    return exitbus_process_wait(process, &event, 0) == 0;
}

/* ------------------------------------------------------------------------------------- a set */

TEST(group, set)
{
    enum { MEMBERS = 5 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    struct exitbus_process *members[MEMBERS], *other = spawn_waiting(bus);
    int pipe_end;
    members[0] = spawn_job(bus, IGNORES_TERM, 0, -1, &pipe_end);
    for (int i = 1; i < MEMBERS; i++)
        members[i] = spawn_waiting(bus);
    for (int i = 0; i < MEMBERS; i++)
        check_ok(exitbus_group_add(group, members[i]));
    check_ok(exitbus_group_add(group, members[1])); /* twice is once */
    struct exitbus_event event;
    check_equal(exitbus_group_wait(group, &event, 0), -EAGAIN);
    check_ok(exitbus_group_end(group, SIGTERM, 20000000));
    struct exitbus_event end = wait_for_end(group);
    uint64_t last = 0;
    for (int i = 0; i < MEMBERS; i++) {
        check_ok(exitbus_process_wait(members[i], &event, 0)); /* told before */
        check_equal(event.exit_code, 128 + (i == 0 ? SIGKILL : SIGTERM));
        last = event.seq > last ? event.seq : last;
        check_ok(exitbus_process_unref(members[i]));
    }
    check(end.seq > last);
    for (int i = 0; i < MEMBERS; i++)
        check_ok(exitbus_receive(all, &event, 0));
    check_ok(exitbus_receive(all, &event, 0));
    check_equal(event.kind, EXITBUS_EVENT_EMPTY);
    check_equal(event.seq, end.seq);
    check(strcmp(event.container_id, "job") == 0);
    check(!has_ended(other));
    check_equal(exitbus_group_add(group, other), -ESHUTDOWN);
    check_equal(wait_for_end(group).seq, end.seq); /* it stays */
    check(fd_readable(exitbus_group_fd(group)));
    check_ok(exitbus_process_signal(other, SIGKILL, 0));
    check_ok(exitbus_process_unref(other));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
    close(pipe_end);
}

TEST(group, set_without_members)
{
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    int fd = exitbus_group_fd(group);
    check(!fd_readable(fd));
    check_ok(exitbus_group_end(group, SIGTERM, -1));
    fd_wait(fd);
    wait_for_end(group);
    struct exitbus_process *late = spawn_waiting(bus);
    check_equal(exitbus_group_add(group, late), -ESHUTDOWN);
    check_ok(exitbus_process_signal(late, SIGKILL, 0));
    check_ok(exitbus_process_unref(late));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_destroy(bus));
}

/* Without a signal, and without an end to the grace: it only waits. */
TEST(group, watched_until_it_is_empty)
{
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    struct exitbus_process *member = spawn_waiting(bus);
    struct exitbus_event event;
    check_ok(exitbus_group_add(group, member));
    check_ok(exitbus_group_end(group, 0, -1));
    check_equal(exitbus_group_wait(group, &event, 1000000), -ETIMEDOUT);
    check(!has_ended(member));
    check_ok(exitbus_process_signal(member, SIGUSR1, 0));
    wait_for_end(group);
    check_ok(exitbus_process_unref(member));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_destroy(bus));
}

/* The earlier of two ends is the one that comes. */
TEST(group, ended_again)
{
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    int pipe_end;
    struct exitbus_process *member = spawn_job(bus, IGNORES_TERM, 0, -1, &pipe_end);
    check_ok(exitbus_group_add(group, member));
    check_ok(exitbus_group_end(group, SIGTERM, INT64_MAX));
    check_ok(exitbus_group_end(group, SIGTERM, 0));
    check_ok(exitbus_group_end(group, SIGTERM, INT64_MAX));
    wait_for_end(group);
    check(has_ended(member));
    check_ok(exitbus_process_unref(member));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_destroy(bus));
    close(pipe_end);
}

/* ------------------------------------------------------------------------- processes, cgroups */

static bool pidfds_name_groups(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    bool known = syscall(SYS_pidfd_send_signal, fd, 0, NULL, 1 << 2) == 0 || errno != EINVAL;
    close(fd);
    return known;
}

/* The leader has ended; a member ignores the first signal, and another one is stopped. */
TEST(group, process_group)
{
    struct exitbus *bus = bus_new();
    int pipe_end;
    struct exitbus_process *leader = spawn_job(
        bus,
        "(trap '' TERM; while :; do sleep 1000; done) & (kill -STOP $(exec sh -c 'echo $PPID'); "
        "sleep 1000) & sleep 0.01; echo >&7; exit 3",
        EXITBUS_SPAWN_SETSID, -1, &pipe_end);
    struct exitbus_group_options options = {
        .kind = EXITBUS_GROUP_PROCESSES, .name = "job", .leader = leader};
    struct exitbus_group *group;
    if (!pidfds_name_groups()) {
        check_equal(exitbus_group_create(bus, &options, &group), -ENOTSUP);
        kill(-exitbus_process_pid(leader), SIGKILL);
        return;
    }
    check_ok(exitbus_group_create(bus, &options, &group));
    struct exitbus_event event;
    check_ok(exitbus_process_wait(leader, &event, -1));
    check_ok(exitbus_group_end(group, SIGTERM, 10000000));
    wait_for_end(group);
    await_end_of_pipe(pipe_end);
    check_equal(exitbus_group_create(bus, &options, &group), -ESRCH);
    check_ok(exitbus_process_unref(leader));
    check_ok(exitbus_destroy(bus));
}

#define STUBBORN                                                                                   \
    "trap '' TERM; (setsid $0 p &) ; (setsid sh -c 'kill -STOP $$' &) ; "                          \
    "(setsid sh -c 'trap \"\" TERM; (setsid sh -c \"trap : TERM; while :; do sleep 1000; done\" "  \
    "&) "                                                                                          \
    "; while :; do sleep 1000; done' &) ; echo >&7; while :; do sleep 1000; done"

/* A job that forks away, leaves its session, ignores TERM, and is stopped in part. */
static void end_cgroup(int64_t grace_ns)
{
    char path[100];
    int fd = cgroup_new(path, sizeof path), pipe_end;
    if (fd < 0)
        return;
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *named = subscribe(bus, exitbus_topic_container("job"));
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_CGROUP, NULL, fd);
    struct exitbus_process *job = spawn_job(bus, STUBBORN, 0, fd, &pipe_end);
    check_ok(exitbus_group_end(group, SIGTERM, grace_ns));
    struct exitbus_event event, end = wait_for_end(group);
    check_ok(exitbus_receive(named, &event, 0));
    check_equal(event.seq, end.seq);
    await_end_of_pipe(pipe_end);
    close(fd);
    check_ok(rmdir(path)); /* empty means empty */
    check_ok(exitbus_process_unref(job));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_unsubscribe(named));
    check_ok(exitbus_destroy(bus));
}

TEST(group, cgroup)
{
    end_cgroup(10000000);
}

TEST(group, cgroup_at_once)
{
    end_cgroup(0);
}

/* Its processes end by the first signal, all of them, and more than are signalled at a time. */
TEST(group, cgroup_by_the_first_signal)
{
    enum { MANY = 150 };
    char path[100];
    int fd = cgroup_new(path, sizeof path);
    if (fd < 0)
        return;
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_CGROUP, NULL, fd);
    struct exitbus_process *processes[MANY];
    char *argv[] = {TINY_CHILD, "p", NULL};
    for (int i = 0; i < MANY; i++)
        processes[i] = spawn_with(bus, argv, 0, -1, fd);
    check_ok(exitbus_group_end(group, SIGUSR1, -1));
    wait_for_end(group);
    for (int i = 0; i < MANY; i++) {
        struct exitbus_event event;
        check_ok(exitbus_process_wait(processes[i], &event, -1));
        check_equal(event.exit_code, 128 + SIGUSR1);
        check_ok(exitbus_process_unref(processes[i]));
    }
    check_ok(exitbus_group_unref(group));
    close(fd);
    check_ok(rmdir(path));
    check_ok(exitbus_destroy(bus));
}

/* A cgroup that is removed is empty. */
TEST(group, cgroup_removed)
{
    char path[100];
    int fd = cgroup_new(path, sizeof path);
    if (fd < 0)
        return;
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_CGROUP, NULL, fd);
    close(fd);
    check_ok(rmdir(path));
    check_ok(exitbus_group_end(group, SIGTERM, 0));
    wait_for_end(group);
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_destroy(bus));
}

/* Without cgroup.kill: each process by itself, also in cgroups below. */
TEST(group, cgroup_killed_one_by_one)
{
    if (geteuid() != 0) {
        fprintf(stderr, "skipped: another user takes root\n");
        return;
    }
    char path[100], below[120];
    int fd = cgroup_new(path, sizeof path);
    if (fd < 0)
        return;
    snprintf(below, sizeof below, "%s/below", path);
    check_ok(mkdir(below, 0755));
    int below_fd = open(below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_CGROUP, NULL, fd);
    struct exitbus_process *processes[4];
    char *argv[] = {TINY_CHILD, "p", NULL};
    for (int i = 0; i < 4; i++) {
        struct exitbus_spawn_attributes attributes = {.set = EXITBUS_ATTRIBUTE_CGROUP |
                                                             EXITBUS_ATTRIBUTE_UID,
                                                      .cgroup_fd = i % 2 ? below_fd : fd,
                                                      .uid = 65534};
        struct exitbus_spawn_options options = {
            .argv = argv, .flags = EXITBUS_SPAWN_ATTRIBUTES, .attributes = &attributes};
        check_ok(exitbus_process_spawn(bus, &options, &processes[i]));
    }
    check_ok(seteuid(65534)); /* which may not write to cgroup.kill */
    check_ok(exitbus_group_end(group, SIGTERM, 0));
    wait_for_end(group);
    check_ok(seteuid(0));
    for (int i = 0; i < 4; i++) {
        struct exitbus_event event;
        check_ok(exitbus_process_wait(processes[i], &event, -1));
        check_equal(event.exit_code, 128 + SIGKILL);
        check_ok(exitbus_process_unref(processes[i]));
    }
    check_ok(exitbus_group_unref(group));
    close(below_fd);
    close(fd);
    check_ok(rmdir(below));
    check_ok(rmdir(path));
    check_ok(exitbus_destroy(bus));
}

/* A grandchild that has left its session keeps a job's output open. The job's exit, and its end, do
 * not wait for that pipe; and once the job is empty the pipe has ended. */
TEST(group, pipe_held_by_grandchild)
{
    char path[100];
    int fd = cgroup_new(path, sizeof path), pipe_end;
    if (fd < 0)
        return;
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_CGROUP, NULL, fd);
    struct exitbus_process *process =
        spawn_job(bus, "setsid $0 p & echo >&7; exit 3", EXITBUS_SPAWN_SETSID, fd, &pipe_end);
    struct exitbus_event event;
    check_ok(exitbus_process_wait(process, &event, -1));
    check_equal(event.exit_code, 3);
    fcntl(pipe_end, F_SETFL, O_NONBLOCK);
    char byte;
    check(read(pipe_end, &byte, 1) < 0 && errno == EAGAIN); /* it is open */
    check_ok(exitbus_group_end(group, SIGTERM, 0));
    wait_for_end(group);
    fcntl(pipe_end, F_SETFL, 0);
    await_end_of_pipe(pipe_end);
    check_ok(exitbus_process_unref(process));
    check_ok(exitbus_group_unref(group));
    close(fd);
    check_ok(rmdir(path));
    check_ok(exitbus_destroy(bus));
}

/* -------------------------------------------------------------------------- direct processes */

static struct exitbus_process *spawn_direct(struct exitbus *bus, uint32_t flags)
{
    char *argv[] = {TINY_CHILD, "p", NULL};
    return spawn_with(bus, argv, EXITBUS_SPAWN_DIRECT | flags, -1, -1);
}

static void *wait_directly(void *process)
{
    struct exitbus_event event;
    must_equal(exitbus_process_wait(process, &event, -1), 0);
    return NULL;
}

/* A member for which nobody waits, and one that a waiting thread collects. */
TEST(group, direct_members)
{
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    struct exitbus_process *idle = spawn_direct(bus, 0), *waited = spawn_direct(bus, 0);
    pthread_t thread = thread_start(wait_directly, waited);
    await(thread_is_in("test-group", SYS_ppoll));
    check_ok(exitbus_group_add(group, idle));
    check_ok(exitbus_group_add(group, waited));
    check_ok(exitbus_group_end(group, SIGTERM, -1));
    wait_for_end(group);
    thread_join(thread);
    check(has_ended(idle));
    check_ok(exitbus_process_unref(idle));
    check_ok(exitbus_process_unref(waited));
    check_ok(exitbus_group_unref(group));
    if (pidfds_name_groups()) {
        struct exitbus_process *leader = spawn_direct(bus, EXITBUS_SPAWN_SETSID);
        group = group_of(bus, EXITBUS_GROUP_PROCESSES, leader, -1);
        check_ok(exitbus_process_unref(leader));
        check_ok(exitbus_group_end(group, SIGTERM, -1));
        wait_for_end(group); /* its zombie is reaped */
        check_ok(exitbus_group_unref(group));
    }
    check(no_children());
    check_ok(exitbus_destroy(bus));
}

/* The group has the last handle of a direct process, and the bus ends. */
TEST(group, direct_member_when_the_bus_ends)
{
    for (int ended = 0; ended < 2; ended++) {
        struct exitbus *bus = bus_new();
        struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
        struct exitbus_process *member = spawn_direct(bus, 0);
        pid_t pid = exitbus_process_pid(member);
        check_ok(exitbus_group_add(group, member));
        check_ok(exitbus_process_unref(member));
        if (ended)
            check_ok(exitbus_group_end(group, 0, -1));
        check_ok(exitbus_group_unref(group));
        check_ok(exitbus_destroy(bus));
        check_ok(kill(pid, SIGKILL));
        check_equal(waitpid(pid, NULL, 0), pid);
    }
}

/* ------------------------------------------------------------------------------------ lifetime */

/* Let go at once, it is ended all the same. */
TEST(group, ended_and_let_go)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *named = subscribe(bus, exitbus_topic_container("job"));
    for (int round = 0; round < scaled(1000); round++) {
        struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
        check_ok(exitbus_group_end(group, SIGTERM, -1));
        check_ok(exitbus_group_unref(group));
        struct exitbus_event event;
        check_ok(exitbus_receive(named, &event, -1));
        check_equal(event.kind, EXITBUS_EVENT_EMPTY);
    }
    check_ok(exitbus_unsubscribe(named));
    check_ok(exitbus_destroy(bus));
}

static int refuse_timers(long number)
{
    return number == SYS_timerfd_settime ? -EPERM : 0;
}

/* A kernel that does not let the reaper set its timer. */
TEST(group, without_a_timer)
{
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    int pipe_end;
    struct exitbus_process *member = spawn_job(bus, IGNORES_TERM, 0, -1, &pipe_end);
    check_ok(exitbus_group_add(group, member));
    __atomic_store_n(&exitbus_test_syscall, refuse_timers, __ATOMIC_RELEASE);
    check_ok(exitbus_group_end(group, SIGTERM, 1000000));
    wait_for_end(group);
    __atomic_store_n(&exitbus_test_syscall, NULL, __ATOMIC_RELEASE);
    check(has_ended(member));
    check_ok(exitbus_process_unref(member));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_destroy(bus));
    close(pipe_end);
}

TEST(group, let_go)
{
    struct exitbus *bus = bus_new(), *other = bus_new();
    struct exitbus_process *member = spawn_waiting(bus);
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    check_ok(exitbus_group_add(group, member));
    check_ok(exitbus_group_ref(group));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_group_unref(group)); /* never ended: nothing is signalled */
    check_ok(exitbus_process_signal(member, 0, 0));
    group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    check_ok(exitbus_group_add(group, member));
    check_ok(exitbus_group_end(group, SIGTERM, -1));
    check_ok(exitbus_group_unref(group)); /* it goes on to end */
    struct exitbus_event event;
    check_ok(exitbus_process_wait(member, &event, -1));
    check_ok(exitbus_process_unref(member));
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL};
    struct exitbus_reaper *reaper;
    await(exitbus_reaper_start(other, &all, &reaper) == 0); /* no group needs the other one */
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_group_unref(NULL));
    check_ok(exitbus_destroy(other));
    check_ok(exitbus_destroy(bus));
}

static void *wait_for_shutdown(void *group)
{
    struct exitbus_event event;
    must_equal(exitbus_group_wait(group, &event, -1), -ESHUTDOWN);
    return NULL;
}

TEST(group, bus_ends_first)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *member = spawn_waiting(bus);
    struct exitbus_group *idle = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    struct exitbus_group *ending = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    check_ok(exitbus_group_add(ending, member));
    check_ok(exitbus_group_end(ending, 0, -1));
    pthread_t threads[] = {thread_start(wait_for_shutdown, idle),
                           thread_start(wait_for_shutdown, ending)};
    check_ok(exitbus_destroy(bus));
    thread_join(threads[0]);
    thread_join(threads[1]);
    check_ok(exitbus_group_end(ending, SIGKILL, -1)); /* it still names its members */
    check_equal(waitpid(exitbus_process_pid(member), NULL, 0), exitbus_process_pid(member));
    check_ok(exitbus_process_unref(member));
    check_ok(exitbus_group_unref(idle));
    check_ok(exitbus_group_unref(ending));
}

/* Reapers come and go meanwhile. */
TEST(group, reapers_change)
{
    struct exitbus *bus = bus_new();
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    struct exitbus_process *member = spawn_waiting(bus);
    check_ok(exitbus_group_add(group, member));
    check_ok(exitbus_group_end(group, 0, -1));
    for (int i = 0; i < 4; i++)
        check_ok(exitbus_reaper_stop(
            reaper_of(bus, i % 2 ? EXITBUS_REAPER_ALL : EXITBUS_REAPER_WATCHED, 0)));
    check_ok(exitbus_process_signal(member, SIGKILL, 0));
    wait_for_end(group);
    check_ok(exitbus_process_unref(member));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_destroy(bus));
}

/* A killer that spawns through the same bus, in what it does for an exit. */
TEST(group, ended_by_a_receiver_that_spawns)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    for (int round = 0; round < 20; round++) {
        struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
        struct exitbus_process *member = spawn_waiting(bus);
        check_ok(exitbus_group_add(group, member));
        struct exitbus_subscription *helper;
        pid_t pid = spawn_tiny(bus, "0", &helper);
        receive_pid(all, pid); /* the helper's exit sets it off */
        check_ok(exitbus_group_end(group, SIGTERM, 1000000));
        check_ok(exitbus_unsubscribe(helper));
        pid = spawn_tiny(bus, "0", &helper);
        receive_pid(helper, pid);
        wait_for_end(group);
        check_ok(exitbus_unsubscribe(helper));
        check_ok(exitbus_process_unref(member));
        check_ok(exitbus_group_unref(group));
    }
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* A one-shot waits for an exit, and takes no other news of that name. */
TEST(group, one_shots_take_exits)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *once =
        subscribe_flags(bus, exitbus_topic_exec("job", ""), EXITBUS_SUBSCRIBE_ONE_SHOT);
    struct exitbus_subscription *every = subscribe(bus, exitbus_topic_exec("job", ""));
    struct exitbus_group *group = group_of(bus, EXITBUS_GROUP_SET, NULL, -1);
    check_ok(exitbus_group_end(group, 0, -1));
    wait_for_end(group);
    struct exitbus_event event;
    check_equal(exitbus_receive(once, &event, 0), -EAGAIN);
    check_ok(exitbus_publish_exec(bus, "job", "", 4));
    check_ok(exitbus_receive(once, &event, -1));
    check_equal(event.kind, EXITBUS_EVENT_EXEC);
    check_ok(exitbus_receive(every, &event, 0));
    check_equal(event.kind, EXITBUS_EVENT_EMPTY);
    check_ok(exitbus_receive(every, &event, 0));
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_unsubscribe(once));
    check_ok(exitbus_unsubscribe(every));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------- errors */

static struct exitbus *inherited_bus;
static struct exitbus_group *inherited;

static void use_inherited(void)
{
    struct exitbus_event event;
    must_equal(exitbus_group_wait(inherited, &event, 0), -ESTALE);
    must_equal(exitbus_group_fd(inherited), -ESTALE);
    must_equal(exitbus_group_end(inherited, SIGKILL, 0), -ESTALE);
    must_equal(exitbus_group_ref(inherited), -ESTALE);
    must_equal(exitbus_group_unref(inherited), -ESTALE);
    struct exitbus_group_options options = {.kind = EXITBUS_GROUP_SET, .name = "job"};
    must_equal(exitbus_group_create(inherited_bus, &options, &inherited), -ESTALE);
}

TEST(group, forked_child)
{
    inherited_bus = bus_new();
    inherited = group_of(inherited_bus, EXITBUS_GROUP_SET, NULL, -1);
    check_equal(in_a_child(use_inherited), 0);
    check_ok(exitbus_group_unref(inherited));
    check_ok(exitbus_destroy(inherited_bus));
}

TEST(group, bad_arguments)
{
    struct exitbus *bus = bus_new(), *other = bus_new();
    struct exitbus_process *process = spawn_waiting(bus);
    struct exitbus_group *group = NULL;
    struct exitbus_event event;
    char long_name[EXITBUS_ID_MAX + 2];
    id_fill(long_name, EXITBUS_ID_MAX + 1, 'a');
    struct exitbus_group_options bad[] = {
        {.kind = EXITBUS_GROUP_SET},
        {.kind = EXITBUS_GROUP_SET, .name = ""},
        {.kind = EXITBUS_GROUP_SET, .name = long_name},
        {.kind = EXITBUS_GROUP_SET, .name = "a", .flags = 1},
        {.kind = EXITBUS_GROUP_PROCESSES, .name = "a"},
        {.kind = EXITBUS_GROUP_CGROUP, .name = "a", .cgroup_fd = -1},
        {.name = "a"},
        {.kind = (enum exitbus_group_kind)9, .name = "a"},
    };
    unsigned before = open_fds();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_equal(exitbus_group_create(bus, &bad[i], &group), -EINVAL);
    struct exitbus_group_options options = {
        .kind = EXITBUS_GROUP_PROCESSES, .name = "a", .leader = process};
    check_equal(exitbus_group_create(other, &options, &group), -EINVAL);
    check_equal(exitbus_group_create(bus, &options, &group),
                pidfds_name_groups() ? -ESRCH : -ENOTSUP);
    int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    options = (struct exitbus_group_options){
        .kind = EXITBUS_GROUP_CGROUP, .name = "a", .cgroup_fd = directory};
    check_equal(exitbus_group_create(bus, &options, &group), -EINVAL);
    options.cgroup_fd = 999;
    check_equal(exitbus_group_create(bus, &options, &group), -EBADF);
    check_equal(exitbus_group_create(NULL, &options, &group), -EINVAL);
    check_equal(exitbus_group_create(bus, NULL, &group), -EINVAL);
    check_equal(exitbus_group_create(bus, &options, NULL), -EINVAL);
    close(directory);
    check(group == NULL);
    check_equal(open_fds(), before);
    options = (struct exitbus_group_options){.kind = EXITBUS_GROUP_SET, .name = "a"};
    check_ok(exitbus_group_create(other, &options, &group));
    check_equal(exitbus_group_add(group, process), -EINVAL); /* of another bus */
    check_equal(exitbus_group_add(group, NULL), -EINVAL);
    check_equal(exitbus_group_add(NULL, process), -EINVAL);
    check_equal(exitbus_group_end(NULL, SIGTERM, 0), -EINVAL);
    check_equal(exitbus_group_end(group, -1, 0), -EINVAL);
    check_equal(exitbus_group_end(group, SIGRTMAX + 1, 0), -EINVAL);
    check_equal(exitbus_group_wait(group, NULL, 0), -EINVAL);
    check_equal(exitbus_group_wait(NULL, &event, 0), -EINVAL);
    check_equal(exitbus_group_fd(NULL), -EINVAL);
    check_equal(exitbus_group_ref(NULL), -EINVAL);
    check_equal(exitbus_group_wait(group, &event, 0), -EAGAIN);
    check_ok(exitbus_group_unref(group));
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    check_ok(exitbus_process_wait(process, &event, -1));
    check_ok(exitbus_process_unref(process));
    check_ok(exitbus_destroy(bus));
    check_ok(exitbus_destroy(other));
}
