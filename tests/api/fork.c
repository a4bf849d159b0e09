/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Forked children (G9): every call on the parent's bus says -ESTALE and touches nothing, also if
 * another thread was in the middle of one when the process forked; the parent goes on; a bus that
 * the child makes works. And what else concerns the process as a whole: the default bus, destroy,
 * texts.
 */
#define URCU_API_MAP
#include <urcu-bp.h>

#include "support/children.h"
#include "support/coverage.h"
#include "support/harness.h"

#include <limits.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "base/compiler.h"
#include "base/probe.h"

struct handles {
    struct exitbus *bus;
    struct exitbus_subscription *subscription;
    struct exitbus_reaper *reaper;
};

/* In a child: the number of the first call that does not say what it should, or 0. */
static int all_stale(const struct handles *h)
{
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID, .pid = 1};
    struct exitbus_stats stats;
    struct exitbus_subscription *subscription;
    struct exitbus_reaper *reaper;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL};
    char *argv[] = {TINY_CHILD, NULL};
    struct exitbus_spawn_options spawn = {.argv = argv};
    pid_t pid;
    long results[] = {
        exitbus_destroy(h->bus),
        exitbus_stats(h->bus, &stats),
        exitbus_publish(h->bus, &event, NULL),
        exitbus_publish_pid(h->bus, 1, 0),
        exitbus_publish_exec(h->bus, "c", "e", 0),
        exitbus_publish_wait(h->bus, 1, 0, NULL),
        exitbus_publish_batch(h->bus, &event, 1, NULL),
        exitbus_subscribe(h->bus, exitbus_topic_all(), 0, &subscription),
        exitbus_unsubscribe(h->subscription),
        exitbus_subscription_ref(h->subscription),
        exitbus_subscription_unref(h->subscription),
        exitbus_receive(h->subscription, &event, -1),
        exitbus_receive_batch(h->subscription, &event, 1, -1),
        exitbus_receive_pid(h->subscription, 1, &event, &(uint64_t){0}, -1),
        exitbus_subscription_fd(h->subscription),
        exitbus_subscription_pending(h->subscription),
        exitbus_reaper_start(h->bus, &options, &reaper),
        exitbus_reaper_stop(h->reaper),
        exitbus_reaper_watch(h->reaper, 1),
        exitbus_reaper_fd(h->reaper),
        exitbus_reaper_poll(h->reaper),
        exitbus_reaper_record(h->reaper, 0),
        exitbus_spawn(h->bus, &spawn, &pid, NULL),
    };
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++)
        if (results[i] != -ESTALE)
            return (int)i + 1;
    return 0;
}

/* Fork; the child tries every call and exits, or execs, at once. Its exit code. */
static int fork_and_try(const struct handles *h, bool exec)
{
    struct exitbus_subscription *any = subscribe(h->bus, exitbus_topic_any_pid());
    pid_t pid = fork();
    if (pid == 0) {
        int wrong = all_stale(h);
        if (exec && wrong == 0)
            execl(TINY_CHILD, TINY_CHILD, "0", (char *)NULL);
        leave_process(wrong);
    }
    must(pid > 0);
    int code = receive_pid(any, pid).exit_code;
    must_equal(exitbus_unsubscribe(any), 0);
    return code;
}

static void set_up(struct handles *h)
{
    h->bus = bus_new();
    h->subscription = subscribe(h->bus, exitbus_topic_pid(7));
    h->reaper = reaper_of(h->bus, EXITBUS_REAPER_ALL, 0);
}

static void end(struct handles *h)
{
    check_ok(exitbus_reaper_stop(h->reaper));
    check_ok(exitbus_unsubscribe(h->subscription));
    check_ok(exitbus_destroy(h->bus));
}

TEST(fork, every_call_is_stale)
{
    struct handles h;
    set_up(&h);
    for (int i = 0; i < 10; i++)
        check_equal(fork_and_try(&h, i % 2), 0);
    check_ok(exitbus_publish_pid(h.bus, 7, 0)); /* the parent goes on */
    struct exitbus_event event;
    check_ok(exitbus_receive(h.subscription, &event, 0));
    end(&h);
}

