/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Failures that broke other supervisors, one test each. Every test sets up the situation as it was,
 * with real children where it was about children, and fails if the failure can happen here.
 */
#include "support/children.h"
#include "support/harness.h"

#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/compiler.h"
#include "base/probe.h"
#include "base/sys.h"

/* --------------------------------------------------------------------- the slow, and the stopped
 */

/* Bounded channels: a subscriber that does not receive stops the reaper. Fails by hanging. */
TEST(incidents, blocked_reaper)
{
    enum { CHILDREN = 200 };
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *slow = subscribe(bus, exitbus_topic_all());
    for (int i = 0; i < CHILDREN; i++) {
        struct exitbus_subscription *own;
        pid_t pid = spawn_tiny(bus, "3", &own);
        must_equal(receive_pid(own, pid).exit_code, 3);
        must_equal(exitbus_unsubscribe(own), 0);
    }
    check_equal(exitbus_subscription_pending(slow), CHILDREN);
    uint64_t seq = 0;
    struct exitbus_event event;
    for (int i = 0; i < CHILDREN; i++) {
        check_ok(exitbus_receive(slow, &event, 0));
        check(event.seq > seq);
        seq = event.seq;
    }
    check_ok(exitbus_unsubscribe(slow));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* A notification that is given up after a time: later exits overtake it, or it is lost. Here a
 * receiver sleeps through more events than any channel would hold, and then gets all, in order. */
TEST(incidents, timed_out_notify)
{
    enum { EVENTS = 20000 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *late = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_subscription *prompt = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_event event;
    for (int i = 1; i <= EVENTS; i++) {
        check_ok(exitbus_publish_pid(bus, i, 0));
        check_ok(exitbus_receive(prompt, &event, -1));
        check_equal(event.pid, i);
    }
    for (int i = 1; i <= EVENTS; i++) {
        check_ok(exitbus_receive(late, &event, 0));
        check_equal(event.pid, i);
    }
    check_equal(exitbus_receive(late, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(late));
    check_ok(exitbus_unsubscribe(prompt));
    check_ok(exitbus_destroy(bus));
}

static sem_t halt_reached, halt_over;
static _Thread_local enum probe halt_at = PROBE_COUNT;

static void halt_here(enum probe step)
{
    if (step != halt_at)
        return;
    halt_at = PROBE_COUNT;
    sem_post(&halt_reached);
    while (sem_wait(&halt_over) != 0)
        continue;
}

static void halt_set_up(void)
{
    sem_init(&halt_reached, 0, 0);
    sem_init(&halt_over, 0, 0);
    __atomic_store_n(&exitbus_probe_hook, halt_here, __ATOMIC_RELEASE);
}

static void halt_wait_reached(void)
{
    while (sem_wait(&halt_reached) != 0)
        continue;
}

static void *publish_and_halt(void *bus)
{
    halt_at = PROBE_DELIVER_BEFORE_APPEND;
    must_equal(exitbus_publish_pid(bus, 1, 0), 0);
    return NULL;
}

/* The notifier holds a lock while it sends; a receiver, holding an event, wants that lock to
 * unsubscribe. Here the notifier is stopped in the middle of sending. Fails by hanging. */
TEST(incidents, lock_cycle)
{
    halt_set_up();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *other = subscribe(bus, exitbus_topic_all());
    struct exitbus_event event;
    check_ok(exitbus_publish_pid(bus, 9, 0));
    check_ok(exitbus_receive(subscription, &event, 0)); /* in its hands … */
    pthread_t notifier = thread_start(publish_and_halt, bus);
    halt_wait_reached();
    check_ok(exitbus_unsubscribe(subscription)); /* … while it unsubscribes */
    check_ok(exitbus_publish_pid(bus, 2, 0));
    check_equal(exitbus_subscription_pending(other), 3);
    sem_post(&halt_over);
    thread_join(notifier);
    check_equal(exitbus_subscription_pending(other), 3);
    check_ok(exitbus_unsubscribe(other));
    check_ok(exitbus_destroy(bus));
}

/* A "lock-free" queue whose receiver waits for a sender that has reserved a slot and was stopped.
 */
TEST(incidents, stalled_sender)
{
    halt_set_up();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    pthread_t sender = thread_start(publish_and_halt, bus);
    halt_wait_reached();
    struct exitbus_event event;
    check_equal(exitbus_receive(subscription, &event, 0), -EAGAIN); /* comes back at once */
    check_ok(exitbus_publish_pid(bus, 2, 0));
    check_ok(exitbus_receive(subscription, &event, -1)); /* the stopped one's, finished for it */
    check_equal(event.pid, 1);
    check_ok(exitbus_receive(subscription, &event, -1));
    check_equal(event.pid, 2);
    sem_post(&halt_over);
    thread_join(sender);
    check_equal(exitbus_receive(subscription, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_destroy(bus));
}

static pthread_key_t at_thread_exit;

static void drop_subscription(void *subscription)
{
    must_equal(exitbus_unsubscribe(subscription), 0);
}

static void *exit_while_subscribed(void *bus)
{
    pthread_setspecific(at_thread_exit, subscribe(bus, exitbus_topic_all()));
    return NULL;
}

/* Unsubscribe in a destructor that needs a runtime or a lock: here it runs at the exit of a plain
 * thread, while a publisher is stopped in the middle of a publish. */
TEST(incidents, drop_outside_runtime)
{
    halt_set_up();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *stays = subscribe(bus, exitbus_topic_all());
    pthread_key_create(&at_thread_exit, drop_subscription);
    pthread_t publisher = thread_start(publish_and_halt, bus);
    halt_wait_reached();
    thread_join(thread_start(exit_while_subscribed, bus));
    check_equal(stats_of(bus).subscriptions, 1);
    sem_post(&halt_over);
    thread_join(publisher);
    check_equal(exitbus_subscription_pending(stays), 1);
    check_ok(exitbus_unsubscribe(stays));
    check_ok(exitbus_destroy(bus));
}

/* --------------------------------------------------------------------------- races with an exit */

/* The child is gone before its parent has subscribed. Fails by hanging. */
TEST(incidents, early_exit)
{
    struct exitbus *bus = bus_new();
    for (int i = 0; i < 100; i++) {
        struct exitbus_subscription *subscription;
        pid_t pid = spawn_tiny(bus, "5", &subscription);
        await(is_gone(pid)); /* exited, published and reaped before anybody asks */
        struct exitbus_event event;
        check_ok(exitbus_receive(subscription, &event, 0));
        check_equal(event.pid, pid);
        check_equal(event.exit_code, 5);
        check_ok(exitbus_unsubscribe(subscription));
    }
    check_ok(exitbus_destroy(bus));
}

/* Two wait for one pid; the loser sees ECHILD and reports status 0. */
TEST(incidents, double_wait)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    struct child child = child_fork(42);
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    check_ok(exitbus_reaper_poll(reaper));
    child_end(child);
    int status;
    check_equal(waitpid(child.pid, &status, 0), child.pid); /* the other one wins */
    struct pollfd fd = {exitbus_reaper_fd(reaper), POLLIN, 0};
    while (exitbus_subscription_pending(subscription) == 0) {
        poll(&fd, 1, -1);
        check_ok(exitbus_reaper_poll(reaper));
    }
    struct exitbus_event event;
    check_ok(exitbus_receive(subscription, &event, 0));
    check_equal(event.pid, child.pid);
    /* The true status, where the kernel still knows it; else it is said to be lost. */
    check(event.exit_code == 42 || (event.flags & EXITBUS_EVENT_STATUS_LOST));
    check_equal(exitbus_receive(subscription, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* A library reaps with waitpid(-1) and takes the children of others. */
TEST(incidents, stolen_wait)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct child foreign = child_fork(9);
    struct exitbus_subscription *own;
    child_end(foreign); /* a zombie, or about to be, for as long as the library reaps its own */
    for (int i = 0; i < 20; i++) {
        pid_t pid = spawn_tiny(bus, "1", &own);
        check_equal(receive_pid(own, pid).exit_code, 1);
        check_ok(exitbus_unsubscribe(own));
    }
    int status;
    check_equal(waitpid(foreign.pid, &status, 0), foreign.pid);
    check_equal(WEXITSTATUS(status), 9);
    struct exitbus_event event;
    while (exitbus_receive(all, &event, 0) == 0)
        check(event.pid != foreign.pid);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/*
 * SIGCHLD was set to be ignored by somebody, and the kernel throws statuses away. An ALL reaper
 * installs its handler, which ends that, and puts back what it found; WATCHED refuses.
 */
TEST(incidents, ignored_sigchld)
{
    struct exitbus *bus = bus_new();
    struct sigaction ways[2] = {{.sa_handler = SIG_IGN},
                                {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT}};
    for (int i = 0; i < 2; i++) {
        sigaction(SIGCHLD, &ways[i], NULL);
        struct exitbus_reaper *reaper = NULL;
        struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
        check_equal(exitbus_reaper_start(bus, &watched, &reaper), -ENOTSUP);
        char *argv[] = {TINY_CHILD, NULL};
        struct exitbus_spawn_options options = {.argv = argv};
        pid_t pid;
        check_equal(exitbus_spawn(bus, &options, &pid, NULL), -ENOTSUP);
        check(!reaper);
        reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
        struct exitbus_subscription *own;
        pid = spawn_tiny(bus, "5", &own);
        check_equal(receive_pid(own, pid).exit_code, 5);
        check_ok(exitbus_unsubscribe(own));
        await(no_children());
        check_ok(exitbus_reaper_stop(reaper));
        struct sigaction after;
        sigaction(SIGCHLD, NULL, &after);
        check(after.sa_handler == ways[i].sa_handler &&
              (after.sa_flags & SA_NOCLDWAIT) == (ways[i].sa_flags & SA_NOCLDWAIT));
    }
    signal(SIGCHLD, SIG_DFL);
    check_ok(exitbus_destroy(bus));
}

/* Several exits, one signal, one wait: the others stay zombies until the next signal. */
TEST(incidents, coalesced_sigchld)
{
    enum { CHILDREN = 30 };
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    check_ok(exitbus_reaper_poll(reaper));
    sigset_t child_signal, before;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child_signal, &before); /* all of them become one */
    struct child children[CHILDREN];
    for (int i = 0; i < CHILDREN; i++)
        children[i] = child_fork(i);
    for (int i = 0; i < CHILDREN; i++)
        child_end(children[i]);
    for (int i = 0; i < CHILDREN; i++)
        await(is_zombie(children[i].pid));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    struct pollfd fd = {exitbus_reaper_fd(reaper), POLLIN, 0};
    check_equal(poll(&fd, 1, 0), 1);
    check_equal(exitbus_reaper_poll(reaper), CHILDREN); /* in one pass */
    check_equal(exitbus_subscription_pending(subscription), CHILDREN);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* The handle of a running child is dropped, and nobody ever waits for it. */
TEST(incidents, dropped_handle)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *subscription;
    pid_t with = spawn_tiny(bus, "p", &subscription);
    pid_t without = spawn_tiny(bus, "p", NULL);
    check_ok(exitbus_unsubscribe(subscription));
    kill(with, SIGKILL);
    kill(without, SIGKILL);
    await(is_gone(with) && is_gone(without)); /* no zombies */
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------- many watchers */

static _Atomic unsigned waitids, futex_wakes;
static _Thread_local bool waits_here;
static _Atomic unsigned waits_by_waiters;

static int count_calls(long number)
{
    if (number == SYS_waitid) {
        atomic_fetch_add(&waitids, 1);
        if (waits_here)
            atomic_fetch_add(&waits_by_waiters, 1);
    }
    if (number == SYS_futex && waits_here)
        atomic_fetch_add(&futex_wakes, 1); /* a waiter that goes to sleep (again) */
    return 0;
}

static void *wait_for_own(void *subscription)
{
    struct exitbus_event event;
    waits_here = true;
    must_equal(exitbus_receive(subscription, &event, -1), 0);
    waits_here = false;
    must_equal(exitbus_unsubscribe(subscription), 0);
    return NULL;
}

/* One SIGCHLD wakes every waiter, and each asks for its own child: cost grows with the children. */
TEST(incidents, thundering_wakeup)
{
    enum { WAITERS = 50 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *subscriptions[WAITERS];
    pid_t pids[WAITERS];
    pthread_t threads[WAITERS];
    __atomic_store_n(&exitbus_test_syscall, count_calls, __ATOMIC_RELEASE);
    for (int i = 0; i < WAITERS; i++)
        pids[i] = spawn_tiny(bus, "p", &subscriptions[i]);
    for (int i = 0; i < WAITERS; i++)
        threads[i] = thread_start(wait_for_own, subscriptions[i]);
    await(stats_of(bus).sleeping_receivers == WAITERS && atomic_load(&futex_wakes) >= WAITERS);
    unsigned asleep = atomic_load(&futex_wakes);
    unsigned before = atomic_load(&waitids);
    kill(pids[0], SIGKILL);
    thread_join(threads[0]);
    await(is_gone(pids[0]));
    check_equal(stats_of(bus).sleeping_receivers, WAITERS - 1);
#ifndef __SANITIZE_THREAD__ /* where the library's sleeps are cut into slices */
    check_equal(atomic_load(&futex_wakes), asleep); /* nobody else woke and lay down again */
#endif
    check(asleep >= WAITERS);
    check(atomic_load(&waitids) - before <= 4); /* look, reap, and perhaps look once more */
    check_equal(atomic_load(&waits_by_waiters), 0);
    for (int i = 1; i < WAITERS; i++) {
        kill(pids[i], SIGKILL);
        thread_join(threads[i]);
    }
    check_ok(exitbus_destroy(bus));
}

/* A child that other code has started can't be watched. */
TEST(incidents, foreign_child)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    struct child running = child_fork(11), zombie = child_fork(12);
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    child_end(zombie);
    await(is_zombie(zombie.pid));
    check_ok(exitbus_reaper_watch(reaper, zombie.pid));
    check_equal(receive_pid(subscription, zombie.pid).exit_code, 12);
    check_ok(exitbus_reaper_watch(reaper, running.pid));
    child_end(running);
    check_equal(receive_pid(subscription, running.pid).exit_code, 11);
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* As PID 1 or subreaper, adopted orphans are never reaped. */
TEST(incidents, pid1_orphans)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_SUBREAPER);
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    int fds[2];
    check_equal(pipe(fds), 0);
    pid_t parent = fork();
    if (parent == 0) {
        int go[2];
        pid_t orphan = pipe(go) == 0 ? fork() : -1;
        if (orphan == 0) {
            char byte;
            close(go[1]); /* until its parent is gone */
            ssize_t got = read(go[0], &byte, 1);
            _exit(got == 0 ? 33 : 1);
        }
        _exit(write(fds[1], &orphan, sizeof orphan) != sizeof orphan);
    }
    pid_t orphan;
    check_equal(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
    check_equal(receive_pid(subscription, parent).exit_code, 0);
    check_equal(receive_pid(subscription, orphan).exit_code, 33);
    await(is_gone(orphan));
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    int subreaper = 1;
    prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
    check_equal(subreaper, 0);
    check_ok(exitbus_destroy(bus));
}

static void halt_reaper(enum probe step)
{
    if (step == PROBE_REAPER_PUBLISHED) {
        sem_post(&halt_reached);
        while (sem_wait(&halt_over) != 0)
            continue;
    }
}

/* The status is reaped first and announced later; by then the pid names another process. Here the
 * event is received, and its pid is still taken: by the zombie. */
TEST(incidents, reused_pid)
{
    halt_set_up();
    __atomic_store_n(&exitbus_probe_hook, halt_reaper, __ATOMIC_RELEASE);
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    struct child child = child_fork(21);
    child_end(child);
    check_equal(receive_pid(subscription, child.pid).exit_code, 21);
    halt_wait_reached(); /* published, not yet reaped */
    check(is_zombie(child.pid));
    sem_post(&halt_over);
    await(is_gone(child.pid));
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* --------------------------------------------------------------------------------------- order */

struct relay {
    struct exitbus *bus;
    struct exitbus_subscription *in;
    int rounds;
};

/* Answers every event of pid 1 with one of pid 2: an effect of it, by another thread. */
static void *relay_main(void *argument)
{
    struct relay *relay = argument;
    struct exitbus_event event;
    for (int i = 0; i < relay->rounds; i++) {
        must_equal(exitbus_receive(relay->in, &event, -1), 0);
        must_equal(exitbus_publish_pid(relay->bus, 2, event.exit_code), 0);
    }
    return NULL;
}

/* A queue that is FIFO only for each producer: the effect overtakes its cause. */
TEST(incidents, per_producer_fifo)
{
    struct exitbus *bus = bus_new();
    struct relay relay = {bus, subscribe(bus, exitbus_topic_pid(1)), scaled(20000)};
    struct exitbus_subscription *witness = subscribe(bus, exitbus_topic_any_pid());
    pthread_t thread = thread_start(relay_main, &relay);
    for (int i = 0; i < relay.rounds; i++)
        must_equal(exitbus_publish_pid(bus, 1, i), 0);
    thread_join(thread);
    int causes = 0, effects = 0;
    struct exitbus_event event;
    while (exitbus_receive(witness, &event, 0) == 0) {
        if (event.pid == 1)
            check_equal(event.exit_code, causes++);
        else
            check_equal(event.exit_code, effects++);
        check(effects <= causes);
    }
    check_equal(effects, relay.rounds);
    check_ok(exitbus_unsubscribe(relay.in));
    check_ok(exitbus_unsubscribe(witness));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------- from a second search of the field
 */

struct edges {
    struct exitbus *bus;
    int count;
};

static void *publish_edges(void *argument)
{
    struct edges *edges = argument;
    for (int i = 1; i <= edges->count; i++)
        must_equal(exitbus_publish_pid(edges->bus, i, 0), 0);
    return NULL;
}

/* A consumer drains to "would block" and sleeps in an edge-triggered set: never woken. */
TEST(incidents, edge_lost)
{
    struct edges edges = {bus_new(), scaled(100000)};
    struct exitbus_subscription *all = subscribe(edges.bus, exitbus_topic_any_pid());
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    must_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, exitbus_subscription_fd(all), &edge), 0);
    pthread_t publisher = thread_start(publish_edges, &edges);
    struct exitbus_event event;
    for (int taken = 0; taken < edges.count;) {
        int result = exitbus_receive(all, &event, 0);
        if (result == 0)
            check_equal(event.pid, ++taken);
        else
            must_equal(epoll_wait(epoll, &edge, 1, -1), 1);
    }
    thread_join(publisher);
    close(epoll);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(edges.bus));
}

static void create_without_threads(void)
{
    struct rlimit none = {0, 0};
    struct exitbus *bus = NULL;
    must_equal(setrlimit(RLIMIT_NPROC, &none), 0);
    if (getuid() == 0) /* whom the limit does not hold */
        must_equal(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    must_equal(exitbus_create(&bus, NULL), -EAGAIN);
    must(!bus);
}

/* No thread is to be had, and the process aborts in liburcu. */
TEST(incidents, no_thread_no_abort)
{
    check_equal(in_a_child(create_without_threads), 0);
}

#ifndef __SANITIZE_THREAD__
static void *spawn_here(void *bus)
{
    struct exitbus_subscription *own;
    pid_t pid = spawn_tiny(bus, "6", &own);
    must_equal(receive_pid(own, pid).exit_code, 6);
    must_equal(exitbus_unsubscribe(own), 0);
    return NULL;
}
#endif

/* The child's stack lies inside the caller's, which is small. */
TEST(incidents, small_stack_spawn)
{
/* The sanitizers need a larger stack themselves. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct exitbus *bus = bus_new();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    must_equal(pthread_attr_setstacksize(&attributes, 16384), 0);
    pthread_t thread;
    must_equal(pthread_create(&thread, &attributes, spawn_here, bus), 0);
    thread_join(thread);
    pthread_attr_destroy(&attributes);
    check_ok(exitbus_destroy(bus));
#endif
}

#ifndef __SANITIZE_THREAD__ /* which starts no threads in a forked child */

static struct exitbus *parents_bus;

static void work_in_a_child(void)
{
    must_equal(exitbus_publish_pid(parents_bus, 1, 0), -ESTALE);
    struct exitbus *bus = bus_new();
    spawn_here(bus);
    must_equal(exitbus_destroy(bus), 0);
}

/* A forked worker needs a bus of its own, after its parent has used one. */
TEST(incidents, prefork)
{
    parents_bus = bus_new();
    spawn_here(parents_bus);
    check_equal(in_a_child(work_in_a_child), 0);
    spawn_here(parents_bus);
    check_ok(exitbus_destroy(parents_bus));
}

#endif
