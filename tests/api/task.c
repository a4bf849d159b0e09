/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tasks: the order of a container's life. The names of incidents are those under which other
 * supervisors had them.
 */
#include "support/cgroups.h"
#include "support/children.h"
#include "support/harness.h"
#include "support/ways.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static struct exitbus_task *task_of(struct exitbus *bus, const struct exitbus_task_options *options)
{
    struct exitbus_task *task;
    check_ok(exitbus_task_create(bus, "c", options, &task));
    return task;
}

static struct exitbus_exec *reserve(struct exitbus_task *task, const char *id)
{
    struct exitbus_exec *exec;
    check_ok(exitbus_exec_reserve(task, id, &exec));
    return exec;
}

/* Reserve it, and bind it to a child that waits to be told. */
static struct exitbus_exec *start(struct exitbus_task *task, const char *id, struct child *child,
                                  int code)
{
    struct exitbus_exec *exec = reserve(task, id);
    *child = child_fork(code);
    check_ok(exitbus_exec_started(exec, child->pid, -1));
    return exec;
}

/* The next event of the container: of that kind and exec, and with that pid. */
static struct exitbus_event next_is(struct exitbus_subscription *events,
                                    enum exitbus_event_kind kind, const char *id, pid_t pid)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(events, &event, -1), 0);
    must_equal(event.kind, kind);
    must(strcmp(event.container_id, "c") == 0);
    must(strcmp(event.exec_id, id) == 0);
    must_equal(event.pid, pid);
    return event;
}

static bool nothing_more(struct exitbus_subscription *events)
{
    return exitbus_subscription_pending(events) == 0;
}

static struct exitbus_event wait_for(struct exitbus_exec *exec)
{
    struct exitbus_event event;
    check_ok(exitbus_exec_wait(exec, &event, -1));
    check_equal(event.kind, EXITBUS_EVENT_EXEC);
    return event;
}

static void end_exec(struct exitbus_exec *exec)
{
    check_ok(exitbus_exec_unref(exec));
}

/* All that the reaper had to do is done: an exit that came later was published. */
static void let_pass(struct exitbus *bus)
{
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(bus, "0", &own);
    receive_pid(own, pid);
    check_ok(exitbus_unsubscribe(own));
}

#define EVENTS_OF_C(bus) subscribe(bus, exitbus_topic_container("c"))

/* ------------------------------------------------------------------------------------ the order */

/* The process exits before anybody has said that it has started. */
TEST(task, exit_before_start)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task *task = task_of(bus, NULL);
    struct exitbus_exec *exec = reserve(task, "e");
    struct child child = child_fork(3);
    child_end(child);
    await(is_zombie(child.pid));
    check(nothing_more(events));
    check_ok(exitbus_exec_started(exec, child.pid, -1));
    next_is(events, EXITBUS_EVENT_STARTED, "e", child.pid);
    check_equal(next_is(events, EXITBUS_EVENT_EXEC, "e", child.pid).exit_code, 3);
    check_equal(wait_for(exec).exit_code, 3);
    end_exec(exec);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* The leader dies while execs run, and one is only reserved: theirs come first. */