static sem_t reached, over;
static _Atomic int halt_at;
static _Thread_local bool halts_here;

static void halt(enum probe step)
{
    if (!halts_here || (int)step != atomic_load(&halt_at))
        return;
    halts_here = false;
    sem_post(&reached);
    while (sem_wait(&over) != 0)
        continue;
}

/* Goes through every step of publish, subscribe, receive and unsubscribe. */
static void *use_the_bus(void *bus)
{
    struct exitbus_event event;
    halts_here = true;
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_all());
    exitbus_subscription_fd(subscription);
    for (int i = 0; i < 3; i++)
        must_equal(exitbus_publish_pid(bus, 5, 0), 0);
    for (int i = 0; i < 3; i++)
        must_equal(exitbus_receive(subscription, &event, -1), 0);
    exitbus_receive(subscription, &event, 1);
    must_equal(exitbus_unsubscribe(subscription), 0);
    if (halts_here) { /* it does not come by here */
        halts_here = false;
        sem_post(&reached);
        while (sem_wait(&over) != 0)
            continue;
    }
    return NULL;
}

TEST(fork, while_another_is_inside)
{
    struct handles h;
    set_up(&h);
    sem_init(&reached, 0, 0);
    sem_init(&over, 0, 0);
    __atomic_store_n(&exitbus_probe_hook, halt, __ATOMIC_RELEASE);
    for (int step = 0; step < PROBE_REAPER_PEEKED; step++) {
        atomic_store(&halt_at, step);
        pthread_t thread = thread_start(use_the_bus, h.bus);
        while (sem_wait(&reached) != 0)
            continue;
        check_equal(fork_and_try(&h, step % 2), 0);
        sem_post(&over);
        thread_join(thread);
    }
    end(&h);
}

/* ------------------------------------------------------------------ a bus of the child's own */

/* ThreadSanitizer starts no threads in a forked child. */
#if !defined(__SANITIZE_THREAD__)

static void *publish_and_end(void *bus)
{
    must_equal(exitbus_publish_pid(bus, 9, 0), 0);
    return NULL;
}

/* In a child: all that a bus is for, on one of its own. */
static void use_own_bus(struct exitbus *bus)
{
    struct exitbus_event event;
    struct exitbus_subscription *pids = subscribe(bus, exitbus_topic_pid(9)), *spawned;
    for (int i = 0; i < 100; i++) {
        struct exitbus_subscription *more = subscribe(bus, exitbus_topic_all());
#if defined(__SANITIZE_ADDRESS__) /* whose allocator's locks a fork may leave locked */
        publish_and_end(bus);
#else
        thread_join(thread_start(publish_and_end, bus));
#endif
        must_equal(exitbus_receive(pids, &event, -1), 0);
        must_equal(exitbus_receive(more, &event, 0), 0);
        must_equal(exitbus_unsubscribe(more), 0);
    }
    spawn_tiny(bus, "9", &spawned);
    must_equal(exitbus_receive(spawned, &event, -1), 0);
    must_equal(event.exit_code, 9);
    must_equal(exitbus_unsubscribe(spawned), 0);
    must_equal(exitbus_unsubscribe(pids), 0);
}

