/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Process handles: an exit that stays, for every thread and every event loop; signals that hit no
 * other process; adoption, also of processes that are no children; and what is left behind.
 */
#include "base/sys.h"
#include "support/children.h"
#include "support/halt.h"
#include "support/harness.h"
#include "support/refuse.h"
#include "support/ways.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <urcu-bp.h>

static struct exitbus_process *spawn_argv(struct exitbus *bus, char *const *argv, uint32_t flags)
{
    struct exitbus_spawn_options options = {.argv = argv, .flags = flags};
    struct exitbus_process *process;
    check_ok(exitbus_process_spawn(bus, &options, &process));
    return process;
}

static struct exitbus_process *spawn_handle(struct exitbus *bus, const char *what)
{
    char *argv[] = {TINY_CHILD, (char *)what, NULL};
    return spawn_argv(bus, argv, 0);
}

static struct exitbus_event wait_for(struct exitbus_process *process)
{
    struct exitbus_event event;
    check_ok(exitbus_process_wait(process, &event, -1));
    return event;
}

static bool same_event(const struct exitbus_event *a, const struct exitbus_event *b)
{
    return memcmp(a, b, offsetof(struct exitbus_event, container_id)) == 0 &&
           a->container_id[0] == '\0' && a->exec_id[0] == '\0';
}

static void end_handle(struct exitbus_process *process)
{
    check_ok(exitbus_process_unref(process));
}

static int pidfd_of(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* ------------------------------------------------------------------------------------- waiting */

TEST(process, exit_stays)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_process *process = spawn_handle(bus, "7");
    struct exitbus_event first = wait_for(process), published;
    check_equal(first.exit_code, 7);
    check_equal(first.pid, exitbus_process_pid(process));
    check_ok(exitbus_receive(all, &published, -1));
    check(same_event(&published, &first)); /* its place, its times, and all else */
    for (int i = 0; i < 3; i++) {
        struct exitbus_event again;
        memset(&again, 0xa5, sizeof again);
        check_equal(exitbus_process_wait(process, &again, i - 1), 0);
        check(same_event(&again, &first));
    }
    must_be_empty(all);
    end_handle(process);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

static void *wait_on_thread(void *process)
{
    struct exitbus_event event;
    must_equal(exitbus_process_wait(process, &event, -1), 0);
    must_equal(event.exit_code, 128 + SIGTERM);
    return NULL;
}

static _Atomic unsigned waits_begun;

static void hook_set(int (*hook)(long))
{
    __atomic_store_n(&exitbus_test_syscall, hook, __ATOMIC_RELEASE);
}

static int count_waits(long number)
{
    if (number == SYS_futex)
        atomic_fetch_add(&waits_begun, 1);
    return 0;
}

TEST(process, every_waiter_wakes)
{
    enum { WAITERS = 6 };
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    struct exitbus_event event;
    check_equal(exitbus_process_wait(process, &event, 0), -EAGAIN);
    check_equal(exitbus_process_wait(process, &event, 1), -ETIMEDOUT);
    pthread_t threads[WAITERS];
    hook_set(count_waits);
    for (int i = 0; i < WAITERS; i++)
        threads[i] = thread_start(wait_on_thread, process);
    await(atomic_load(&waits_begun) >= WAITERS);
    check_ok(exitbus_process_signal(process, SIGTERM, 0));
    for (int i = 0; i < WAITERS; i++)
        thread_join(threads[i]);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

#ifdef __GLIBC__ /* a thread of musl ends by a futex */
static void *wait_without_futexes(void *process)
{
    struct exitbus_event event;
    refuse_call(SYS_futex, EPERM); /* of this thread */
    must_equal(exitbus_process_wait(process, &event, 1000000), -ETIMEDOUT);
    must_equal(exitbus_process_signal(process, SIGKILL, 0), 0);
    must_equal(exitbus_process_wait(process, &event, -1), 0);
    must_equal(event.exit_code, 128 + SIGKILL);
    return NULL;
}

TEST(process, wait_where_futexes_are_refused)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    thread_join(thread_start(wait_without_futexes, process));
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}
#endif

#ifdef EXITBUS_INLINE_URCU /* else the library can not see such a section */
TEST(process, no_sleep_in_a_section)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    struct exitbus_event event;
    urcu_bp_read_lock();
    check_equal(exitbus_process_wait(process, &event, 0), -EAGAIN);
    check_equal(exitbus_process_wait(process, &event, -1), -EDEADLK);
    urcu_bp_read_unlock();
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    wait_for(process);
    urcu_bp_read_lock();
    check_ok(exitbus_process_wait(process, &event, -1));
    urcu_bp_read_unlock();
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}
#endif

TEST(process, descriptor_stays_readable)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    int fd = exitbus_process_fd(process), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    check(fd >= 3);
    check_equal(exitbus_process_fd(process), fd);
    check(!fd_readable(fd));
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    check_ok(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &edge));
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    check_equal(epoll_wait(epoll_fd, &edge, 1, -1), 1);
    struct exitbus_event event;
    check_ok(exitbus_process_wait(process, &event, 0)); /* what is readable has an answer */
    check(fd_readable(fd));
    close(epoll_fd);
    end_handle(process);

    process = spawn_handle(bus, "0");
    wait_for(process);
    check(fd_readable(exitbus_process_fd(process))); /* made behind the exit */
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

static struct exitbus_process *race_process;
static _Atomic int race_fd;

static void *ask_for_descriptor(void *nothing)
{
    atomic_store(&race_fd, exitbus_process_fd(race_process));
    return nothing;
}

