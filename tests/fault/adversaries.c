/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What other code in the process, its children and its tracers may do to reapers and spawn: stop
 * and trace, jump out of handlers, kill a child before it is one, cancel threads.
 */
#include "support/allocator.h"
#include "support/children.h"
#include "support/events.h"
#include "support/halt.h"
#include "support/harness.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------ tracing */

/* A child that makes us its tracer, and stops; it lives until it is killed. */
static pid_t stopped_tracee(void)
{
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGUSR1);
        for (;;)
            pause();
    }
    siginfo_t info;
    check_ok(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT));
    return pid;
}

static void run_tracee(enum exitbus_reaper_mode mode)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_any_pid());
    pid_t tracee = stopped_tracee();
    struct exitbus_reaper *reaper = reaper_of(bus, mode, EXITBUS_REAPER_POLLED);
    if (mode == EXITBUS_REAPER_WATCHED)
        check_ok(exitbus_reaper_watch(reaper, tracee));
    pid_t ordinary = fork();
    if (ordinary == 0)
        _exit(7);
    if (mode == EXITBUS_REAPER_WATCHED)
        check_ok(exitbus_reaper_watch(reaper, ordinary));
    struct exitbus_event event;
    while (exitbus_receive(sub, &event, 0) == -EAGAIN)
        check_ok(exitbus_reaper_poll(reaper));
    check_equal(event.pid, ordinary); /* the stop is no exit, and in nobody's way */
    check_equal(event.exit_code, 7);
    check_ok(kill(tracee, SIGKILL));
    while (exitbus_receive(sub, &event, 0) == -EAGAIN)
        check_ok(exitbus_reaper_poll(reaper));
    check_equal(event.pid, tracee);
    check_equal(event.status, SIGKILL);
    check(no_children());
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(adversaries, a_traced_childs_stop_is_no_exit_for_a_watched_reaper)
{
    run_tracee(EXITBUS_REAPER_WATCHED);
}

TEST(adversaries, a_traced_childs_stop_is_no_exit_for_an_all_reaper)
{
    run_tracee(EXITBUS_REAPER_ALL);
}

/* Its state, whoever may wait for it. */
static char state_of(pid_t pid)
{
    char path[64], state = '?';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return state;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = '?';
    fclose(file);
    return state;
}

/* Spawn must know it for a child that has begun, however early it asks to be traced. */
TEST(adversaries, a_spawned_child_that_asks_to_be_traced)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    for (int i = 0; i < 200; i++) {
        char *argv[] = {TINY_CHILD, "t", NULL};
        struct exitbus_spawn_options options = {.argv = argv};
        pid_t pid;
        struct exitbus_subscription *sub;
        struct exitbus_event event;
        check_ok(exitbus_spawn(bus, &options, &pid, &sub));
        check_ok(kill(pid, SIGKILL));
        check_ok(exitbus_receive(sub, &event, -1));
        check_equal(event.status, SIGKILL);
        check_ok(exitbus_unsubscribe(sub));
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* A zombie that a tracer keeps from us polls readable: the reaper must rest until it is ours. */
TEST(adversaries, a_zombie_that_a_tracer_holds)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    int ready[2], go[2];
    check_ok(pipe(ready));
    check_ok(pipe(go));
    pid_t child = fork();
    if (child == 0) {
        char byte;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
        _exit(read(ready[0], &byte, 1) == 1 ? 3 : 1);
    }
    pid_t tracer = fork();
    if (tracer == 0) {
        char byte;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_SEIZE, child, NULL, NULL) != 0)
            _exit(77); /* not allowed here */
        if (write(ready[1], "", 1) != 1 || read(go[0], &byte, 1) != 1)
            _exit(1);
        _exit(0); /* lets go of it */
    }
    check_ok(exitbus_reaper_watch(reaper, child));
    siginfo_t info = {0};
    await(state_of(child) == 'Z' ||
          waitid(P_PID, (id_t)tracer, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0);
    if (info.si_pid != 0) { /* no tracing here */
        kill(child, SIGKILL);
        return;
    }
    /* A few passes, and then the descriptor of the reaper must not be readable at once. */
    struct pollfd poll_fd = {.fd = exitbus_reaper_fd(reaper), .events = POLLIN};
    unsigned readable = 0;
    for (int i = 0; i < 20; i++) {
        check_ok(exitbus_reaper_poll(reaper));
        readable += poll(&poll_fd, 1, 0) > 0;
    }
    check(readable < 10);
    check_equal(write(go[1], "", 1), 1);
    struct exitbus_event event;
    while (exitbus_receive(sub, &event, 0) == -EAGAIN)
        check_ok(exitbus_reaper_poll(reaper));
    check_equal(event.pid, child);
    check_equal(event.exit_code, 3);
    check_equal(waitpid(tracer, NULL, 0), tracer);
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------- spawn */

static _Atomic int kill_at = -1;

static void kill_child_here(enum probe step)
{
    int wanted = (int)step;
    if (step == (enum probe)atomic_load(&kill_at) &&
        atomic_compare_exchange_strong(&kill_at, &wanted, -1))
        syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL); /* on the child's thread */
}