TEST(task, init_before_exec)
{
    enum { EXECS = 3 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task *task = task_of(bus, NULL);
    struct child init, children[EXECS];
    struct exitbus_exec *leader = start(task, "", &init, 1), *execs[EXECS];
    next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
    for (int i = 0; i < EXECS; i++) {
        char id[] = {(char)('a' + i), '\0'};
        execs[i] = start(task, id, &children[i], 10 + i);
        next_is(events, EXITBUS_EVENT_STARTED, id, children[i].pid);
    }
    struct exitbus_exec *reserved = reserve(task, "late");
    child_end(init);
    next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
    for (int i = EXECS; i-- > 0;) {
        char id[] = {(char)('a' + i), '\0'};
        child_end(children[i]);
        check_equal(next_is(events, EXITBUS_EVENT_EXEC, id, children[i].pid).exit_code, 10 + i);
        end_exec(execs[i]);
    }
    let_pass(bus);
    check(nothing_more(events)); /* one is reserved */
    struct exitbus_event event;
    check_equal(exitbus_exec_wait(leader, &event, 0), -EAGAIN);
    struct child late = child_fork(7);
    check_ok(exitbus_exec_started(reserved, late.pid, -1));
    next_is(events, EXITBUS_EVENT_STARTED, "late", late.pid);
    child_end(late);
    check_equal(next_is(events, EXITBUS_EVENT_EXEC, "late", late.pid).exit_code, 7);
    check_equal(next_is(events, EXITBUS_EVENT_EXEC, "", init.pid).exit_code, 1);
    check_equal(wait_for(leader).exit_code, 1);
    end_exec(reserved);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* Nothing is reserved once the death is known. */
TEST(task, exec_after_the_leader)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task *task = task_of(bus, NULL);
    struct child init;
    struct exitbus_exec *leader = start(task, "", &init, 0), *exec = NULL;
    next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
    check_equal(exitbus_exec_reserve(task, "", &exec), -EEXIST);
    child_end(init);
    next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
    check_equal(exitbus_exec_reserve(task, "e", &exec), -EOWNERDEAD);
    check(!exec);
    next_is(events, EXITBUS_EVENT_EXEC, "", init.pid);
    check_equal(exitbus_exec_reserve(task, "e", &exec), -EOWNERDEAD);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* A start that fails gives its reservation back, by a call or with the last reference. */
TEST(task, start_fails)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task *task = task_of(bus, NULL);
    struct child init;
    struct exitbus_exec *leader = start(task, "", &init, 0);
    next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
    struct exitbus_exec *cancelled = reserve(task, "a"), *dropped = reserve(task, "b");
    check_equal(exitbus_exec_started(cancelled, getpid(), -1), -ECHILD); /* no effect */
    check_equal(exitbus_exec_signal(cancelled, SIGTERM), -ESRCH);
    int fd = exitbus_exec_fd(cancelled);
    check(fd >= 0);
    child_end(init);
    next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
    check_ok(exitbus_exec_cancel(cancelled));
    check_ok(exitbus_exec_cancel(cancelled));
    check_equal(exitbus_exec_started(cancelled, 1, -1), -ECANCELED);
    check_equal(exitbus_exec_restarting(cancelled), -ECANCELED);
    struct exitbus_event event;
    check_equal(exitbus_exec_wait(cancelled, &event, -1), -ECANCELED);
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    check_equal(poll(&polled, 1, -1), 1);
    let_pass(bus);
    check(nothing_more(events));
    end_exec(dropped);
    next_is(events, EXITBUS_EVENT_EXEC, "", init.pid);
    end_exec(cancelled);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* The container's process dies between create and start: its exit comes behind the start. */
TEST(task, create_die_start)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    for (int cancel = 0; cancel < 2; cancel++) {
        struct exitbus_task *task = task_of(bus, NULL);
        struct child init;
        struct exitbus_exec *leader = start(task, "", &init, 4);
        next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
        check_equal(exitbus_exec_started(leader, init.pid, -1), -EALREADY);
        check_ok(exitbus_exec_restarting(leader));
        check_ok(exitbus_exec_restarting(leader));
        child_end(init);
        next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
        let_pass(bus);
        check(nothing_more(events));
        check_equal(exitbus_exec_started(leader, init.pid + 1, -1), -EINVAL);
        check_ok(cancel ? exitbus_exec_cancel(leader) : exitbus_exec_started(leader, 0, -1));
        if (!cancel)
            next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
        check_equal(next_is(events, EXITBUS_EVENT_EXEC, "", init.pid).exit_code, 4);
        check_equal(exitbus_exec_restarting(leader), -ESRCH); /* it is too late */
        check_equal(exitbus_exec_started(leader, 0, -1), -EALREADY);
        end_exec(leader);
        check_ok(exitbus_task_unref(task));
    }
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* Held from the reservation on: no exit is too fast. */
TEST(task, held_before_create)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task *task = task_of(bus, NULL);
    struct exitbus_exec *leader = reserve(task, "");
    check_ok(exitbus_exec_restarting(leader));
    struct child init = child_fork(2);
    child_end(init);
    await(is_zombie(init.pid));
    check_ok(exitbus_exec_started(leader, init.pid, -1));
    next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
    next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
    let_pass(bus);
    check(nothing_more(events));
    check_ok(exitbus_exec_started(leader, 0, -1));
    next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
    check_equal(next_is(events, EXITBUS_EVENT_EXEC, "", init.pid).exit_code, 2);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------- children that are gone */

/* A reaper of all children has reaped it before anybody has said that it has started. */
TEST(task, reaped_before_start)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_task *task = task_of(bus, NULL);
    for (int by_pidfd = 0; by_pidfd < 2; by_pidfd++) {
        struct exitbus_exec *exec = reserve(task, "e"), *other = reserve(task, "other");
        struct child child = child_fork(20 + by_pidfd), helper = child_fork(0);
        int pidfd = by_pidfd ? (int)syscall(SYS_pidfd_open, child.pid, 0) : -1;
        child_end(helper); /* which the starter waits for */
        child_end(child);
        await(is_gone(child.pid) && is_gone(helper.pid));
        check_equal(exitbus_exec_started(other, getppid(), -1), -ECHILD);
        check_ok(exitbus_exec_started(exec, child.pid, pidfd));
        next_is(events, EXITBUS_EVENT_STARTED, "e", child.pid);
        check_equal(next_is(events, EXITBUS_EVENT_EXEC, "e", child.pid).exit_code, 20 + by_pidfd);
        check_equal(exitbus_exec_started(other, child.pid, -1), -ECHILD); /* once */
        end_exec(exec);
        end_exec(other);
        if (pidfd >= 0)
            close(pidfd);
    }
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* The pid was given out again, once and twice: a pidfd tells which process is meant. */
static void pid_comes_back(void)
{
    enum { PID = 300, TIMES = 3 };
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_task *task = task_of(bus, NULL);
    struct exitbus_exec *execs[TIMES];
    int pidfds[TIMES];
    for (int i = 0; i < TIMES; i++)
        execs[i] = reserve(task, "e");
    for (int i = 0; i < TIMES; i++) {
        struct child child = child_with_pid(PID, 30 + i);
        pidfds[i] = (int)syscall(SYS_pidfd_open, child.pid, 0);
        child_end(child);
        await(is_gone(child.pid));
    }
    struct child alive = child_with_pid(PID, 40);
    for (int i = 0; i < TIMES; i++) {
        must_equal(exitbus_exec_started(execs[i], PID, pidfds[i]), 0);
        must_equal(wait_for(execs[i]).exit_code, 30 + i);
    }
    struct exitbus_exec *exec = reserve(task, "alive");
    must_equal(exitbus_exec_started(exec, PID, -1), 0);
    struct exitbus_event event;
    must_equal(exitbus_exec_wait(exec, &event, 0), -EAGAIN);
    child_end(alive);
    must_equal(wait_for(exec).exit_code, 40);
    end_exec(exec);
    for (int i = 0; i < TIMES; i++) {
        end_exec(execs[i]);
        close(pidfds[i]);
    }
    must_equal(exitbus_task_unref(task), 0);
    must_equal(exitbus_reaper_stop(reaper), 0);
    must_equal(exitbus_destroy(bus), 0);
}

TEST(task, pid_twice)
{
    in_a_namespace(pid_comes_back);
}

/* ------------------------------------------------------------------------------ what is killed */

/* In a shared pid namespace somebody must kill the rest: here it is the task. */
TEST(task, members_are_killed)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task_options options = {.kill = EXITBUS_TASK_KILL_MEMBERS};
    struct exitbus_task *task = task_of(bus, &options);
    struct child init, child;
    struct exitbus_exec *leader = start(task, "", &init, 0), *exec = start(task, "e", &child, 0);
    struct exitbus_exec *late = reserve(task, "late");
    child_end(init);
    check_equal(wait_for(exec).status, SIGKILL);
    struct child born = child_fork(0);
    check_ok(exitbus_exec_started(late, born.pid, -1)); /* and so is this one */
    check_equal(wait_for(late).status, SIGKILL);
    check_equal(wait_for(leader).exit_code, 0);
    child_end(child);
    child_end(born);
    end_exec(late);
    end_exec(exec);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* A member that never dies: the leader's exit waits for it as long as was said, and tells so. */
TEST(task, member_that_never_dies)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task_options options = {.bound_ns = 1000000};
    struct exitbus_task *task = task_of(bus, &options);
    struct child init, child;
    struct exitbus_exec *leader = start(task, "", &init, 0), *exec = start(task, "e", &child, 9);
    child_end(init);
    check(wait_for(leader).flags & EXITBUS_EVENT_CUT_SHORT);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    child_end(child); /* it ends all the same, and its exit comes */
    check_equal(wait_for(exec).exit_code, 9);
    check(!(wait_for(exec).flags & EXITBUS_EVENT_CUT_SHORT));
    end_exec(exec);
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

TEST(task, end)
{
    struct exitbus *bus = bus_new();
    static const int graces_ms[] = {0, 1, -1};
    for (int i = 0; i < 3; i++) {
        struct exitbus_task *task = task_of(bus, NULL);
        struct child init, child;
        signal(SIGTERM, i == 1 ? SIG_IGN : SIG_DFL); /* for the children */
        struct exitbus_exec *leader = start(task, "", &init, 0);
        struct exitbus_exec *exec = start(task, "e", &child, 0);
        signal(SIGTERM, SIG_DFL);
        int64_t grace_ns = graces_ms[i] * (int64_t)1000000;
        check_ok(exitbus_task_end(task, SIGTERM, grace_ns));
        check_equal(wait_for(leader).status, i == 2 ? SIGTERM : SIGKILL);
        check_equal(wait_for(exec).status, i == 2 ? SIGTERM : SIGKILL);
        check_equal(exitbus_task_end(task, SIGTERM, grace_ns), -ESRCH);
        child_end(init);
        child_end(child);
        end_exec(exec);
        end_exec(leader);
        check_ok(exitbus_task_unref(task));
    }
    check_ok(exitbus_destroy(bus));
}

/* A cgroup: what its processes have forked is killed, too, and no stranger. */
TEST(task, cgroup_is_killed)
{
    char path[256], procs[300], text[16];
    int cgroup = cgroup_new(path, sizeof path);
    if (cgroup < 0)
        return;
    struct exitbus *bus = bus_new();
    struct exitbus_task_options options = {
        .kill = EXITBUS_TASK_KILL_CGROUP, .flags = EXITBUS_TASK_CGROUP, .cgroup_fd = cgroup};
    struct exitbus_task *task = task_of(bus, &options);
    struct child init, inside = child_fork(0), outside = child_fork(5);
    snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
    int fd = open(procs, O_WRONLY | O_CLOEXEC);
    int size = snprintf(text, sizeof text, "%d", inside.pid);
    must(write(fd, text, (size_t)size) == size);
    close(fd);
    struct exitbus_exec *leader = start(task, "", &init, 0), *exec = reserve(task, "e");
    check_ok(exitbus_exec_started(exec, outside.pid, -1)); /* in no cgroup of the task's */
    child_end(init);
    await(is_zombie(inside.pid));
    child_end(outside);
    check_equal(wait_for(exec).exit_code, 5);
    check_equal(wait_for(leader).exit_code, 0);
    int status;
    check_equal(waitpid(inside.pid, &status, 0), inside.pid);
    check_equal(status, SIGKILL);
    child_end(inside);
    end_exec(exec);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_destroy(bus));
    close(cgroup);
    check_equal(rmdir(path), 0);
}

static void write_file(int directory, const char *name, const char *text)
{
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/*
 * The kernel kills for want of memory: that is told before the exit, each time. The files stand in
 * for those of a cgroup, since the memory controller may be elsewhere (cgroup v1).
 */
TEST(task, oom_after_exit)
{
    char path[] = "/tmp/exitbus-test-XXXXXX";
    must(mkdtemp(path) != NULL);
    int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_file(cgroup, "cgroup.events", "populated 1\nfrozen 0\n");
    write_file(cgroup, "memory.events", "low 0\noom 0\noom_kill 0\n");
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task_options options = {.flags = EXITBUS_TASK_CGROUP, .cgroup_fd = cgroup};
    struct exitbus_task *task = task_of(bus, &options);
    struct child init, child, other;
    struct exitbus_exec *leader = start(task, "", &init, 0), *exec = start(task, "e", &child, 0);
    struct exitbus_exec *last = start(task, "f", &other, 0);
    next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
    next_is(events, EXITBUS_EVENT_STARTED, "e", child.pid);
    next_is(events, EXITBUS_EVENT_STARTED, "f", other.pid);
    write_file(cgroup, "memory.events", "low 0\noom 2\noom_kill 2\noom_group_kill 0\n");
    kill(child.pid, SIGKILL);
    check_equal(next_is(events, EXITBUS_EVENT_OOM, "", child.pid).exit_code, 2);
    check_equal(next_is(events, EXITBUS_EVENT_EXEC, "e", child.pid).status, SIGKILL);
    child_end(other); /* nothing new */
    next_is(events, EXITBUS_EVENT_EXEC, "f", other.pid);
    write_file(cgroup, "memory.events", "oom_kill 3\n");
    kill(init.pid, SIGKILL);
    check_equal(next_is(events, EXITBUS_EVENT_OOM, "", init.pid).exit_code, 1);
    next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
    next_is(events, EXITBUS_EVENT_EXEC, "", init.pid);
    child_end(child);
    child_end(init);
    end_exec(last);
    end_exec(exec);
    end_exec(leader);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
    unlinkat(cgroup, "cgroup.events", 0);
    unlinkat(cgroup, "memory.events", 0);
    close(cgroup);
    check_equal(rmdir(path), 0);
}

/* ------------------------------------------------------------------------------- many lives */

#define LIFE_EXECS 4

/* What came of a task, in order. */
struct life {
    bool started[LIFE_EXECS + 1], exited[LIFE_EXECS + 1];
    bool died;
    int open; /* started, and not exited */
};

static void note_event(struct life *life, const struct exitbus_event *event)
{
    int i = event->exec_id[0] == '\0' ? LIFE_EXECS : event->exec_id[0] - 'a';
    must(i >= 0 && i <= LIFE_EXECS);
    switch (event->kind) {
    case EXITBUS_EVENT_STARTED:
        must(!life->started[i] && !life->exited[i]);
        must(!life->exited[LIFE_EXECS]);
        life->started[i] = true;
        life->open++;
        break;
    case EXITBUS_EVENT_EXEC:
        must(life->started[i] && !life->exited[i]);
        life->exited[i] = true;
        life->open--;
        if (i == LIFE_EXECS)
            must(life->died && life->open == 0);
        break;
    case EXITBUS_EVENT_LEADER_DIED:
        must(!life->died && life->started[LIFE_EXECS]);
        life->died = true;
        break;
    default:
        must(false); /* an event of a kind that was not asked for */
    }
}

struct starter {
    struct exitbus_task *task;
    char id[2];
    unsigned seed;
    bool bound;
};

/* Reserve, start and bind, as a shim does for an exec: at some moment, or not at all. */
static void *start_exec(void *argument)
{
    struct starter *starter = argument;
    struct exitbus_exec *exec;
    int result = exitbus_exec_reserve(starter->task, starter->id, &exec);
    if (result == -EOWNERDEAD)
        return NULL;
    must_equal(result, 0);
    if (starter->seed % 5 == 0) {
        must_equal(exitbus_exec_cancel(exec), 0);
    } else {
        char *argv[] = {TINY_CHILD, starter->seed % 2 ? "0" : "1", NULL};
        pid_t pid = vfork();
        must(pid >= 0);
        if (pid == 0) {
            execv(argv[0], argv);
            _exit(127);
        }
        if (starter->seed % 3 == 0)
            sched_yield();
        must_equal(exitbus_exec_started(exec, pid, -1), 0);
        starter->bound = true;
    }
    must_equal(exitbus_exec_unref(exec), 0);
    return NULL;
}

/* One container: its leader dies while its execs are on their way. */
static void live_once(struct exitbus *bus, struct exitbus_subscription *events, unsigned seed)
{
    struct life life = {0};
    struct starter starters[LIFE_EXECS];
    pthread_t threads[LIFE_EXECS];
    struct exitbus_task *task = task_of(bus, NULL);
    struct child init;
    struct exitbus_exec *leader = start(task, "", &init, 0);
    for (unsigned i = 0; i < LIFE_EXECS; i++) {
        starters[i] = (struct starter){task, {(char)('a' + i), '\0'}, seed * 7 + i * 3 + 1, false};
        threads[i] = thread_start(start_exec, &starters[i]);
        if (i == seed % LIFE_EXECS)
            child_end(init);
    }
    for (unsigned i = 0; i < LIFE_EXECS; i++)
        thread_join(threads[i]);
    wait_for(leader);
    struct exitbus_event event;
    while (!life.exited[LIFE_EXECS]) {
        must_equal(exitbus_receive(events, &event, -1), 0);
        note_event(&life, &event);
    }
    for (unsigned i = 0; i < LIFE_EXECS; i++)
        must_equal(life.exited[i], starters[i].bound);
    must_equal(exitbus_subscription_pending(events), 0);
    end_exec(leader);
    must_equal(exitbus_task_unref(task), 0);
}

static void live(enum exitbus_reaper_mode mode)
{
    enum { LIVES = 200 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_reaper *reaper = reaper_of(bus, mode, 0);
    for (unsigned i = 0; i < LIVES; i++)
        live_once(bus, events, i);
    await(no_children());
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

TEST(task, lives_watched)
{
    live(EXITBUS_REAPER_WATCHED);
}

TEST(task, lives_all)
{
    live(EXITBUS_REAPER_ALL);
}

static void *reserve_and_cancel(void *task)
{
    struct exitbus_exec *exec;
    int result;
    while ((result = exitbus_exec_reserve(task, "x", &exec)) == 0) {
        must_equal(exitbus_exec_cancel(exec), 0);
        must_equal(exitbus_exec_unref(exec), 0);
    }
    must_equal(result, -EOWNERDEAD);
    return NULL;
}

/* The leader dies in a storm of reservations that come to nothing: its exit comes, once. */
TEST(task, init_exit_lost)
{
    enum { THREADS = 4, ROUNDS = 50 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    for (int round = 0; round < ROUNDS; round++) {
        struct exitbus_task *task = task_of(bus, NULL);
        struct child init;
        struct exitbus_exec *leader = start(task, "", &init, 8);
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            threads[i] = thread_start(reserve_and_cancel, task);
        next_is(events, EXITBUS_EVENT_STARTED, "", init.pid);
        child_end(init);
        next_is(events, EXITBUS_EVENT_LEADER_DIED, "", init.pid);
        check_equal(next_is(events, EXITBUS_EVENT_EXEC, "", init.pid).exit_code, 8);
        for (int i = 0; i < THREADS; i++)
            thread_join(threads[i]);
        check(nothing_more(events));
        end_exec(leader);
        check_ok(exitbus_task_unref(task));
    }
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* The leader's own start fails: nothing is reserved any more, and what runs can be ended. */
TEST(task, leader_fails)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *events = EVENTS_OF_C(bus);
    struct exitbus_task *task = task_of(bus, NULL);
    struct child child;
    struct exitbus_exec *leader = reserve(task, ""), *exec = start(task, "e", &child, 0);
    next_is(events, EXITBUS_EVENT_STARTED, "e", child.pid);
    struct exitbus_event event;
    check_ok(exitbus_exec_ref(leader));
    end_exec(leader);
    check_equal(exitbus_exec_wait(leader, &event, 0), -EAGAIN);
    check_ok(exitbus_exec_cancel(leader));
    check_equal(exitbus_exec_wait(leader, &event, -1), -ECANCELED);
    end_exec(leader);
    check_equal(exitbus_exec_reserve(task, "", &leader), -ECANCELED);
    let_pass(bus);
    check_equal(exitbus_exec_reserve(task, "f", &leader), -EOWNERDEAD);
    check_ok(exitbus_task_end(task, SIGTERM, -1));
    check_equal(next_is(events, EXITBUS_EVENT_EXEC, "e", child.pid).status, SIGTERM);
    let_pass(bus);
    check_equal(exitbus_task_end(task, SIGTERM, -1), -ESRCH);
    child_end(child);
    end_exec(exec);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_unsubscribe(events));
    check_ok(exitbus_destroy(bus));
}

/* A task that was ended signals what is bound before the reaper looks, and what comes later. */
TEST(task, end_and_late_execs)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct pollfd ready = {.fd = exitbus_reaper_fd(reaper), .events = POLLIN};
    struct exitbus_task *task = task_of(bus, NULL);
    struct child children[3];
    struct exitbus_exec *execs[3] = {start(task, "", &children[0], 0),
                                     start(task, "e", &children[1], 0), reserve(task, "late")};
    check_ok(exitbus_task_end(task, SIGUSR1, -1));
    check_ok(exitbus_task_end(task, 0, 3600000000000)); /* which takes nothing back */
    must(exitbus_reaper_poll(reaper) >= 0);
    children[2] = child_fork(0);
    check_ok(exitbus_exec_started(execs[2], children[2].pid, -1));
    for (int i = 3; i-- > 0;) {
        struct exitbus_event event;
        while (exitbus_exec_wait(execs[i], &event, 0) == -EAGAIN) {
            must_equal(poll(&ready, 1, -1), 1);
            must(exitbus_reaper_poll(reaper) >= 0);
        }
        check_equal(wait_for(execs[i]).status, SIGUSR1);
        child_end(children[i]);
        end_exec(execs[i]);
    }
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* -------------------------------------------------------------------------------- what stays */

/* The exit is there before, behind, for each thread and each loop. */
TEST(task, exit_stays)
{
    struct exitbus *bus = bus_new();
    struct exitbus_task *task = task_of(bus, NULL);
    struct child child;
    struct exitbus_exec *exec = start(task, "e", &child, 6);
    struct exitbus_event event;
    check_equal(exitbus_exec_wait(exec, &event, 1), -ETIMEDOUT);
    check_ok(exitbus_exec_signal(exec, 0));
    struct pollfd polled = {.fd = exitbus_exec_fd(exec), .events = POLLIN};
    check_equal(poll(&polled, 1, 0), 0);
    child_end(child);
    for (int i = 0; i < 3; i++) {
        event = wait_for(exec);
        check(strcmp(event.container_id, "c") == 0 && strcmp(event.exec_id, "e") == 0);
        check(event.pid == child.pid && event.exit_code == 6 && event.seq > 0);
        check_equal(poll(&polled, 1, -1), 1);
    }
    check_equal(exitbus_exec_signal(exec, SIGTERM), -ESRCH);
    check_ok(exitbus_exec_ref(exec));
    end_exec(exec);
    check_equal(wait_for(exec).exit_code, 6);
    end_exec(exec);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_destroy(bus));
}

static void *wait_for_bus(void *exec)
{
    struct exitbus_event event;
    must_equal(exitbus_exec_wait(exec, &event, -1), -ESHUTDOWN);
    return NULL;
}

/* What can never come says so: a bus that ends tells all that wait, whatever they wait for. */
TEST(task, bus_ends_first)
{
    struct exitbus *bus = bus_new();
    unsigned fds = open_fds();
    struct exitbus_task *task = task_of(bus, NULL);
    struct child child;
    struct exitbus_exec *execs[] = {reserve(task, ""), reserve(task, "r"),
                                    start(task, "e", &child, 0)};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread_start(wait_for_bus, execs[i]);
    check_ok(exitbus_destroy(bus));
    for (int i = 0; i < 3; i++)
        thread_join(threads[i]);
    struct exitbus_exec *late = NULL;
    check_equal(exitbus_exec_reserve(task, "late", &late), -ESHUTDOWN);
    check_equal(exitbus_exec_started(execs[1], child.pid, -1), -ESHUTDOWN);
    check_equal(exitbus_task_end(task, SIGTERM, 0), -ESHUTDOWN);
    check_ok(exitbus_exec_cancel(execs[1]));
    for (int i = 0; i < 3; i++)
        end_exec(execs[i]);
    check_ok(exitbus_task_unref(task));
    child_end(child);
    check_equal(waitpid(child.pid, NULL, 0), child.pid);
    await(open_fds() <= fds);
}

TEST(task, bad_input)
{
    struct exitbus *bus = bus_new();
    struct exitbus_task *task = NULL;
    struct exitbus_exec *exec = NULL;
    struct exitbus_event event;
    char long_id[EXITBUS_ID_MAX + 2];
    memset(long_id, 'x', sizeof long_id);
    long_id[sizeof long_id - 1] = '\0';
    struct exitbus_task_options options = {.kill = EXITBUS_TASK_KILL_CGROUP};
    check_equal(exitbus_task_create(NULL, "c", NULL, &task), -EINVAL);
    check_equal(exitbus_task_create(bus, NULL, NULL, &task), -EINVAL);
    check_equal(exitbus_task_create(bus, "", NULL, &task), -EINVAL);
    check_equal(exitbus_task_create(bus, long_id, NULL, &task), -EINVAL);
    check_equal(exitbus_task_create(bus, "c", NULL, NULL), -EINVAL);
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EINVAL); /* without a cgroup */
    options = (struct exitbus_task_options){.kill = 7};
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EINVAL);
    options = (struct exitbus_task_options){.flags = 0x80};
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EINVAL);
    options = (struct exitbus_task_options){.bound_ns = -1};
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EINVAL);
    options = (struct exitbus_task_options){.flags = EXITBUS_TASK_CGROUP, .cgroup_fd = -1};
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EINVAL);
    options.cgroup_fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EINVAL); /* no cgroup */
    close(options.cgroup_fd);
    check_equal(exitbus_task_create(bus, "c", &options, &task), -EBADF);
    check(!task);
    task = task_of(bus, NULL);
    check_equal(exitbus_exec_reserve(NULL, "e", &exec), -EINVAL);
    check_equal(exitbus_exec_reserve(task, NULL, &exec), -EINVAL);
    check_equal(exitbus_exec_reserve(task, long_id, &exec), -EINVAL);
    check_equal(exitbus_exec_reserve(task, "e", NULL), -EINVAL);
    check(!exec);
    exec = reserve(task, "e");
    check_equal(exitbus_exec_started(NULL, 1, -1), -EINVAL);
    check_equal(exitbus_exec_started(exec, -1, -1), -EINVAL);
    check_equal(exitbus_exec_started(exec, 0, -1), -EINVAL);
    check_equal(exitbus_exec_wait(exec, NULL, 0), -EINVAL);
    check_equal(exitbus_exec_wait(NULL, &event, 0), -EINVAL);
    check_equal(exitbus_exec_fd(NULL), -EINVAL);
    check_equal(exitbus_exec_signal(exec, -1), -EINVAL);
    check_equal(exitbus_exec_signal(exec, 1000), -EINVAL);
    check_equal(exitbus_exec_signal(NULL, 1), -EINVAL);
    check_equal(exitbus_exec_cancel(NULL), -EINVAL);
    check_equal(exitbus_exec_restarting(NULL), -EINVAL);
    check_equal(exitbus_exec_ref(NULL), -EINVAL);
    check_equal(exitbus_task_ref(NULL), -EINVAL);
    check_equal(exitbus_task_end(NULL, 1, 0), -EINVAL);
    check_equal(exitbus_task_end(task, -1, 0), -EINVAL);
    check_ok(exitbus_task_unref(NULL));
    check_ok(exitbus_exec_unref(NULL));
    end_exec(exec);
    check_ok(exitbus_task_unref(task));
    check_ok(exitbus_destroy(bus));
}