/* A descriptor that is made while the exit is told is readable: whichever comes first. */
TEST(process, descriptor_made_meanwhile)
{
    struct exitbus *bus = bus_new();
    for (int round = 0; round < scaled(2000); round++) {
        race_process = spawn_handle(bus, "0");
        pthread_t thread = thread_start(ask_for_descriptor, NULL);
        wait_for(race_process);
        thread_join(thread);
        fd_wait(atomic_load(&race_fd));
        end_handle(race_process);
    }
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------- signals */

TEST(process, signals)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    check_equal(exitbus_process_signal(process, -1, 0), -EINVAL);
    check_equal(exitbus_process_signal(process, SIGRTMAX + 1, 0), -EINVAL);
    check_equal(exitbus_process_signal(process, SIGTERM, 0x80), -EINVAL);
    check_ok(exitbus_process_signal(process, 0, 0));
    check_ok(exitbus_process_signal(process, SIGUSR1, 0));
    check_equal(wait_for(process).exit_code, 128 + SIGUSR1);
    check_equal(exitbus_process_signal(process, SIGKILL, 0), -ESRCH);
    check_equal(exitbus_process_signal(process, 0, 0), -ESRCH);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* A leader that ends at once, and a member of its group that holds the pipe until a signal. */
static struct exitbus_process *spawn_group(struct exitbus *bus, int *pipe_end, const char *leader)
{
    int fds[2];
    char command[100];
    check_ok(pipe2(fds, O_CLOEXEC));
    snprintf(command, sizeof command, "%s p >&7 & echo >&7; %s", TINY_CHILD, leader);
    char *argv[] = {"/bin/sh", "-c", command, NULL};
    struct exitbus_spawn_action actions[] = {
        {.kind = EXITBUS_SPAWN_DUP2, .source_fd = fds[1], .fd = 7}};
    struct exitbus_spawn_options options = {
        .argv = argv, .flags = EXITBUS_SPAWN_SETSID, .actions = actions, .action_count = 1};
    struct exitbus_process *process;
    check_ok(exitbus_process_spawn(bus, &options, &process));
    close(fds[1]);
    char byte;
    check_equal(read(fds[0], &byte, 1), 1); /* the member is there */
    *pipe_end = fds[0];
    return process;
}

static void await_end_of_pipe(int fd)
{
    char byte;
    check_equal(read(fd, &byte, 1), 0);
    close(fd);
}

TEST(process, group_is_signalled)
{
    struct exitbus *bus = bus_new();
    int pipe_end;
    struct exitbus_process *process = spawn_group(bus, &pipe_end, "wait");
    check_ok(exitbus_process_signal(process, SIGTERM, EXITBUS_SIGNAL_GROUP));
    check_equal(wait_for(process).exit_code, 128 + SIGTERM);
    await_end_of_pipe(pipe_end);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

static bool pidfds_name_groups(void)
{
    int fd = pidfd_of(getpid());
    bool known = syscall(SYS_pidfd_send_signal, fd, 0, NULL, 1 << 2) == 0 || errno != EINVAL;
    close(fd);
    return known;
}

/* pgid_of_the_dead: the number of the leader is its group's own as long as the group has members.
 */
TEST(process, pgid_of_the_dead)
{
    struct exitbus *bus = bus_new();
    int pipe_end;
    struct exitbus_process *process = spawn_group(bus, &pipe_end, "exit 3");
    check_equal(wait_for(process).exit_code, 3);
    check(is_gone(exitbus_process_pid(process)));
    if (pidfds_name_groups()) {
        check_ok(exitbus_process_signal(process, SIGKILL, EXITBUS_SIGNAL_GROUP));
        await_end_of_pipe(pipe_end);
    } else { /* the group can't be named: nothing is hit */
        check_equal(exitbus_process_signal(process, SIGKILL, EXITBUS_SIGNAL_GROUP), -ESRCH);
        check_ok(kill(-exitbus_process_pid(process), SIGKILL));
        await_end_of_pipe(pipe_end);
    }
    await(exitbus_process_signal(process, SIGKILL, EXITBUS_SIGNAL_GROUP) == -ESRCH);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* As before Linux 6.9: the library refuses the flag to itself, since seccomp can't on every one. */
static int no_groups(long number)
{
    return number == SYS_pidfd_send_signal ? -EINVAL : 0;
}

TEST(process, group_before_linux_6_9)
{
    struct exitbus *bus = bus_new();
    int pipe_end;
    struct exitbus_process *process = spawn_group(bus, &pipe_end, "wait");
    hook_set(no_groups);
    check_ok(exitbus_process_signal(process, SIGTERM, EXITBUS_SIGNAL_GROUP));
    check_equal(wait_for(process).exit_code, 128 + SIGTERM);
    await_end_of_pipe(pipe_end);
    check_equal(exitbus_process_signal(process, SIGTERM, EXITBUS_SIGNAL_GROUP), -ESRCH);
    hook_set(NULL);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* A process that leads no group has none to signal. */
TEST(process, group_of_a_member)
{
    if (!pidfds_name_groups())
        return;
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    check_equal(exitbus_process_signal(process, SIGKILL, EXITBUS_SIGNAL_GROUP), -ESRCH);
    check_ok(exitbus_process_signal(process, 0, 0));
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    wait_for(process);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------- pids that come back */

static void poll_until(struct exitbus_reaper *reaper, struct exitbus_process *process,
                       struct exitbus_event *event)
{
    while (exitbus_process_wait(process, event, 0) == -EAGAIN) {
        fd_wait(exitbus_reaper_fd(reaper));
        must(exitbus_reaper_poll(reaper) >= 0);
    }
}

static void stranger_has_the_pid(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct exitbus_process *process = spawn_handle(bus, "p");
    pid_t pid = exitbus_process_pid(process);
    must_equal(kill(pid, SIGTERM), 0);
    must_equal(waitpid(pid, NULL, 0), pid); /* another waiter, before the reaper has seen it */
    struct child stranger = child_with_pid(pid, 41);
    uint64_t start;
    must_equal(exitbus_process_signal(process, SIGKILL, 0), -ESRCH);
    must_equal(exitbus_process_signal(process, SIGKILL, EXITBUS_SIGNAL_GROUP), -ESRCH);
    must_equal(exitbus_process_start_time(process, &start), -ESRCH);
    struct exitbus_process *adopted;
    must_equal(exitbus_process_adopt(bus, pid, 0, &adopted), 0);
    struct exitbus_event event;
    poll_until(reaper, process, &event);
    must(event.exit_code == 128 + SIGTERM || (event.flags & EXITBUS_EVENT_STATUS_LOST));
    must_equal(exitbus_process_wait(adopted, &event, 0), -EAGAIN);
    child_end(stranger);
    poll_until(reaper, adopted, &event);
    must_equal(event.exit_code, 41);
    must_equal(exitbus_process_wait(process, &event, 0), 0);
    must(event.exit_code != 41);
    must_equal(stats_of(bus).published, 2);
    must_equal(exitbus_process_unref(process), 0);
    must_equal(exitbus_process_unref(adopted), 0);
    must_equal(exitbus_reaper_stop(reaper), 0);
    must_equal(exitbus_destroy(bus), 0);
}

TEST(process, kill_hits_stranger)
{
    in_a_namespace(stranger_has_the_pid);
}

/* -------------------------------------------------------------------------------------- adopt */

static struct exitbus_process *adopt(struct exitbus *bus, pid_t pid)
{
    struct exitbus_process *process;
    check_ok(exitbus_process_adopt(bus, pid, 0, &process));
    return process;
}

static void adopt_under(enum exitbus_reaper_mode mode)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_reaper *reaper = NULL;
    struct child alive = child_fork(3), dead = child_fork(4);
    if (mode)
        reaper = reaper_of(bus, mode, 0);
    struct exitbus_process *first = adopt(bus, alive.pid), *second = adopt(bus, alive.pid);
    check_equal(exitbus_process_pid(first), alive.pid);
    child_end(dead);                  /* first: it holds the other one's pipe open */
    if (mode != EXITBUS_REAPER_ALL) { /* which has it before anybody asks */
        await(is_zombie(dead.pid));
        struct exitbus_process *zombie = adopt(bus, dead.pid);
        check_equal(wait_for(zombie).exit_code, 4);
        check_equal(receive_pid(all, dead.pid).exit_code, 4);
        end_handle(zombie);
    } else {
        check_equal(receive_pid(all, dead.pid).exit_code, 4);
    }
    child_end(alive);
    struct exitbus_event event = wait_for(first), other = wait_for(second);
    check_equal(event.exit_code, 3);
    check(same_event(&event, &other));
    check_equal(receive_pid(all, alive.pid).seq, event.seq);
    await(no_children());
    must_be_empty(all);
    end_handle(first);
    end_handle(second);
    if (mode)
        check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(process, adopt_by_the_bus)
{
    adopt_under(0);
}

TEST(process, adopt_beside_watched)
{
    adopt_under(EXITBUS_REAPER_WATCHED);
}

TEST(process, adopt_beside_all)
{
    adopt_under(EXITBUS_REAPER_ALL);
}

/* exit_invented: no handle of a process that is no child, or not there any more. */
TEST(process, exit_invented)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = NULL;
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    check_equal(exitbus_process_adopt(bus, getpid(), 0, &process), -ECHILD);
    check_equal(exitbus_process_adopt(bus, 1, 0, &process), -ECHILD);
    struct child child = child_fork(1);
    child_end(child);
    check_equal(waitpid(child.pid, NULL, 0), child.pid);
    check_equal(exitbus_process_adopt(bus, child.pid, 0, &process), -ECHILD);
    check_equal(exitbus_process_adopt(bus, 0, 0, &process), -EINVAL);
    check_equal(exitbus_process_adopt(bus, -1, 0, &process), -EINVAL);
    check_equal(exitbus_process_adopt(bus, 1, 1, &process), -EINVAL);
    check_equal(exitbus_process_adopt(bus, 1, 0, NULL), -EINVAL);
    check_equal(exitbus_process_adopt(NULL, 1, 0, &process), -EINVAL);
    check(process == NULL);
    check_ok(exitbus_publish_pid(bus, 1, 1)); /* of the host: it ends no handle */
    check_equal(exitbus_subscription_pending(all), 1);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* What the host publishes under the same pid is not the exit of this process. */
TEST(process, exit_of_another_by_that_pid)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    struct exitbus_event event;
    check_ok(exitbus_publish_pid(bus, exitbus_process_pid(process), 99));
    check_equal(exitbus_process_wait(process, &event, 0), -EAGAIN);
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    check_equal(wait_for(process).exit_code, 128 + SIGKILL);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* Another waiter of the host takes the child: the handle ends all the same. */
TEST(process, child_taken_by_another_waiter)
{
    struct exitbus *bus = bus_new();
    struct child child = child_fork(5);
    struct exitbus_process *process = adopt(bus, child.pid);
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    child_end(child);
    int status;
    check_equal(waitpid(child.pid, &status, 0), child.pid);
    while (exitbus_reaper_poll(reaper) == 0)
        fd_wait(exitbus_reaper_fd(reaper));
    struct exitbus_event event = wait_for(process);
    check_equal(event.pid, child.pid);
    check(event.exit_code == 5 || (event.flags & EXITBUS_EVENT_STATUS_LOST));
    end_handle(process);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(process, adopt_by_pidfd)
{
    struct exitbus *bus = bus_new();
    struct child child = child_fork(6);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_process *process;
    int pidfd = pidfd_of(child.pid);
    check_ok(exitbus_process_adopt_pidfd(bus, pidfd, 0, &process));
    close(pidfd);
    check_equal(exitbus_process_pid(process), child.pid);
    child_end(child);
    struct exitbus_event event = wait_for(process);
    check_equal(event.exit_code, 6);
    check_equal(receive_pid(all, child.pid).seq, event.seq);
    end_handle(process);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(process, pidfds_that_are_none)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = NULL;
    unsigned before = open_fds();
    check_equal(exitbus_process_adopt_pidfd(bus, -1, 0, &process), -EINVAL);
    check_equal(exitbus_process_adopt_pidfd(bus, 999, 0, &process), -EBADF);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[2];
    check_equal(exitbus_process_adopt_pidfd(bus, file, 0, &process), -EINVAL);
    check_equal(exitbus_process_adopt_pidfd(bus, file, 1, &process), -EINVAL);
    close(file);
    check_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    check_equal(exitbus_process_adopt_pidfd(bus, fds[0], 0, &process), -EINVAL);
    close(fds[0]);
    close(fds[1]);
    struct child child = child_fork(1);
    int pidfd = pidfd_of(child.pid);
    child_end(child);
    check_equal(waitpid(child.pid, NULL, 0), child.pid);
    check_equal(exitbus_process_adopt_pidfd(bus, pidfd, 0, &process), -ESRCH);
    close(pidfd);
    int thread = (int)syscall(SYS_pidfd_open, getpid(), O_EXCL); /* Linux 6.9 */
    if (thread >= 0) {
        check_equal(exitbus_process_adopt_pidfd(bus, thread, 0, &process), -EINVAL);
        close(thread);
    }
    check(process == NULL);
    check_ok(exitbus_destroy(bus));
    await(open_fds() <= before + 1); /* the worker's own may have come meanwhile */
}

/* ------------------------------------------------------------------------- foreign processes */

/* A grandchild, and a way to let it exit and its parent reap it. */
struct foreign {
    pid_t pid, parent;
    int pidfd;
    int exit, reap; /* closing lets it */
};

static struct foreign foreign_start(int code)
{
    int said[2], exit_fds[2], reap_fds[2];
    char byte;
    check_ok(pipe2(said, O_CLOEXEC));
    check_ok(pipe2(exit_fds, O_CLOEXEC));
    check_ok(pipe2(reap_fds, O_CLOEXEC));
    struct foreign foreign = {.parent = fork(), .exit = exit_fds[1], .reap = reap_fds[1]};
    if (foreign.parent == 0) {
        pid_t pid = fork();
        close(exit_fds[1]);
        close(reap_fds[1]);
        if (pid == 0)
            _exit(read(exit_fds[0], &byte, 1) == 0 ? code : 99);
        must(write(said[1], &pid, sizeof pid) == sizeof pid);
        must(read(reap_fds[0], &byte, 1) == 0);
        _exit(waitpid(pid, NULL, 0) == pid ? 0 : 98);
    }
    check_equal(read(said[0], &foreign.pid, sizeof foreign.pid), sizeof foreign.pid);
    int unused[] = {said[0], said[1], exit_fds[0], reap_fds[0]};
    for (int i = 0; i < 4; i++)
        close(unused[i]);
    foreign.pidfd = pidfd_of(foreign.pid);
    check(foreign.pidfd >= 0);
    return foreign;
}

static void foreign_reap(struct foreign *foreign)
{
    close(foreign->reap);
    check_equal(waitpid(foreign->parent, NULL, 0), foreign->parent);
}

static struct exitbus_process *adopt_foreign(struct exitbus *bus, const struct foreign *foreign)
{
    struct exitbus_process *process;
    check_ok(exitbus_process_adopt_pidfd(bus, foreign->pidfd, 0, &process));
    check_equal(exitbus_process_pid(process), foreign->pid);
    return process;
}

/* Does the kernel tell the status of a process that another one has reaped (Linux 6.15)? */
static bool statuses_are_told(void)
{
    struct child child = child_fork(1);
    int pidfd = pidfd_of(child.pid), status;
    child_end(child);
    check_equal(waitpid(child.pid, NULL, 0), child.pid);
    bool told = sys_pidfd_exit_status(pidfd, &status) == 0;
    close(pidfd);
    return told;
}

TEST(process, foreign_status)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    bool told = statuses_are_told();
    struct foreign foreign = foreign_start(21);
    struct exitbus_process *process = adopt_foreign(bus, &foreign);
    struct exitbus_process *second = adopt_foreign(bus, &foreign);
    struct exitbus_event event;
    check_equal(exitbus_process_wait(process, &event, 0), -EAGAIN);
    check_ok(exitbus_process_signal(process, 0, 0));
    close(foreign.reap); /* its parent waits */
    close(foreign.exit);
    event = wait_for(process);
    check_equal(event.pid, foreign.pid);
    check_equal(event.seq, 0);
    check_equal(event.exit_code, told ? 21 : -1);
    check_equal(event.flags, told ? 0 : EXITBUS_EVENT_STATUS_LOST);
    check_equal(wait_for(second).exit_code, event.exit_code);
    check_equal(exitbus_process_signal(process, 0, 0), -ESRCH);
    check_equal(waitpid(foreign.parent, NULL, 0), foreign.parent);
    must_be_empty(all); /* its pid is not ours to tell */
    check_equal(stats_of(bus).published, 0);
    end_handle(process);
    end_handle(second);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(process, foreign_killed)
{
    struct exitbus *bus = bus_new();
    struct foreign foreign = foreign_start(0);
    struct exitbus_process *process = adopt_foreign(bus, &foreign);
    close(foreign.reap);
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    struct exitbus_event event = wait_for(process);
    check(event.exit_code == 128 + SIGKILL || (event.flags & EXITBUS_EVENT_STATUS_LOST));
    check_equal(waitpid(foreign.parent, NULL, 0), foreign.parent);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* A parent that does not reap holds nobody up. */
TEST(process, foreign_zombie)
{
    struct exitbus *bus = bus_new();
    struct foreign foreign = foreign_start(22);
    struct exitbus_process *process = adopt_foreign(bus, &foreign);
    close(foreign.exit);
    struct exitbus_event event = wait_for(process);
    check_equal(event.flags, EXITBUS_EVENT_STATUS_LOST);
    check_equal(event.exit_code, -1);
    foreign_reap(&foreign);
    check_equal(wait_for(process).exit_code, -1); /* it stays */
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* Without a handle nobody watches it: no descriptor, and no reaper, stays for it. */
TEST(process, foreign_let_go)
{
    struct exitbus *bus = bus_new(), *other = bus_new();
    struct foreign foreign = foreign_start(23);
    struct exitbus_process *process = adopt_foreign(bus, &foreign);
    unsigned before = open_fds();
    check_ok(exitbus_process_ref(process));
    end_handle(process);
    check_equal(open_fds(), before);
    end_handle(process);
    await(open_fds() < before);
    struct exitbus_reaper *reaper = reaper_of(other, EXITBUS_REAPER_ALL, 0);
    close(foreign.exit);
    close(foreign.reap);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(other));
    check_ok(exitbus_destroy(bus));
}

/* The bus ends while foreign processes are watched, and their handles are given up. */
TEST(process, foreign_let_go_while_the_bus_ends)
{
    struct foreign foreign = foreign_start(24);
    unsigned before = open_fds();
    for (int round = 0; round < 50; round++) {
        struct exitbus *bus = bus_new();
        struct exitbus_process *first = adopt_foreign(bus, &foreign);
        struct exitbus_process *second = adopt_foreign(bus, &foreign);
        if (round % 2)
            end_handle(first);
        check_ok(exitbus_destroy(bus));
        if (round % 2 == 0)
            end_handle(first);
        struct exitbus_event event;
        check_equal(exitbus_process_wait(second, &event, -1), -ESHUTDOWN);
        check_ok(exitbus_process_signal(second, 0, 0));
        end_handle(second);
    }
    await(open_fds() <= before + 2); /* those of the worker's own, made meanwhile */
    close(foreign.exit);
    foreign_reap(&foreign);
}

/* --------------------------------------------------------------------------------- the end */

/* A handle that can never be told says so (G12). */
TEST(process, bus_ends_first)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    int fd = exitbus_process_fd(process);
    pid_t pid = exitbus_process_pid(process);
    check_ok(exitbus_destroy(bus));
    struct exitbus_event event;
    check_equal(exitbus_process_wait(process, &event, -1), -ESHUTDOWN);
    check(fd_readable(fd));
    check_ok(exitbus_process_signal(process, SIGKILL, 0)); /* it still names the process */
    check_equal(waitpid(pid, NULL, 0), pid);
    check_equal(exitbus_process_signal(process, SIGKILL, 0), -ESRCH);
    end_handle(process);
}

static void *wait_for_shutdown(void *process)
{
    struct exitbus_event event;
    must_equal(exitbus_process_wait(process, &event, -1), -ESHUTDOWN);
    return NULL;
}

TEST(process, bus_ends_under_a_waiter)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "p");
    hook_set(count_waits);
    pthread_t thread = thread_start(wait_for_shutdown, process);
    await(atomic_load(&waits_begun) > 0);
    check_ok(exitbus_destroy(bus));
    thread_join(thread);
    check_ok(exitbus_process_signal(process, SIGKILL, 0));
    end_handle(process);
}

/* A child goes on without its handle, and is collected. */
TEST(process, handle_given_up)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_process *process = spawn_handle(bus, "p");
    pid_t pid = exitbus_process_pid(process);
    end_handle(process);
    check_ok(kill(pid, SIGTERM));
    check_equal(receive_pid(all, pid).exit_code, 128 + SIGTERM);
    await(no_children());
    check_ok(exitbus_process_unref(NULL));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* Reapers come and go; the handle is told by whichever collects. */
TEST(process, reapers_change)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *spawned = spawn_handle(bus, "p");
    struct child child = child_fork(8);
    struct exitbus_process *adopted = adopt(bus, child.pid);
    for (int i = 0; i < 6; i++)
        check_ok(
            exitbus_reaper_stop(reaper_of(bus, i % 2 ? EXITBUS_REAPER_ALL : EXITBUS_REAPER_WATCHED,
                                          i % 3 == 0 ? EXITBUS_REAPER_POLLED : 0)));
    child_end(child);
    check_ok(exitbus_process_signal(spawned, SIGKILL, 0));
    check_equal(wait_for(spawned).exit_code, 128 + SIGKILL);
    check_equal(wait_for(adopted).exit_code, 8);
    end_handle(spawned);
    end_handle(adopted);
    check_ok(exitbus_destroy(bus));
}

static struct exitbus_process *inherited;
static struct exitbus *inherited_bus;

static void use_inherited(void)
{
    struct exitbus_event event;
    struct exitbus_process *fresh;
    uint64_t time;
    must_equal(exitbus_process_wait(inherited, &event, 0), -ESTALE);
    must_equal(exitbus_process_fd(inherited), -ESTALE);
    must_equal(exitbus_process_signal(inherited, 0, 0), -ESTALE);
    must_equal(exitbus_process_pid(inherited), -ESTALE);
    must_equal(exitbus_process_pidfd(inherited), -ESTALE);
    must_equal(exitbus_process_start_time(inherited, &time), -ESTALE);
    must_equal(exitbus_process_ref(inherited), -ESTALE);
    must_equal(exitbus_process_unref(inherited), -ESTALE);
    must_equal(exitbus_process_adopt(inherited_bus, 1, 0, &fresh), -ESTALE);
    must_equal(exitbus_process_adopt_pidfd(inherited_bus, 0, 0, &fresh), -ESTALE);
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    must_equal(exitbus_process_spawn(inherited_bus, &options, &fresh), -ESTALE);
}

TEST(process, forked_child)
{
    inherited_bus = bus_new();
    inherited = spawn_handle(inherited_bus, "p");
    check_equal(in_a_child(use_inherited), 0);
    check_ok(exitbus_process_signal(inherited, SIGKILL, 0));
    check_equal(wait_for(inherited).exit_code, 128 + SIGKILL);
    end_handle(inherited);
    check_ok(exitbus_destroy(inherited_bus));
}

TEST(process, bad_arguments)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = NULL;
    struct exitbus_event event;
    uint64_t time;
    struct exitbus_spawn_options options = {0};
    check_equal(exitbus_process_spawn(bus, &options, &process), -EINVAL);
    check_equal(exitbus_process_spawn(bus, NULL, &process), -EINVAL);
    check_equal(exitbus_process_wait(NULL, &event, 0), -EINVAL);
    check_equal(exitbus_process_fd(NULL), -EINVAL);
    check_equal(exitbus_process_signal(NULL, 0, 0), -EINVAL);
    check_equal(exitbus_process_pid(NULL), -EINVAL);
    check_equal(exitbus_process_pidfd(NULL), -EINVAL);
    check_equal(exitbus_process_start_time(NULL, &time), -EINVAL);
    check_equal(exitbus_process_ref(NULL), -EINVAL);
    check(process == NULL);
    process = spawn_handle(bus, "0");
    check_equal(exitbus_process_wait(process, NULL, 0), -EINVAL);
    check_equal(exitbus_process_start_time(process, NULL), -EINVAL);
    wait_for(process);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
    check_equal(exitbus_process_spawn(NULL, &options, &process), -EINVAL);
}

/* ------------------------------------------------------------------------------ identity, cost */

TEST(process, identity)
{
    struct exitbus *bus = bus_new();
    uint64_t before = (uint64_t)sys_clock_ns(CLOCK_BOOTTIME), start, again;
    struct exitbus_process *process = spawn_handle(bus, "p");
    int pidfd = exitbus_process_pidfd(process);
    check(pidfd >= 3);
    check(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
    check_ok(exitbus_process_start_time(process, &start));
    uint64_t after = (uint64_t)sys_clock_ns(CLOCK_BOOTTIME), tick = 10000000;
    check(start + tick >= before && start <= after + tick);
    check_ok(syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0));
    wait_for(process);
    check_ok(exitbus_process_start_time(process, &again)); /* known from before */
    check(start == again);
    int dead = exitbus_process_pidfd(process);
    check(dead >= 0);
    close(dead);
    close(pidfd);
    end_handle(process);
    process = spawn_handle(bus, "0");
    wait_for(process);
    check_equal(exitbus_process_start_time(process, &start), -ESRCH);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

TEST(process, idle_handles_cost)
{
    enum { HANDLES = 200 };
    static struct exitbus_process *handles[HANDLES];
    struct exitbus *bus = bus_new();
    struct exitbus_process *first = spawn_handle(bus, "p");
    unsigned before = open_fds();
    uint64_t bytes = stats_of(bus).bytes;
    for (int i = 0; i < HANDLES; i++)
        handles[i] = spawn_handle(bus, "p");
    check_equal(open_fds() - before, HANDLES);
    check((stats_of(bus).bytes - bytes) / HANDLES <= 400);
    for (int i = 0; i < HANDLES; i++) {
        check_ok(exitbus_process_signal(handles[i], SIGKILL, 0));
        wait_for(handles[i]);
        end_handle(handles[i]);
    }
    check_ok(exitbus_process_signal(first, SIGKILL, 0));
    wait_for(first);
    end_handle(first);
    await(open_fds() < before);
    check_ok(exitbus_destroy(bus));
}

/* A spawn that fails leaves no handle, no process and no descriptor. */
TEST(process, spawn_fails)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_handle(bus, "0");
    wait_for(process);
    end_handle(process);
    await(no_children());
    unsigned before = open_fds();
    char *argv[] = {"/nonexistent", NULL};
    struct exitbus_spawn_report report;
    struct exitbus_spawn_options options = {.argv = argv, .report = &report};
    process = NULL;
    check_equal(exitbus_process_spawn(bus, &options, &process), -ENOENT);
    check_equal(report.step, EXITBUS_SPAWN_STEP_EXEC);
    check(process == NULL);
    check(no_children());
    await(open_fds() <= before); /* the reaper may still have had the first one's */
    struct rlimit limit, none;
    check_ok(getrlimit(RLIMIT_NOFILE, &limit));
    none = limit;
    none.rlim_cur = 0;
    check_ok(setrlimit(RLIMIT_NOFILE, &none));
    options.argv = (char *[]){TINY_CHILD, "0", NULL};
    check_equal(exitbus_process_spawn(bus, &options, &process), -EMFILE);
    check_ok(setrlimit(RLIMIT_NOFILE, &limit));
    check(process == NULL);
    check(no_children());
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------- direct */

static struct exitbus_process *spawn_direct(struct exitbus *bus, const char *what)
{
    char *argv[] = {TINY_CHILD, (char *)what, NULL};
    return spawn_argv(bus, argv, EXITBUS_SPAWN_DIRECT);
}

/* Nobody collects it until somebody waits, in whatever way. */
TEST(process, direct)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_process *process = spawn_direct(bus, "7"), *other = spawn_direct(bus, "8");
    pid_t pid = exitbus_process_pid(process);
    await(is_zombie(pid) && is_zombie(exitbus_process_pid(other)));
    must_be_empty(all);
    struct exitbus_event event = wait_for(process), published, again;
    check_equal(event.exit_code, 7);
    check_ok(exitbus_receive(all, &published, 0)); /* by this thread, before the wait returned */
    check(same_event(&published, &event));
    check(is_gone(pid));
    check_ok(exitbus_process_wait(process, &again, 0));
    check(same_event(&again, &event));
    check(fd_readable(exitbus_process_fd(process)));
    check_equal(exitbus_process_signal(process, 0, 0), -ESRCH);
    check_ok(exitbus_process_wait(other, &event, 0)); /* a look collects, too */
    check_equal(event.exit_code, 8);
    check(no_children());
    end_handle(process);
    end_handle(other);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(process, direct_is_for_handles)
{
    struct exitbus *bus = bus_new();
    char *argv[] = {TINY_CHILD, "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .flags = EXITBUS_SPAWN_DIRECT};
    pid_t pid;
    check_equal(exitbus_spawn(bus, &options, &pid, NULL), -EINVAL);
    check(no_children());
    options.argv = (char *[]){"/nonexistent", NULL};
    struct exitbus_process *process;
    check_equal(exitbus_process_spawn(bus, &options, &process), -ENOENT);
    check(no_children());
    check_ok(exitbus_reaper_stop(reaper_of(bus, EXITBUS_REAPER_ALL, 0))); /* nothing is left */
    check_ok(exitbus_destroy(bus));
}

TEST(process, direct_in_time)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_direct(bus, "p");
    struct exitbus_event event;
    check_equal(exitbus_process_wait(process, &event, 0), -EAGAIN);
    for (int i = 0; i < 3; i++)
        check_equal(exitbus_process_wait(process, &event, 100000), -ETIMEDOUT);
    check_ok(exitbus_process_signal(process, SIGTERM, 0));
    check_ok(exitbus_process_wait(process, &event, INT64_MAX));
    check_equal(event.exit_code, 128 + SIGTERM);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

static void *wait_in_time(void *process)
{
    struct exitbus_event event;
    int result = exitbus_process_wait(process, &event, 1000000);
    must(result == -ETIMEDOUT);
    return NULL;
}

/* One waits directly, and the others for it; whichever gives up, the others are told. */
TEST(process, direct_beside_others)
{
    enum { WAITERS = 4 };
    struct exitbus *bus = bus_new();
    for (int round = 0; round < scaled(200); round++) {
        struct exitbus_process *process = spawn_direct(bus, "p");
        pthread_t threads[WAITERS];
        for (int i = 0; i < WAITERS; i++)
            threads[i] = thread_start(i % 2 ? wait_on_thread : wait_in_time, process);
        for (int i = 0; i < WAITERS; i += 2)
            thread_join(threads[i]);
        check_ok(exitbus_process_signal(process, SIGTERM, 0));
        for (int i = 1; i < WAITERS; i += 2)
            thread_join(threads[i]);
        end_handle(process);
    }
    check_equal(stats_of(bus).published, scaled(200));
    check(no_children());
    check_ok(exitbus_destroy(bus));
}

/* The reaper has it from the moment on at which an event loop asks for it, or nobody can. */
TEST(process, direct_left_to_the_reaper)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_process *process = spawn_direct(bus, "5");
    await(is_zombie(exitbus_process_pid(process)));
    fd_wait(exitbus_process_fd(process));
    check_equal(wait_for(process).exit_code, 5);
    check_ok(exitbus_receive(all, &(struct exitbus_event){0}, 0));
    end_handle(process);
    process = spawn_direct(bus, "6");
    pid_t pid = exitbus_process_pid(process);
    end_handle(process);
    check_equal(receive_pid(all, pid).exit_code, 6);
    await(no_children());
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(process, direct_and_reapers_of_all)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL};
    struct exitbus_reaper *reaper;
    struct exitbus_process *process = spawn_direct(bus, "5");
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -EBUSY);
    check_equal(wait_for(process).exit_code, 5);
    end_handle(process);
    check_ok(exitbus_reaper_start(bus, &options, &reaper));
    process = spawn_direct(bus, "6"); /* the flag means nothing beside one */
    fd_wait(exitbus_process_fd(process));
    check_equal(wait_for(process).exit_code, 6);
    end_handle(process);
    check_ok(exitbus_reaper_stop(reaper));
    reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    process = spawn_direct(bus, "7"); /* which nobody polls */
    check_equal(wait_for(process).exit_code, 7);
    end_handle(process);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

TEST(process, direct_when_the_bus_ends)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *idle = spawn_direct(bus, "p"), *process = spawn_direct(bus, "p");
    struct exitbus_process *unused = spawn_direct(bus, "p");
    exitbus_process_wait(idle, &(struct exitbus_event){0}, 1); /* makes what the others wait at */
    hook_set(count_waits);
    pthread_t thread = thread_start(wait_for_shutdown, process);
    check_ok(exitbus_destroy(bus));
    thread_join(thread);
    struct exitbus_event event;
    check_equal(exitbus_process_wait(idle, &event, -1), -ESHUTDOWN);
    struct exitbus_process *all[] = {idle, process, unused};
    for (int i = 0; i < 3; i++) {
        check_ok(exitbus_process_signal(all[i], SIGKILL, 0));
        end_handle(all[i]);
    }
}

TEST(process, direct_child_taken_by_another_waiter)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_direct(bus, "9");
    check_equal(waitpid(exitbus_process_pid(process), NULL, 0), exitbus_process_pid(process));
    struct exitbus_event event = wait_for(process);
    check(event.exit_code == 9 || (event.flags & EXITBUS_EVENT_STATUS_LOST));
    check_equal(stats_of(bus).published, 1);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* The host has closed the pidfd, and its number is that of another child, a zombie. */
TEST(process, direct_pidfd_is_of_another)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_direct(bus, "p"), *other = spawn_direct(bus, "8");
    pid_t pid = exitbus_process_pid(process), other_pid = exitbus_process_pid(other);
    await(is_zombie(other_pid));
    must(dup2(find_pidfd(other_pid), find_pidfd(pid)) >= 3);
    pthread_t thread = thread_start(wait_on_thread, process);
    kill(pid, SIGTERM);
    thread_join(thread);
    check_equal(wait_for(process).pid, pid);
    check_equal(wait_for(other).exit_code, 8);
    check_equal(stats_of(bus).published, 2);
    end_handle(process);
    end_handle(other);
    check_ok(exitbus_destroy(bus));
}