/* The child is killed while it subscribes for its parent: nothing of that is left. */
TEST(adversaries, a_child_killed_while_it_subscribes)
{
    static const enum probe steps[] = {PROBE_SUBSCRIBE_INSERTED, PROBE_SUBSCRIBE_ORDER_READ,
                                       PROBE_SUBSCRIBE_STARTED};
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    __atomic_store_n(&exitbus_probe_hook, kill_child_here, __ATOMIC_RELEASE);
    char *argv[] = {TINY_CHILD, "exit", "0", NULL};
    struct exitbus_spawn_options options = {.argv = argv};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        pid_t pid;
        struct exitbus_subscription *sub;
        atomic_store(&kill_at, (int)steps[i]);
        check_equal(exitbus_spawn(bus, &options, &pid, &sub), -EINTR);
        check_equal(atomic_load(&kill_at), -1);
        check_equal(stats_of(bus).subscriptions, 0);
        struct exitbus_event event = pid_event(1);
        check_ok(exitbus_publish(bus, &event, NULL));
    }
    __atomic_store_n(&exitbus_probe_hook, NULL, __ATOMIC_RELEASE);
    check(no_children());
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account); /* so grace periods end, and nothing is lost */
}

/* Spawn first starts a reaper of its own; a user's takes over, and the exit comes once. */
TEST(adversaries, a_watched_reaper_in_the_place_of_spawns_own)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_any_pid());
    pid_t pids[20];
    int gate[2];
    check_ok(pipe(gate));
    char *argv[] = {"sh", "-c", "read line; exit 5", NULL};
    struct exitbus_spawn_action action = {
        .kind = EXITBUS_SPAWN_DUP2, .fd = 0, .source_fd = gate[0]};
    struct exitbus_spawn_action close_other = {.kind = EXITBUS_SPAWN_CLOSE, .fd = gate[1]};
    struct exitbus_spawn_action actions[] = {action, close_other};
    struct exitbus_spawn_options options = {
        .argv = argv, .flags = EXITBUS_SPAWN_SEARCH_PATH, .actions = actions, .action_count = 2};
    for (int i = 0; i < 20; i++)
        check_ok(exitbus_spawn(bus, &options, &pids[i], NULL));
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    for (int i = 0; i < 20; i++)
        check_ok(exitbus_reaper_watch(reaper, pids[i]));
    close(gate[0]);
    close(gate[1]);
    struct exitbus_event event;
    unsigned seen = 0;
    for (int i = 0; i < 20; i++) {
        check_ok(exitbus_receive(sub, &event, -1));
        for (unsigned k = 0; k < 20; k++)
            seen |= event.pid == pids[k] ? 1u << k : 0;
    }
    check_equal(seen, (1u << 20) - 1);
    await(no_children());
    check_ok(exitbus_reaper_stop(reaper));
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------- stop, cancel */

/* Hundreds of exits pending, and the reaper is told to stop. */
TEST(adversaries, stop_while_everything_exits)
{
    struct exitbus *bus = bus_new();
    for (int round = 0; round < 5; round++) {
        enum { CHILDREN = 200 };
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
        pid_t pids[CHILDREN];
        for (int i = 0; i < CHILDREN; i++) {
            pids[i] = fork();
            if (pids[i] == 0)
                for (;;)
                    pause();
            check_ok(exitbus_reaper_watch(reaper, pids[i]));
        }
        for (int i = 0; i < CHILDREN; i++)
            kill(pids[i], SIGKILL);
        check_ok(exitbus_reaper_stop(reaper));
        while (wait(NULL) > 0)
            continue;
    }
    check_ok(exitbus_destroy(bus));
}

static void *stop_reaper(void *reaper)
{
    must_equal(exitbus_reaper_stop(reaper), 0);
    return NULL;
}

/* No call is a cancellation point: what was begun is done. */
TEST(adversaries, cancel_a_stop)
{
    struct exitbus *bus = bus_new();
    for (int i = 0; i < 20; i++) {
        struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
        pthread_t thread = thread_start(stop_reaper, reaper);
        pthread_cancel(thread);
        void *result;
        must_equal(pthread_join(thread, &result), 0);
        if (result == PTHREAD_CANCELED) /* before it called anything */
            check_ok(exitbus_reaper_stop(reaper));
    }
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------ SIGCHLD */

static sigjmp_buf out;

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(out, 1);
}

