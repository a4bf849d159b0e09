/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a bus holds while subscriptions, events and threads come and go. */
#include "support/harness.h"
#include "support/threads.h"

#include <exitbus/exitbus.h>

#include <sched.h>
#include <stdatomic.h>

#define MIB ((size_t)1 << 20)
#define THREADS_MAX 64

/* Threads on one processor: most of them are preempted, and most of these inside a section. */
struct churn {
    struct exitbus *bus;
    _Atomic size_t most; /* bytes that the bus has held at some time */
    unsigned rounds;     /* of each thread */
};

struct churner {
    struct churn *churn;
    pid_t pid;
};

static void stay_on_one_processor(void)
{
    cpu_set_t allowed, one;
    check_ok(sched_getaffinity(0, sizeof allowed, &allowed));
    size_t processor = 0;
    while (!CPU_ISSET(processor, &allowed))
        processor++;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    check_ok(sched_setaffinity(0, sizeof one, &one));
}

static size_t bytes_of(struct exitbus *bus)
{
    struct exitbus_stats stats;
    must_equal(exitbus_stats(bus, &stats), 0);
    return stats.bytes;
}

static void note_bytes(struct churn *churn)
{
    size_t bytes = bytes_of(churn->bus), most = atomic_load(&churn->most);
    while (most < bytes && !atomic_compare_exchange_weak(&churn->most, &most, bytes))
        continue;
}

/* Returns the most bytes that the bus has held while so many threads ran `body`. */
static size_t churn(unsigned threads, unsigned rounds, void *(*body)(void *))
{
    struct churn churn = {.rounds = rounds};
    struct churner churners[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    stay_on_one_processor();
    check_ok(exitbus_create(&churn.bus, NULL));
    for (unsigned i = 0; i < threads; i++) {
        churners[i] = (struct churner){&churn, (pid_t)(i + 1)};
        ids[i] = thread_start(body, &churners[i]);
    }
    for (unsigned i = 0; i < threads; i++)
        thread_join(ids[i]);
    check_ok(exitbus_destroy(churn.bus));
    fprintf(stderr, "%u threads: the bus held up to %zu KiB\n", threads, churn.most / 1024);
    return churn.most;
}

static void *subscribe_and_unsubscribe(void *argument)
{
    const struct churner *churner = argument;
    struct churn *churn = churner->churn;
    for (unsigned i = 0; i < churn->rounds; i++) {
        struct exitbus_subscription *sub;
        must_equal(exitbus_subscribe(churn->bus, exitbus_topic_pid(churner->pid), 0, &sub), 0);
        must_equal(exitbus_unsubscribe(sub), 0);
        if (i % 4096 == 0)
            note_bytes(churn);
    }
    return NULL;
}

/* The worker gets a small share of the processor, and can't free what sixteen threads retire. */
TEST(lifetime, churn_unbounded)
{
    check(churn(16, scaled(80000), subscribe_and_unsubscribe) <= 64 * MIB);
}

static void *publish_and_receive(void *argument)
{
    const struct churner *churner = argument;
    struct churn *churn = churner->churn;
    struct exitbus_subscription *sub;
    struct exitbus_event events[8];
    must_equal(exitbus_subscribe(churn->bus, exitbus_topic_pid(churner->pid), 0, &sub), 0);
    for (unsigned i = 0; i < churn->rounds; i++) {
        for (unsigned event = 0; event < 8; event++)
            must_equal(exitbus_publish_pid(churn->bus, churner->pid, 0), 0);
        for (ssize_t taken = 0; taken < 8;) {
            ssize_t result = exitbus_receive_batch(sub, events, 8, 0);
            must(result > 0);
            taken += result;
        }
        if (i % 1024 == 0)
            note_bytes(churn);
    }
    must_equal(exitbus_unsubscribe(sub), 0);
    return NULL;
}

/* A grace period lasts until each preempted thread has run. */
TEST(lifetime, churn_of_segments_unbounded)
{
    check(churn(64, scaled(16000), publish_and_receive) <= 384 * MIB);
}

enum { BATCHERS = 400 };
static pthread_barrier_t all_have_published;

static void *publish_batch(void *bus)
{
    struct exitbus_event events[2] = {{.kind = EXITBUS_EVENT_PID, .pid = 1},
                                      {.kind = EXITBUS_EVENT_PID, .pid = 2}};
    must_equal(exitbus_publish_batch(bus, events, 2, NULL), 0);
    pthread_barrier_wait(&all_have_published);
    return NULL;
}

/* Threads that are there at once, and publish a batch each, leave no buffer each behind. */
TEST(lifetime, batch_buffers)
{
    struct exitbus *bus;
    pthread_t ids[BATCHERS];
    check_ok(exitbus_create(&bus, NULL));
    check_ok(pthread_barrier_init(&all_have_published, NULL, BATCHERS));
    for (unsigned i = 0; i < BATCHERS; i++)
        ids[i] = thread_start(publish_batch, bus);
    for (unsigned i = 0; i < BATCHERS; i++)
        thread_join(ids[i]);
    check_ok(pthread_barrier_destroy(&all_have_published));
    await(bytes_of(bus) <= 6 * MIB);
    check_ok(exitbus_destroy(bus));
}