/* In a child: stale before, while and after there is a bus of its own, and that one works. */
static void be_worker(const struct handles *h, unsigned generations)
{
    must_equal(all_stale(h), 0);
    must_equal(exitbus_thread_prepare(), 0);
    must_equal(all_stale(h), 0);
    struct handles own = {.bus = bus_new()};
    must_equal(all_stale(h), 0);
    use_own_bus(own.bus);
    own.subscription = subscribe(own.bus, exitbus_topic_pid(7));
    own.reaper = reaper_of(own.bus, EXITBUS_REAPER_ALL, 0);
    struct exitbus_subscription *any = subscribe(own.bus, exitbus_topic_any_pid());
    pid_t pid = generations > 1 ? fork() : 0;
    if (pid == 0 && generations > 1) {
        must_equal(all_stale(h), 0);
        be_worker(&own, generations - 1);
        leave_process(0);
    }
    if (pid > 0) /* this generation's ALL reaper collects it */
        must_equal(receive_pid(any, pid).exit_code, 0);
    must_equal(exitbus_unsubscribe(any), 0);
    must_equal(exitbus_reaper_stop(own.reaper), 0);
    must_equal(exitbus_unsubscribe(own.subscription), 0);
    must_equal(exitbus_destroy(own.bus), 0); /* a grace period ends, and there is a worker */
    must_equal(all_stale(h), 0);
}

static int fork_worker(const struct handles *h, unsigned generations)
{
    pid_t pid = fork();
    if (pid == 0) {
        be_worker(h, generations);
        leave_process(0);
    }
    must(pid > 0);
    int status;
    must_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void set_up_watched(struct handles *h)
{
    h->bus = bus_new();
    h->subscription = subscribe(h->bus, exitbus_topic_pid(7));
    h->reaper = reaper_of(h->bus, EXITBUS_REAPER_WATCHED, 0);
}

TEST(fork, prefork_worker)
{
    struct handles h;
    set_up_watched(&h);
    for (int i = 0; i < 10; i++)
        check_equal(fork_worker(&h, 1), 0);
    check_equal(fork_worker(&h, 3), 0);
    check_ok(exitbus_publish_pid(h.bus, 7, 0));
    end(&h);
}

/* Other threads were anywhere in the library, or held its locks, when the process forked. */
TEST(fork, prefork_worker_of_a_busy_parent)
{
    struct handles h;
    set_up_watched(&h);
    sem_init(&reached, 0, 0);
    sem_init(&over, 0, 0);
    __atomic_store_n(&exitbus_probe_hook, halt, __ATOMIC_RELEASE);
    for (int step = 0; step < PROBE_REAPER_PEEKED; step++) {
        atomic_store(&halt_at, step);
        pthread_t thread = thread_start(use_the_bus, h.bus);
        while (sem_wait(&reached) != 0)
            continue;
        check_equal(fork_worker(&h, 1), 0);
        sem_post(&over);
        thread_join(thread);
    }
    end(&h);
}

TEST(fork, prefork_default_bus)
{
    struct exitbus *bus = exitbus_default();
    check(bus);
    /* AddressSanitizer's allocator does not survive a fork while a thread begins. */
    await(thread_is_in("exitbus-reclaim", SYS_futex));
    pid_t pid = fork();
    if (pid == 0) {
        struct exitbus *own = exitbus_default();
        must(own && own != bus && own == exitbus_default());
        must_equal(exitbus_publish_pid(bus, 1, 0), -ESTALE);
        must_equal(exitbus_destroy(bus), -ESTALE);
        must_equal(exitbus_destroy(own), -EPERM);
        use_own_bus(own);
        leave_process(0);
    }
    int status;
    check_equal(waitpid(pid, &status, 0), pid);
    check_equal(status, 0);
    check(exitbus_default() == bus);
    check_ok(exitbus_publish_pid(bus, 1, 0));
}

#endif

TEST(process, default_bus)
{
    struct exitbus *bus = exitbus_default();
    check(bus != NULL);
    check(exitbus_default() == bus);
    check_equal(exitbus_destroy(bus), -EPERM);
    struct exitbus_subscription *subscription;
    struct exitbus_event event;
    spawn_tiny(bus, "9", &subscription);
    check_ok(exitbus_receive(subscription, &event, -1));
    check_equal(event.exit_code, 9);
    check_ok(exitbus_unsubscribe(subscription));
}

static void *take_default(void *unused)
{
    (void)unused;
    return exitbus_default();
}

TEST(process, default_bus_from_threads)
{
    pthread_t threads[8];
    void *first = NULL;
    for (int i = 0; i < 8; i++)
        threads[i] = thread_start(take_default, NULL);
    for (int i = 0; i < 8; i++) {
        void *bus;
        must_equal(pthread_join(threads[i], &bus), 0);
        first = i == 0 ? bus : first;
        check(bus && bus == first);
    }
}

TEST(process, destroy)
{
    check_ok(exitbus_destroy(NULL));
    struct exitbus *bus = bus_new();
    rcu_read_lock();
    int inside = exitbus_destroy(bus);
    rcu_read_unlock();
    check_equal(inside, -EDEADLK);
    check_ok(exitbus_publish_pid(bus, 1, 0)); /* nothing has happened */
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    check_equal(exitbus_destroy(bus), -EBUSY);
    check_ok(exitbus_publish_pid(bus, 1, 0));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

static void *no_memory(void *context, size_t size, size_t alignment)
{
    (void)context;
    (void)size;
    (void)alignment;
    return NULL;
}

TEST(process, bad_options)
{
    struct exitbus *bus;
    struct exitbus_allocator allocator = {.allocate = no_memory};
    struct exitbus_options options = {.flags = 1};
    check_equal(exitbus_create(NULL, NULL), -EINVAL);
    check_equal(exitbus_create(&bus, &options), -EINVAL);
    options = (struct exitbus_options){.allocator = &allocator};
    check_equal(exitbus_create(&bus, &options), -EINVAL); /* it could give nothing back */
    check_ok(exitbus_thread_prepare());
}

/* A closed bus that a subscription keeps: nothing new on it. */
TEST(process, closed_bus)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *keeps = subscribe(bus, exitbus_topic_all()), *more;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL};
    struct exitbus_reaper *reaper;
    char *argv[] = {TINY_CHILD, NULL};
    struct exitbus_spawn_options spawn = {.argv = argv};
    struct exitbus_event event;
    pid_t pid;
    check_ok(exitbus_destroy(bus));
    check_equal(exitbus_reaper_start(bus, &options, &reaper), -ESHUTDOWN);
    check_equal(exitbus_spawn(bus, &spawn, &pid, NULL), -ESHUTDOWN);
    check_equal(exitbus_subscribe(bus, exitbus_topic_all(), 0, &more), -ESHUTDOWN);
    check_equal(exitbus_publish_pid(bus, 1, 0), -ESHUTDOWN);
    check_equal(exitbus_receive(keeps, &event, -1), -ESHUTDOWN);
    check_ok(exitbus_unsubscribe(keeps));
}