/* A kernel that does not let the waiter sleep: the reaper does it. */
static int refuse_ppoll(long number)
{
    return number == SYS_ppoll ? -EINTR : 0;
}

TEST(process, direct_where_poll_is_refused)
{
    struct exitbus *bus = bus_new();
    struct exitbus_process *process = spawn_direct(bus, "p");
    hook_set(refuse_ppoll);
    pthread_t thread = thread_start(wait_on_thread, process);
    check_ok(exitbus_process_signal(process, SIGTERM, 0));
    thread_join(thread);
    hook_set(NULL);
    end_handle(process);
    check_ok(exitbus_destroy(bus));
}

/* -------------------------------------------------------------------------------------- races */

static struct halt spawn_halt;

static void *spawn_halted(void *bus)
{
    halt_begin(&spawn_halt);
    struct exitbus_process *process = spawn_handle(bus, "33");
    halt_end(&spawn_halt);
    return process;
}

/* The exit is published, and the child reaped, before the spawner has handed its pidfd over. */
static void exit_before_commit(enum exitbus_reaper_mode mode, enum probe step)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_reaper *reaper = reaper_of(bus, mode, 0);
    struct exitbus_event event;
    void *process;
    halt_hook_set();
    halt_init(&spawn_halt, step, 0);
    pthread_t thread = thread_start(spawn_halted, bus);
    check(halt_await(&spawn_halt));
    if (mode == EXITBUS_REAPER_ALL) {
        check_ok(exitbus_receive(all, &event, -1));
        await(is_gone(event.pid));
    }
    halt_release(&spawn_halt);
    check_equal(pthread_join(thread, &process), 0);
    struct exitbus_event own = wait_for(process);
    check_equal(own.exit_code, 33);
    if (mode != EXITBUS_REAPER_ALL)
        check_ok(exitbus_receive(all, &event, -1));
    check(same_event(&own, &event));
    must_be_empty(all);
    end_handle(process);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