/* Shells leave their handler so. Each signal must still reach the reaper. */
TEST(adversaries, a_handler_that_jumps_out)
{
    signal(SIGCHLD, jump_out);
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
    check_ok(exitbus_reaper_poll(reaper));
    sigset_t child, before;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    for (volatile int i = 0; i < 5; i++) {
        pthread_sigmask(SIG_BLOCK, &child, &before); /* not out of the middle of fork() */
        if (sigsetjmp(out, 1) == 0) {
            if (fork() == 0)
                _exit(i);
            for (;;)
                sigsuspend(&before);
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        struct pollfd ready = {.fd = exitbus_reaper_fd(reaper), .events = POLLIN};
        check_equal(poll(&ready, 1, -1), 1);
        check_equal(exitbus_reaper_poll(reaper), 1);
        struct exitbus_event event;
        check_ok(exitbus_receive(sub, &event, 0));
        check_equal(event.exit_code, i);
    }
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

static _Atomic int first_calls, over_calls[2];
static struct sigaction under[2];

static void first_handler(int signal)
{
    (void)signal;
    atomic_fetch_add(&first_calls, 1);
}

static void call_under(int which, int signal, siginfo_t *info, void *context)
{
    atomic_fetch_add(&over_calls[which], 1);
    if (under[which].sa_flags & SA_SIGINFO)
        under[which].sa_sigaction(signal, info, context);
}

static void over_0(int signal, siginfo_t *info, void *context)
{
    call_under(0, signal, info, context);
}

static void over_1(int signal, siginfo_t *info, void *context)
{
    call_under(1, signal, info, context);
}

/* Handlers are put over ours and taken away while reapers come and go: each signal reaches each of
 * those that are there once. */
static void check_chain(int first, int zero, int one)
{
    atomic_store(&first_calls, 0);
    atomic_store(&over_calls[0], 0);
    atomic_store(&over_calls[1], 0);
    raise(SIGCHLD);
    check_equal(atomic_load(&first_calls), first);
    check_equal(atomic_load(&over_calls[0]), zero);
    check_equal(atomic_load(&over_calls[1]), one);
}

static struct exitbus_reaper *start_all(struct exitbus *bus)
{
    return reaper_of(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
}

TEST(adversaries, handlers_over_ours)
{
    struct exitbus *bus = bus_new();
    signal(SIGCHLD, first_handler);
    const struct sigaction over[] = {{.sa_sigaction = over_0, .sa_flags = SA_SIGINFO},
                                     {.sa_sigaction = over_1, .sa_flags = SA_SIGINFO}};
    struct exitbus_reaper *reaper = start_all(bus);
    check_chain(1, 0, 0);
    sigaction(SIGCHLD, &over[0], &under[0]);
    check_chain(1, 1, 0);
    check_ok(exitbus_reaper_stop(reaper)); /* ours stays in the chain */
    check_chain(1, 1, 0);
    reaper = start_all(bus);
    check_chain(1, 1, 0);
    check_ok(exitbus_reaper_stop(reaper));
    sigaction(SIGCHLD, &over[1], &under[1]); /* over the one over ours */
    check_chain(1, 1, 1);
    reaper = start_all(bus); /* ours is there twice */
    check_chain(1, 1, 1);
    check_ok(exitbus_reaper_stop(reaper));
    check_chain(1, 1, 1);
    sigaction(SIGCHLD, &under[1], NULL);
    sigaction(SIGCHLD, &under[0], NULL); /* ours, put back by him who had taken its place */
    check_chain(1, 0, 0);
    reaper = start_all(bus);
    check_chain(1, 0, 0);
    check_ok(exitbus_reaper_stop(reaper));
    check_chain(1, 0, 0);
    check_ok(exitbus_destroy(bus));
}

/* --------------------------------------------------------------------- handing a child over */

struct handover {
    struct exitbus *bus;
    struct halt halt;
};

static void *spawn_and_stop(void *argument)
{
    struct handover *handover = argument;
    halt_begin(&handover->halt);
    spawn_tiny(handover->bus, "5", NULL);
    halt_end(&handover->halt);
    return NULL;
}

/*
 * epoll names a child whose spawn was stopped before it had handed the child over: its exit comes
 * all the same, once, and so do those of others. The spawn that goes on finds that it has nothing
 * to hand over any more.
 */
static void run_stopped_handover(uint32_t flags)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, flags);
    struct handover handover = {.bus = bus};
    unsigned fds = open_fds();
    pthread_t thread;
    halt_hook_set();
    halt_init(&handover.halt, PROBE_WATCH_POLLED, 0);
    must_equal(pthread_create(&thread, NULL, spawn_and_stop, &handover), 0);
    must(halt_await(&handover.halt));
    struct exitbus_event event;
    for (int i = 0; i < 4; i++) {
        pid_t pid = i > 0 ? spawn_tiny(bus, "7", NULL) : 0; /* first that of the stopped one */
        while (flags && exitbus_subscription_pending(sub) == 0)
            check(exitbus_reaper_poll(reaper) >= 0);
        check_ok(exitbus_receive(sub, &event, -1));
        check_equal(event.exit_code, i > 0 ? 7 : 5);
        check(i == 0 || event.pid == pid);
    }
    await(no_children());
    halt_release(&handover.halt);
    must_equal(pthread_join(thread, NULL), 0);
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    await(open_fds() == fds); /* each pidfd is closed, the stopped spawn's by itself */
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(adversaries, a_spawn_stopped_while_it_hands_its_child_over)
{
    run_stopped_handover(0);
}

TEST(adversaries, a_spawn_stopped_while_it_hands_its_child_to_a_polled_reaper)
{
    run_stopped_handover(EXITBUS_REAPER_POLLED);
}