TEST(process, texts)
{
    check(strcmp(exitbus_version(), "0.1.0") == 0);
    for (int error = 0; error < 200; error++) {
        check(exitbus_strerror(error) != NULL && exitbus_strerror(error)[0] != '\0');
        check(exitbus_strerror(-error) == exitbus_strerror(error));
    }
    check(strstr(exitbus_strerror(-ESHUTDOWN), "closed") != NULL);
    check(strcmp(exitbus_strerror(INT_MIN), "unknown error") == 0);
    check(strcmp(exitbus_strerror(INT_MAX), "unknown error") == 0);
}

#ifndef __SANITIZE_THREAD__ /* which starts no thread in the child of a process with threads */
static _Atomic bool inside_section;

static void *stay_in_a_section(void *nothing)
{
    rcu_read_lock();
    atomic_store(&inside_section, true);
    pause();
    rcu_read_unlock();
    return nothing;
}

/* The host uses liburcu, and forks before it has used this library, in the middle of a section. */
TEST(fork, before_the_first_use)
{
    pthread_t thread = thread_start(stay_in_a_section, NULL);
    pthread_detach(thread);
    await(atomic_load(&inside_section));
    pid_t pid = fork();
    if (pid == 0) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
        must_equal(exitbus_publish_pid(bus, 1, 0), 0);
        must_equal(exitbus_unsubscribe(all), 0);
        must_equal(exitbus_destroy(bus), 0); /* which waits for a grace period */
        _exit(7);
    }
    int status;
    must_equal(waitpid(pid, &status, 0), pid);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
#endif