TEST(process, exit_before_the_pidfd_is_known)
{
    exit_before_commit(EXITBUS_REAPER_ALL, PROBE_WATCH_COMMITTING);
}

TEST(process, exit_before_the_watch_is_handed_over)
{
    exit_before_commit(EXITBUS_REAPER_ALL, PROBE_WATCH_POLLED);
}

TEST(process, exit_while_the_watch_is_handed_over)
{
    exit_before_commit(EXITBUS_REAPER_WATCHED, PROBE_WATCH_POLLED);
}

static _Atomic unsigned long waited;

static void *spawn_and_wait(void *bus)
{
    for (int i = 0; i < scaled(1500); i++) {
        char code[8];
        snprintf(code, sizeof code, "%d", i % 100);
        struct exitbus_process *process =
            i % 4 < 2 ? spawn_handle(bus, code) : spawn_direct(bus, code);
        if (i % 3 == 0)
            fd_wait(exitbus_process_fd(process));
        struct exitbus_event event = {0};
        must_equal(exitbus_process_wait(process, &event, i % 3 == 0 ? 0 : -1), 0);
        must_equal(event.exit_code, i % 100);
        must_equal(event.pid, exitbus_process_pid(process));
        must_equal(exitbus_process_unref(process), 0);
        atomic_fetch_add(&waited, 1);
    }
    return NULL;
}

static void many_at_once(enum exitbus_reaper_mode mode)
{
    enum { SPAWNERS = 3 };
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = mode ? reaper_of(bus, mode, 0) : NULL;
    pthread_t threads[SPAWNERS];
    unsigned before = open_fds();
    for (int i = 0; i < SPAWNERS; i++)
        threads[i] = thread_start(spawn_and_wait, bus);
    for (int i = 0; i < SPAWNERS; i++)
        thread_join(threads[i]);
    check_equal(stats_of(bus).published, atomic_load(&waited));
    await(no_children());
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
    await(open_fds() <= before + 1);
}

TEST(process, many_at_once_watched)
{
    many_at_once(0);
}

TEST(process, many_at_once_all)
{
    many_at_once(EXITBUS_REAPER_ALL);
}
