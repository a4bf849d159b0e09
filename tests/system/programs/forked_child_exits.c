/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A process that has used the library may end by exit(), or by return from main: a forked child,
 * and a process of which a thread is stopped in the middle of a call. From 0.13.3 on liburcu's
 * destructor waits for the thread of its call_rcu, which a forked child does not have, and which
 * waits for the stopped one: so the library must never have started that. Here a destructor that
 * does the same stands in for it, whichever liburcu is there, with the entries to call_rcu, which
 * remember that they were called.
 *
 * Exit status: 0 passed. It hangs, and is ended by SIGALRM, if it has failed.
 */
#include <exitbus/exitbus.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_S 60

/* ---------------------------------------------------------------------- in place of liburcu */

static _Atomic bool has_call_rcu_thread;

void *urcu_bp_get_default_call_rcu_data(void);
void *urcu_bp_create_call_rcu_data(unsigned long flags, int cpu);
void urcu_bp_call_rcu(void *head, void (*callback)(void *));

void *urcu_bp_get_default_call_rcu_data(void)
{
    atomic_store(&has_call_rcu_thread, true);
    return NULL;
}

void *urcu_bp_create_call_rcu_data(unsigned long flags, int cpu)
{
    (void)flags;
    (void)cpu;
    return urcu_bp_get_default_call_rcu_data();
}

void urcu_bp_call_rcu(void *head, void (*callback)(void *))
{
    (void)head;
    (void)callback;
    urcu_bp_get_default_call_rcu_data();
}

__attribute__((destructor)) static void wait_for_call_rcu_thread(void)
{
    while (atomic_load(&has_call_rcu_thread))
        pause();
}

/* -------------------------------------------------------------------------------- the process */

static _Atomic bool stops, stopped;

/* An allocator under which a thread can be stopped for ever, in the middle of a call. */
static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    while (atomic_load(&stops)) {
        atomic_store(&stopped, true);
        pause();
    }
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

static void release(void *context, void *address, size_t size)
{
    (void)context;
    (void)size;
    free(address);
}

static void must(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "forked_child_exits: FAILED: %s\n", what);
    _exit(1);
}

static void use(struct exitbus *bus)
{
    struct exitbus_subscription *subscription;
    struct exitbus_event event;
    must(exitbus_subscribe(bus, exitbus_topic_all(), 0, &subscription) == 0, "subscribe");
    must(exitbus_publish_pid(bus, 1, 0) == 0, "publish");
    must(exitbus_receive(subscription, &event, 0) == 0, "receive");
    must(exitbus_unsubscribe(subscription) == 0, "unsubscribe");
}

/* Until memory runs out, and the allocator is asked for more. */
static void *subscribe_for_ever(void *bus)
{
    struct exitbus_subscription *subscription;
    for (;;)
        must(exitbus_subscribe(bus, exitbus_topic_all(), 0, &subscription) == 0, "subscribe");
    return NULL;
}

static struct exitbus *make_bus(void)
{
    static const struct exitbus_allocator allocator = {.allocate = allocate, .release = release};
    const struct exitbus_options options = {.allocator = &allocator};
    struct exitbus *bus;
    must(exitbus_create(&bus, &options) == 0, "create");
    use(bus);
    return bus;
}

static void exit_at_once(struct exitbus *bus)
{
    (void)bus;
    exit(3);
}

static void exit_with_a_bus(struct exitbus *bus)
{
    (void)bus;
    use(make_bus());
    exit(3);
}

static void exit_with_a_stopped_thread(struct exitbus *bus)
{
    pthread_t thread;
    (void)bus;
    struct exitbus *own = make_bus();
    atomic_store(&stops, true);
    must(pthread_create(&thread, NULL, subscribe_for_ever, own) == 0, "pthread_create");
    while (!atomic_load(&stopped))
        nanosleep(&(struct timespec){.tv_nsec = 200 * 1000}, NULL);
    /* Now no grace period ends, and there is work for the worker. */
    exit(3);
}

static void expect_end(const char *what, void (*body)(struct exitbus *), struct exitbus *bus)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        alarm(PATIENCE_S);
        body(bus);
    }
    must(pid > 0 && waitpid(pid, &status, 0) == pid, "waitpid");
    must(WIFEXITED(status) && WEXITSTATUS(status) == 3, what);
    printf("%s: ended\n", what);
    fflush(stdout);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    /* Before this process uses the library, and after. */
    expect_end("a process with a bus", exit_with_a_bus, NULL);
#if defined(__SANITIZE_THREAD__) /* which starts no threads in a forked child */
    (void)exit_with_a_stopped_thread;
#else
    expect_end("a process with a thread stopped in a call", exit_with_a_stopped_thread, NULL);
#endif
    struct exitbus *bus = make_bus();
    expect_end("a forked child", exit_at_once, bus);
#if !defined(__SANITIZE_THREAD__)
    expect_end("a forked child with a bus of its own", exit_with_a_bus, bus);
    expect_end("such a one with a thread stopped in a call", exit_with_a_stopped_thread, bus);
#endif
    must(exitbus_destroy(bus) == 0, "destroy");
    alarm(PATIENCE_S);
    puts("forked_child_exits: passed");
    return 0;
}
