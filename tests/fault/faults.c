/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Clean failure (G8), by injection: memory that fails at the first, second, … nth allocation, once
 * or until it recovers, and system calls that fail, each at its first, second, … nth call, over
 * whole lives of a bus with subscriptions, receivers, reapers and real children. Every call
 * succeeds, or returns the error and has had no effect; whatever was ordered reaches everybody it
 * is for, once, in order; nothing hangs, and in the end all memory, descriptors and children are
 * gone.
 */
#include "base/sys.h"
#include "support/cgroups.h"
#include "support/harness.h"
#include "support/scene.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ------------------------------------------------------------------- memory that can fail */

static struct {
    _Atomic unsigned long calls;
    _Atomic unsigned long first, last; /* the calls that fail, counted from 1 */
    _Atomic unsigned long failed;
    _Atomic long blocks, bytes; /* given out */
} heap;

static void *heap_allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    unsigned long call = atomic_fetch_add(&heap.calls, 1) + 1;
    if (call >= atomic_load(&heap.first) && call <= atomic_load(&heap.last)) {
        atomic_fetch_add(&heap.failed, 1);
        return NULL;
    }
    size_t rounded = (size + alignment - 1) / alignment * alignment;
    void *memory = aligned_alloc(alignment, rounded);
    must(memory);
    memset(memory, 0xa5, rounded); /* nobody may count on zeros */
    atomic_fetch_add(&heap.blocks, 1);
    atomic_fetch_add(&heap.bytes, (long)size);
    return memory;
}

static void heap_release(void *context, void *memory, size_t size)
{
    (void)context;
    atomic_fetch_sub(&heap.blocks, 1);
    atomic_fetch_sub(&heap.bytes, (long)size);
    free(memory);
}

static const struct exitbus_allocator heap_allocator = {heap_allocate, heap_release, NULL};
static const struct exitbus_options heap_options = {.allocator = &heap_allocator};

/* From the nth call on, for `length` calls. */
static void heap_fail(unsigned long nth, unsigned long length)
{
    atomic_store(&heap.calls, 0);
    atomic_store(&heap.failed, 0);
    atomic_store(&heap.first, nth);
    atomic_store(&heap.last, length > ULONG_MAX - nth ? ULONG_MAX : nth + length - 1);
}

/* From the next call on, until heap_recover(). */
static void heap_fail_now(void)
{
    heap_fail(1, ULONG_MAX);
}

static void heap_recover(void)
{
    atomic_store(&heap.last, 0);
}

static void heap_check_balance(void)
{
    await(atomic_load(&heap.blocks) == 0); /* the last of it may go with a grace period */
    must_equal(atomic_load(&heap.bytes), 0);
}

/* ------------------------------------------------------------- receivers that live with it */

static int take_patiently(struct reader *reader, int64_t timeout)
{
    int result;
    while ((result = reader_take(reader, timeout)) == -ENOMEM) {
        must_equal(timeout, 0);
        sched_yield(); /* an event waits for memory: it will come */
    }
    return result;
}

static void *patient_asleep(void *argument)
{
    struct reader *reader = argument;
    int result;
    halt_note_here = &reader->note;
    while ((result = take_patiently(reader, -1)) == 0)
        continue;
    must_equal(result, -ESHUTDOWN);
    return NULL;
}

static void *patient_by_fd(void *argument)
{
    struct reader *reader = argument;
    int fd;
    while ((fd = exitbus_subscription_fd(reader->subscription)) < 0)
        sched_yield(); /* an injected failure */
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    int result;
    while ((result = take_patiently(reader, 0)) != -ESHUTDOWN) {
        if (result == 0)
            continue;
        must_equal(result, -EAGAIN);
        atomic_store(&reader->drained_at, atomic_load(&reader->note.taken) + 1);
        while (poll(&polled, 1, -1) < 0)
            must_equal(errno, EINTR); /* SIGCHLD */
    }
    return NULL;
}

static void patient_start(struct reader *reader, enum how how)
{
    must(exitbus_subscription_ref(reader->subscription) == 0);
    reader->how = how;
    reader->thread = thread_start(how == ASLEEP ? patient_asleep : patient_by_fd, reader);
}

/* -------------------------------------------------------------- memory: every nth allocation */

#define PIDS 300 /* enough for a second slab of subscriptions, and of each size of segment */
#define EXECS 120
#define ROUNDS 6 /* of events for each pid: they fill its segments of 1 and 4 cells */

/* A driver that makes every call, one after the other, and knows what must come of it. */
struct life {
    struct exitbus *bus;
    uint64_t ordered;     /* events so far */
    unsigned long errors; /* calls that said -ENOMEM */
    bool lasting;         /* memory comes back only when a call has failed */
    struct reader witness, asleep, by_fd;
    struct exitbus_subscription *pids[PIDS], *execs[EXECS];
};

/* A call has failed: it has had no effect, and what needs no memory goes on. */
static void life_failed(struct life *life)
{
    life->errors++;
    must(atomic_load(&heap.failed) > 0);
    if (!life->bus)
        must_equal(atomic_load(&heap.blocks), 0);
    if (life->bus) {
        struct exitbus_stats stats;
        do /* the worker may give a slab back between the two looks */
            must_equal(exitbus_stats(life->bus, &stats), 0);
        while (stats.bytes != (size_t)atomic_load(&heap.bytes));
        must_equal(stats.published, life->ordered);
    }
    if (life->bus && life->pids[0] && life->lasting) {
        struct exitbus_event event;
        must_equal(exitbus_unsubscribe(life->pids[0]), 0);
        life->pids[0] = NULL;
        int result = exitbus_receive(life->pids[1], &event, 0);
        must(result == 0 || result == -EAGAIN || result == -ENOMEM);
    }
    if (life->lasting)
        heap_recover();
}

/* A call, until it succeeds. */
#define through(life, call)                                                                        \
    do {                                                                                           \
        int through_;                                                                              \
        while ((through_ = (call)) == -ENOMEM)                                                     \
            life_failed(life);                                                                     \
        must_equal(through_, 0);                                                                   \
    } while (0)

static void life_publish(struct life *life, const struct exitbus_event *events, size_t count)
{
    uint64_t seq;
    through(life, exitbus_publish_batch(life->bus, events, count, &seq));
    must_equal(seq, life->ordered + 1);
    life->ordered += count;
}

static void life_subscribe(struct life *life)
{
    char id[16];
    for (int i = 0; i < PIDS; i++)
        through(life, exitbus_subscribe(life->bus, exitbus_topic_pid(i + 1),
                                        i % 3 ? 0 : EXITBUS_SUBSCRIBE_ONE_SHOT, &life->pids[i]));
    for (int i = 0; i < EXECS; i++) {
        snprintf(id, sizeof id, "%d", i);
        through(life,
                exitbus_subscribe(life->bus,
                                  i % 2 ? exitbus_topic_exec(id, id) : exitbus_topic_container(id),
                                  0, &life->execs[i]));
    }
}

static void life_publish_all(struct life *life)
{
    struct exitbus_event batch[3];
    char id[EXITBUS_ID_MAX + 1] = "";
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < PIDS; i++) {
            struct exitbus_event event = pid_event(i + 1, round);
            life_publish(life, &event, 1);
        }
        for (int i = 0; i < EXECS; i += 3) {
            snprintf(id, sizeof id, "%d", i);
            batch[0] = exec_event(id, id, round);
            batch[1] = pid_event(1000000, round);
            memset(id, 'w', EXITBUS_ID_MAX);
            batch[2] = exec_event(id, id, round);
            life_publish(life, batch, 1 + (size_t)(i + round) % 3);
        }
    }
}

/* A reader whose subscription succeeds sooner or later. */
static void life_reader(struct life *life, struct reader *reader)
{
    *reader =
        (struct reader){.topic = exitbus_topic_all(), .log = malloc(LOG_MAX * sizeof *reader->log)};
    must(reader->log);
    through(life, exitbus_subscribe(life->bus, reader->topic, 0, &reader->subscription));
}

/* Each of the rest has its events, in order. */
static void life_check_rest(struct life *life)
{
    struct exitbus_event event;
    for (int i = 0; i < PIDS; i++) {
        uint64_t last = 0;
        int expected = i % 3 ? ROUNDS : 1, got = 0, result;
        for (; life->pids[i] && (result = exitbus_receive(life->pids[i], &event, 0)) == 0; got++) {
            must(event.seq > last && event.pid == i + 1);
            last = event.seq;
        }
        if (life->pids[i] && i != 1) /* 1 was received from on the way */
            must_equal(got, expected);
        must_equal(exitbus_unsubscribe(life->pids[i]), 0);
    }
    for (int i = 0; i < EXECS; i++) {
        int got = 0;
        while (exitbus_receive(life->execs[i], &event, 0) == 0)
            must(event.kind == EXITBUS_EVENT_EXEC && atoi(event.container_id) == i && ++got > 0);
        must_equal(got, i % 3 ? 0 : ROUNDS);
        must_equal(exitbus_unsubscribe(life->execs[i]), 0);
    }
}

static void life_stop_reader(struct life *life, struct reader *reader)
{
    judge_reader(&life->witness, reader);
    reader_stop(reader, true);
    judge_reader(&life->witness, reader);
    reader_free(reader);
}

/* A whole life in which `length` allocations fail from the nth on. True if any did. */
static bool live(unsigned long nth, unsigned long length)
{
    struct life *life = calloc(1, sizeof *life);
    must(life);
    life->lasting = length > 1;
    heap_fail(nth, length);
    through(life, exitbus_create(&life->bus, &heap_options));
    life_reader(life, &life->witness);
    life_reader(life, &life->asleep);
    life_reader(life, &life->by_fd);
    while (exitbus_subscription_fd(life->by_fd.subscription) == -ENOMEM)
        life_failed(life); /* here, where the bytes are counted, and not in the reader's thread */
    patient_start(&life->asleep, ASLEEP);
    patient_start(&life->by_fd, BY_FD);
    life_subscribe(life);
    life_publish_all(life);
    if (atomic_load(&heap.failed) > 0)
        heap_recover();
    witness_drain(&life->witness);
    must_equal(atomic_load(&life->witness.note.taken), life->ordered);
    life_stop_reader(life, &life->asleep);
    life_stop_reader(life, &life->by_fd);
    life_check_rest(life);
    must_equal(exitbus_unsubscribe(life->witness.subscription), 0);
    reader_free(&life->witness);
    struct exitbus_stats stats;
    must_equal(exitbus_stats(life->bus, &stats), 0);
    must_equal(stats.published, life->ordered);
    must_equal(stats.subscriptions, 0);
    must_equal(exitbus_destroy(life->bus), 0);
    heap_check_balance();
    free(life);
    return atomic_load(&heap.failed) > 0;
}

static void live_through_every(unsigned long length)
{
    unsigned long nth = 1;
    while (live(nth, length))
        nth++;
    check(nth > 15); /* bus, directory, slots, batch, two slabs of most sizes */
}

TEST(fault_memory, every_nth_allocation_once)
{
    live_through_every(1);
}

TEST(fault_memory, from_every_nth_allocation_until_it_recovers)
{
    live_through_every(ULONG_MAX);
}

/* ------------------------------------------------------- memory: what was ordered meanwhile */

struct out_of_memory {
    struct exitbus *bus;
    struct reader witness, asleep, by_fd;
};

/* Every queue's first segment is full, and there is no memory for a second. */
static void out_of_memory_set(struct out_of_memory *scene)
{
    halt_hook_set();
    heap_fail(1, 0);
    check_ok(exitbus_create(&scene->bus, &heap_options));
    reader_init(&scene->witness, scene->bus, exitbus_topic_all(), 0);
    reader_init(&scene->asleep, scene->bus, exitbus_topic_all(), 0);
    reader_init(&scene->by_fd, scene->bus, exitbus_topic_pid(VICTIM_PID), 0);
    patient_start(&scene->asleep, ASLEEP);
    patient_start(&scene->by_fd, BY_FD);
    check_ok(exitbus_publish_pid(scene->bus, VICTIM_PID, FILL_CODE));
    reader_await_rest(&scene->asleep, 1);
    reader_await_rest(&scene->by_fd, 1);
    heap_fail_now();
}

static void out_of_memory_end(struct out_of_memory *scene)
{
    witness_drain(&scene->witness);
    judge_reader(&scene->witness, &scene->asleep);
    judge_reader(&scene->witness, &scene->by_fd);
    reader_stop(&scene->asleep, true);
    reader_stop(&scene->by_fd, true);
    check_ok(exitbus_unsubscribe(scene->witness.subscription));
    check_ok(exitbus_destroy(scene->bus));
    reader_free(&scene->witness);
    reader_free(&scene->asleep);
    reader_free(&scene->by_fd);
    heap_check_balance();
}

static uint64_t published(struct exitbus *bus)
{
    struct exitbus_stats stats;
    must_equal(exitbus_stats(bus, &stats), 0);
    return stats.published;
}

/* What is ordered when memory runs out comes by itself when there is memory: nobody publishes. */
TEST(fault_memory, ordered_without_memory_comes_by_itself)
{
    struct out_of_memory scene;
    struct exitbus_event event;
    out_of_memory_set(&scene);
    check_ok(exitbus_publish_pid(scene.bus, VICTIM_PID, LAST_CODE)); /* it is ordered */
    for (int i = 0; i < 3; i++) {                                    /* nothing more is */
        check_equal(exitbus_publish_pid(scene.bus, 1, OTHER_CODE), -ENOMEM);
        check_equal(exitbus_publish_exec(scene.bus, "c", "e", OTHER_CODE), -ENOMEM);
    }
    check_equal(published(scene.bus), 2);
    check_ok(exitbus_receive(scene.witness.subscription, scene.witness.log, 0));
    atomic_store(&scene.witness.note.taken, 1);
    check_equal(exitbus_receive(scene.witness.subscription, &event, 0), -ENOMEM);
    check_equal(exitbus_receive(scene.witness.subscription, &event, 1), -ETIMEDOUT);
    check_equal(atomic_load(&scene.asleep.note.taken), 1);
    check_equal(atomic_load(&scene.by_fd.note.taken), 1);
    heap_recover();
    await(atomic_load(&scene.asleep.note.taken) == 2 && atomic_load(&scene.by_fd.note.taken) == 2);
    check_equal(published(scene.bus), 2);
    out_of_memory_end(&scene);
}

/* A subscription that leaves takes its want of memory with it. */
TEST(fault_memory, unsubscribing_what_lacks_memory)
{
    struct out_of_memory scene;
    out_of_memory_set(&scene);
    check_ok(exitbus_publish_pid(scene.bus, VICTIM_PID, LAST_CODE));
    check_equal(exitbus_publish_pid(scene.bus, 1, OTHER_CODE), -ENOMEM);
    reader_stop(&scene.asleep, true);
    reader_stop(&scene.by_fd, true);
    check_ok(exitbus_unsubscribe(scene.witness.subscription));
    check_ok(exitbus_publish_pid(scene.bus, 1, OTHER_CODE));
    check_equal(published(scene.bus), 3);
    check_ok(exitbus_destroy(scene.bus));
    check_equal(atomic_load(&scene.asleep.note.taken), 1);
    check_equal(atomic_load(&scene.by_fd.note.taken), 1);
    reader_free(&scene.witness);
    reader_free(&scene.asleep);
    reader_free(&scene.by_fd);
    heap_check_balance();
}

/* Destroyed before the memory came. */
TEST(fault_memory, destroying_a_bus_that_lacks_memory)
{
    struct out_of_memory scene;
    out_of_memory_set(&scene);
    check_ok(exitbus_publish_pid(scene.bus, VICTIM_PID, LAST_CODE));
    check_equal(exitbus_publish_pid(scene.bus, 1, OTHER_CODE), -ENOMEM);
    check_ok(exitbus_destroy(scene.bus)); /* wakes the receivers; the handles stay */
    reader_stop(&scene.asleep, true);
    reader_stop(&scene.by_fd, true);
    check_ok(exitbus_unsubscribe(scene.witness.subscription));
    reader_free(&scene.witness);
    reader_free(&scene.asleep);
    reader_free(&scene.by_fd);
    heap_check_balance();
}

struct halted_publisher {
    struct exitbus *bus;
    struct halt halt;
    pthread_t thread;
    int result;
    uint64_t seq;
};

static void *halted_publish(void *argument)
{
    struct halted_publisher *publisher = argument;
    struct exitbus_event event = pid_event(VICTIM_PID, VICTIM_CODE);
    halt_begin(&publisher->halt);
    publisher->result = exitbus_publish(publisher->bus, &event, &publisher->seq);
    halt_end(&publisher->halt);
    return NULL;
}

static void halted_create(struct halted_publisher *publisher, struct exitbus *bus, enum probe step)
{
    publisher->bus = bus;
    halt_init(&publisher->halt, step, 0);
    must(pthread_create(&publisher->thread, NULL, halted_publish, publisher) == 0);
}

static void halted_start(struct halted_publisher *publisher, struct exitbus *bus, enum probe step)
{
    halted_create(publisher, bus, step);
    must(halt_await(&publisher->halt));
}

static void halted_finish(struct halted_publisher *publisher)
{
    halt_release(&publisher->halt);
    must(pthread_join(publisher->thread, NULL) == 0);
}

/* A publisher is stopped, those who would help it have no memory; then in either order it goes on
 * and memory comes back. */
static void stopped_and_no_memory(enum probe step, bool goes_on_first)
{
    struct out_of_memory scene;
    struct halted_publisher publisher;
    out_of_memory_set(&scene);
    halted_start(&publisher, scene.bus, step);
    for (int i = 0; i < 3; i++)
        check_equal(exitbus_publish_pid(scene.bus, 1, OTHER_CODE), -ENOMEM);
    check_equal(published(scene.bus), 2);
    if (goes_on_first) {
        halted_finish(&publisher);
        check_equal(exitbus_publish_pid(scene.bus, 1, OTHER_CODE), -ENOMEM);
        heap_recover();
    } else {
        heap_recover();
        check_ok(exitbus_publish_pid(scene.bus, 1, OTHER_CODE)); /* helps */
        await(atomic_load(&scene.by_fd.note.taken) == 2);
        halted_finish(&publisher);
    }
    check_ok(publisher.result);
    check_equal(publisher.seq, 2);
    await(atomic_load(&scene.by_fd.note.taken) == 2);
    for (int i = 0; i < 40; i++) /* slots, the one that was left among them, serve again */
        check_ok(exitbus_publish_pid(scene.bus, 1, OTHER_CODE));
    witness_drain(&scene.witness);
    check_equal(occurrences(&scene.witness, VICTIM_CODE), 1);
    out_of_memory_end(&scene);
}

TEST(fault_memory, stopped_publisher_without_memory)
{
    static const enum probe steps[] = {PROBE_PUBLISH_ORDERED, PROBE_DELIVER_BEFORE_APPEND,
                                       PROBE_DELIVER_BEFORE_WAKE};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        stopped_and_no_memory(steps[i], false);
        stopped_and_no_memory(steps[i], true);
    }
}

/*
 * Threads whose numbers are above those that have slots, and no memory for more: they fail, with
 * nothing ordered; with memory they have slots, and keep them.
 */
TEST(fault_memory, slots_run_out)
{
    enum { PUBLISHERS = 40 };
    static struct halted_publisher publishers[PUBLISHERS];
    struct out_of_memory scene;
    unsigned refused = 0;
    out_of_memory_set(&scene);
    for (int i = 0; i < PUBLISHERS; i++) {
        halted_create(&publishers[i], scene.bus, PROBE_PUBLISH_SLOT_CLAIMED);
        bool stopped = halt_await(&publishers[i].halt);
        must(stopped || publishers[i].result == -ENOMEM);
        if (!stopped) {
            refused++;
            halted_finish(&publishers[i]);
            heap_recover();
            halted_start(&publishers[i], scene.bus, PROBE_PUBLISH_SLOT_CLAIMED);
            heap_fail_now();
        }
    }
    check(refused > 0);
    check_equal(published(scene.bus), 1);
    heap_recover();
    for (int i = 0; i < PUBLISHERS; i++) {
        halted_finish(&publishers[i]);
        check_ok(publishers[i].result);
    }
    check_equal(published(scene.bus), 1 + PUBLISHERS);
    out_of_memory_end(&scene);
}

/* ------------------------------------------------------------------ memory: many at once */

#define CROWD 3
#define CROWD_EVENTS 400

static _Atomic unsigned long crowd_errors;

static void *crowd_publish(void *bus)
{
    for (int i = 0; i < CROWD_EVENTS; i++) {
        struct exitbus_event events[] = {pid_event(1 + i % 50, OTHER_CODE),
                                         exec_event("crowd", "exec", OTHER_CODE)};
        int result;
        while ((result = exitbus_publish_batch(bus, events, 1 + (size_t)i % 2, NULL)) == -ENOMEM)
            atomic_fetch_add(&crowd_errors, 1);
        must_equal(result, 0);
    }
    return NULL;
}

static void *crowd_subscribe(void *bus)
{
    for (int i = 0; i < CROWD_EVENTS; i++) {
        struct exitbus_subscription *subscription;
        int result;
        while ((result = exitbus_subscribe(bus, exitbus_topic_pid(1 + i % 50), 0, &subscription)) ==
               -ENOMEM)
            atomic_fetch_add(&crowd_errors, 1);
        must_equal(result, 0);
        must_equal(exitbus_unsubscribe(subscription), 0);
    }
    return NULL;
}

/* Of each ten allocations nine fail, while publishers, subscribers and receivers are at it. */
static void *crowd_allocate(void *context, size_t size, size_t alignment)
{
    if (atomic_load(&heap.last) && atomic_fetch_add(&heap.failed, 1) % 10 != 9)
        return NULL;
    return heap_allocate(context, size, alignment);
}

TEST(fault_memory, many_at_once)
{
    enum { BACKLOGS = 6 };
    const struct exitbus_allocator allocator = {crowd_allocate, heap_release, NULL};
    const struct exitbus_options options = {.allocator = &allocator};
    struct reader readers[BACKLOGS + 2];
    struct reader *witness = &readers[0];
    struct exitbus *bus;
    heap_fail(ULONG_MAX, 0);
    atomic_store(&heap.last, 0);
    check_ok(exitbus_create(&bus, &options));
    for (int i = 0; i < BACKLOGS + 2; i++)
        reader_init(&readers[i], bus,
                    i % 3 == 2 ? exitbus_topic_container("crowd") : exitbus_topic_all(), 0);
    patient_start(&readers[BACKLOGS], ASLEEP);
    patient_start(&readers[BACKLOGS + 1], BY_FD);
    atomic_store(&heap.last, 1);
    pthread_t threads[CROWD + 1];
    for (int i = 0; i <= CROWD; i++)
        must(pthread_create(&threads[i], NULL, i < CROWD ? crowd_publish : crowd_subscribe, bus) ==
             0);
    for (int i = 0; i <= CROWD; i++)
        must(pthread_join(threads[i], NULL) == 0);
    check(atomic_load(&crowd_errors) > 0);
    atomic_store(&heap.last, 0);
    witness_drain(witness);
    check_equal(atomic_load(&witness->note.taken), CROWD * CROWD_EVENTS * 3 / 2);
    for (int i = 1; i < BACKLOGS; i++)
        while (reader_take(&readers[i], 0) == 0)
            continue;
    for (int i = 1; i < BACKLOGS + 2; i++)
        judge_reader(witness, &readers[i]);
    for (int i = 0; i < BACKLOGS + 2; i++) {
        if (i < BACKLOGS)
            check_ok(exitbus_unsubscribe(readers[i].subscription));
        else
            reader_stop(&readers[i], true);
        reader_free(&readers[i]);
    }
    check_ok(exitbus_destroy(bus));
    heap_check_balance();
}

/* -------------------------------------------------------------------------- real children */

#define CHILDREN 4
#define PATIENCE_NS 20000000000LL

/* A child of the test's own. */
static pid_t start_child(int code)
{
    char text[16];
    snprintf(text, sizeof text, "%d", code);
    char *argv[] = {TINY_CHILD, text, NULL};
    char *envp[] = {NULL};
    pid_t pid;
    must_equal(posix_spawn(&pid, TINY_CHILD, NULL, NULL, argv, envp), 0);
    return pid;
}

static bool has_children(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

/* Calls that fail are made again; each must fail with one of the errors injected. */
struct children {
    struct exitbus *bus;
    struct exitbus_reaper *reaper;
    bool watched, polled;
    bool (*may_fail)(int error);
    int code;          /* of the next child: no two have the same */
    unsigned failures; /* calls that failed */
    struct reader witness, by_fd;
};

#define attempt(children, call)                                                                    \
    do {                                                                                           \
        int attempt_;                                                                              \
        while ((attempt_ = (call)) < 0) {                                                          \
            if (!(children)->may_fail(-attempt_))                                                  \
                fprintf(stderr, "%s says %d\n", #call, attempt_);                                  \
            must((children)->may_fail(-attempt_));                                                 \
            (children)->failures++;                                                                \
        }                                                                                          \
    } while (0)

/* With a subscription, or with a handle, which `flags` may be for. */
static int spawn_child(struct children *children, pid_t *pid,
                       struct exitbus_subscription **subscription, struct exitbus_process **process,
                       uint32_t flags)
{
    char text[16];
    snprintf(text, sizeof text, "%d", ++children->code);
    char *argv[] = {TINY_CHILD, text, NULL};
    char *envp[] = {NULL};
    struct exitbus_spawn_options options = {.argv = argv, .envp = envp, .flags = flags};
    return process ? exitbus_process_spawn(children->bus, &options, process)
                   : exitbus_spawn(children->bus, &options, pid, subscription);
}

/* What a caller's own loop does, if the reaper has no thread. */
static int receive_child(struct children *children, struct exitbus_subscription *subscription,
                         struct exitbus_event *event)
{
    struct pollfd polled = {.events = POLLIN};
    if (children->polled) {
        polled.fd = exitbus_reaper_fd(children->reaper);
        must(polled.fd >= 0);
    }
    for (;;) {
        int result = exitbus_receive(subscription, event, children->polled ? 0 : PATIENCE_NS);
        if (result == -ENOMEM) {
            sched_yield();
            continue;
        }
        if (!children->polled || result != -EAGAIN)
            return result;
        int ready = poll(&polled, 1, (int)(PATIENCE_NS / 1000000));
        must(ready == 1 || (ready < 0 && errno == EINTR));
        must(exitbus_reaper_poll(children->reaper) >= 0);
    }
}

static bool signal_is_left; /* this process has SIGCHLD blocked, and leaves it to the reaper */

static uint32_t more_flags; /* of the reapers */
static int record_fd = -1;  /* and where they record exits; -1: nowhere */
static uint64_t record_offset;

static void leave_signal(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    must_equal(pthread_sigmask(SIG_BLOCK, &child, NULL), 0);
    signal_is_left = true;
}

static void children_begin(struct children *children, struct exitbus *bus)
{
    struct exitbus_reaper_options options = {.mode = children->watched ? EXITBUS_REAPER_WATCHED
                                                                       : EXITBUS_REAPER_ALL,
                                             .flags = children->polled ? EXITBUS_REAPER_POLLED : 0};
    if (signal_is_left)
        options.flags |= EXITBUS_REAPER_SIGNALFD;
    options.flags |= more_flags;
    options.record_fd = record_fd;
    children->bus = bus;
    children->code = 10;
    struct reader *readers[] = {&children->witness, &children->by_fd};
    for (int i = 0; i < 2; i++) {
        *readers[i] = (struct reader){.topic = exitbus_topic_all(),
                                      .log = malloc(64 * sizeof(struct exitbus_event))};
        must(readers[i]->log);
        attempt(children, exitbus_subscribe(bus, readers[i]->topic, 0, &readers[i]->subscription));
    }
    patient_start(&children->by_fd, BY_FD);
    attempt(children, exitbus_reaper_start(bus, &options, &children->reaper));
}

/* The witness takes what comes, until it has `count` events. */
static void children_take(struct children *children, unsigned count)
{
    struct reader *witness = &children->witness;
    while (atomic_load(&witness->note.taken) < count)
        must_equal(receive_child(children, witness->subscription,
                                 &witness->log[atomic_fetch_add(&witness->note.taken, 1)]),
                   0);
}

/*
 * One that the library has not started. Returns its exit code. `process`: where it is watched, by a
 * handle.
 */
static int start_foreign_child(struct children *children, struct exitbus_process **process)
{
    int code = ++children->code;
    pid_t pid = start_child(code);
    if (children->watched && process)
        attempt(children, exitbus_process_adopt(children->bus, pid, 0, process));
    else if (children->watched)
        attempt(children, exitbus_reaper_watch(children->reaper, pid));
    return code;
}

/* By this thread, or by the reaper, if this one can't. */
static void collect_directly(struct children *children, struct exitbus_process *process)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_process_wait(process, &event, children->polled ? 0 : PATIENCE_NS)) ==
           -EAGAIN) {
        must(children->polled && exitbus_reaper_poll(children->reaper) >= 0);
        sched_yield();
    }
    must_equal(result, 0);
}

/* The handle's answer, which the witness has got already, and its end. */
static void judge_handle(struct children *children, struct exitbus_process *process, int code)
{
    struct exitbus_event event;
    int fd;
    attempt(children, fd = exitbus_process_fd(process));
    must_equal(exitbus_process_wait(process, &event, children->polled ? 0 : PATIENCE_NS), 0);
    must_equal(event.exit_code, code);
    must_equal(event.pid, exitbus_process_pid(process));
    must_equal(exitbus_process_signal(process, SIGKILL, 0), -ESRCH);
    must_equal(exitbus_process_unref(process), 0);
}

/* Each child's exit was published once, and no other. */
static void children_judge(struct children *children, const int *codes, unsigned count)
{
    struct reader *witness = &children->witness;
    children_take(children, count);
    for (unsigned i = 0; i < count; i++)
        must_equal(occurrences(witness, codes[i]), 1);
}

/* What the witness has got is in the record, once, in that order. */
static void judge_record(struct children *children)
{
    struct reader *witness = &children->witness;
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++) {
        struct exitbus_event event;
        int result;
        while ((result = exitbus_record_read(record_fd, &record_offset, &event)) < 0)
            must(result == -EBADMSG || children->may_fail(-result));
        must_equal(event.pid, witness->log[i].pid);
        must_equal(event.exit_code, witness->log[i].exit_code);
    }
    int result;
    do
        result = exitbus_record_read(record_fd, &record_offset, &(struct exitbus_event){0});
    while (result != -ENODATA && children->may_fail(-result));
    must_equal(result, -ENODATA);
    if (record_offset > 1 << 16) { /* or each life would take longer than the one before */
        must_equal(ftruncate(record_fd, 0), 0);
        record_offset = 0;
    }
}

static void children_end(struct children *children)
{
    struct reader *witness = &children->witness;
    unsigned taken = atomic_load(&witness->note.taken);
    must_equal(exitbus_reaper_stop(children->reaper), 0);
    if (record_fd >= 0)
        judge_record(children);
    int result;
    while ((result = exitbus_publish_pid(children->bus, 1, LAST_CODE)) == -ENOMEM)
        must(children->may_fail(ENOMEM));
    must_equal(result, 0);
    must_equal(take_patiently(witness, PATIENCE_NS), 0);
    must_equal(witness->log[taken].exit_code, LAST_CODE); /* nothing came between */
    judge_reader(witness, &children->by_fd);
    reader_stop(&children->by_fd, true);
    must_equal(exitbus_unsubscribe(witness->subscription), 0);
    reader_free(&children->by_fd);
    reader_free(witness);
    must(!has_children());
}

/* Children started by the library and by others, received by several: all of it under faults. */
static void children_live(struct children *children, struct exitbus *bus)
{
    struct exitbus_subscription *subscriptions[CHILDREN];
    pid_t pids[CHILDREN];
    int codes[CHILDREN + 4];
    struct exitbus_process *spawned, *direct, *adopted = NULL;
    children_begin(children, bus);
    /* The reaper's first publish, for which a slot must be made, is of a child that only waitid()
     * knows (if it is not watched): if it were reaped, and not published, it would be lost. */
    codes[CHILDREN] = start_foreign_child(children, NULL);
    children_take(children, 1);
    for (int i = 0; i < CHILDREN; i++) {
        attempt(children, spawn_child(children, &pids[i], &subscriptions[i], NULL, 0));
        codes[i] = children->code;
    }
    attempt(children, spawn_child(children, NULL, NULL, &spawned, 0));
    codes[CHILDREN + 2] = children->code;
    attempt(children, spawn_child(children, NULL, NULL, &direct, EXITBUS_SPAWN_DIRECT));
    codes[CHILDREN + 3] = children->code;
    codes[CHILDREN + 1] = start_foreign_child(children, &adopted);
    for (int i = 0; i < CHILDREN; i++) {
        struct exitbus_event event;
        must_equal(receive_child(children, subscriptions[i], &event), 0);
        must_equal(event.pid, pids[i]);
        must_equal(event.exit_code, codes[i]);
        must_equal(exitbus_unsubscribe(subscriptions[i]), 0);
    }
    collect_directly(children, direct);
    children_judge(children, codes, CHILDREN + 4);
    judge_handle(children, direct, codes[CHILDREN + 3]);
    judge_handle(children, spawned, codes[CHILDREN + 2]);
    if (adopted)
        judge_handle(children, adopted, codes[CHILDREN + 1]);
    children_end(children);
}

/* ---------------------------------------------------------------------------- tasks, groups */

/* An exec whose program exits at once: before it is bound (`late`), or at any time. */
static struct exitbus_exec *run_in(struct children *children, struct exitbus_task *task,
                                   const char *id, bool late)
{
    struct exitbus_exec *exec;
    attempt(children, exitbus_exec_reserve(task, id, &exec));
    pid_t pid = start_child(++children->code);
    /* An ALL reaper takes it, and remembers it. Else it is a zombie until it is bound. */
    siginfo_t info = {0};
    while (late && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           (info.si_pid == 0 || !children->watched))
        sched_yield();
    attempt(children, exitbus_exec_started(exec, pid, -1));
    return exec;
}

static void judge_exec(struct children *children, struct exitbus_exec *exec, int code)
{
    struct exitbus_event event;
    int fd;
    must_equal(exitbus_exec_wait(exec, &event, PATIENCE_NS), 0);
    must_equal(event.exit_code, code);
    attempt(children, fd = exitbus_exec_fd(exec));
    must_equal(exitbus_exec_signal(exec, SIGKILL), -ESRCH);
    must_equal(exitbus_exec_unref(exec), 0);
}

static void next_of_task(struct exitbus_subscription *events, enum exitbus_event_kind kind,
                         const char *id)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(events, &event, PATIENCE_NS)) == -ENOMEM)
        sched_yield();
    must_equal(result, 0);
    must_equal(event.kind, kind);
    must(strcmp(event.exec_id, id) == 0);
}

static int cgroup_fd = -1; /* a cgroup for the next two, or none */

static struct exitbus_process *spawn_member(struct children *children, int cgroup)
{
    char *argv[] = {TINY_CHILD, "p", NULL};
    char *envp[] = {NULL};
    struct exitbus_spawn_attributes attributes = {.set = EXITBUS_ATTRIBUTE_CGROUP,
                                                  .cgroup_fd = cgroup};
    struct exitbus_spawn_options child = {.argv = argv, .envp = envp};
    struct exitbus_process *process;
    if (cgroup >= 0) {
        child.flags = EXITBUS_SPAWN_ATTRIBUTES;
        child.attributes = &attributes;
    }
    attempt(children, exitbus_process_spawn(children->bus, &child, &process));
    return process;
}

/* Two that wait for a signal are ended together: a set, or a cgroup. */
static void end_a_group(struct children *children, int cgroup)
{
    struct exitbus_group_options options = {
        .kind = EXITBUS_GROUP_SET, .name = "group", .cgroup_fd = cgroup};
    struct exitbus_process *members[2];
    struct exitbus_group *group;
    struct exitbus_event event;
    int fd;
    if (cgroup >= 0)
        options.kind = EXITBUS_GROUP_CGROUP;
    attempt(children, exitbus_group_create(children->bus, &options, &group));
    for (int i = 0; i < 2; i++) {
        members[i] = spawn_member(children, cgroup);
        if (cgroup < 0)
            attempt(children, exitbus_group_add(group, members[i]));
    }
    attempt(children, exitbus_group_end(group, SIGTERM, 0));
    must_equal(exitbus_group_wait(group, &event, PATIENCE_NS), 0);
    must_equal(event.kind, EXITBUS_EVENT_EMPTY);
    for (int i = 0; i < 2; i++) { /* those of a cgroup may be zombies yet */
        must_equal(exitbus_process_wait(members[i], &event, PATIENCE_NS), 0);
        must_equal(exitbus_process_unref(members[i]), 0);
    }
    attempt(children, fd = exitbus_group_fd(group));
    must_equal(exitbus_group_unref(group), 0);
}

/* A container, and a set of processes: all of it under faults. */
static void task_live(struct children *children, struct exitbus *bus)
{
    struct exitbus_reaper_options options = {.mode = children->watched ? EXITBUS_REAPER_WATCHED
                                                                       : EXITBUS_REAPER_ALL};
    struct exitbus_task_options in_cgroup = {.flags = EXITBUS_TASK_CGROUP, .cgroup_fd = cgroup_fd};
    struct exitbus_subscription *events;
    struct exitbus_exec *leader, *late, *cancelled;
    struct exitbus_task *task;
    struct exitbus_event event;
    children->bus = bus;
    children->code = 10;
    attempt(children, exitbus_subscribe(bus, exitbus_topic_container("c"), 0, &events));
    attempt(children, exitbus_reaper_start(bus, &options, &children->reaper));
    attempt(children, exitbus_task_create(bus, "c", cgroup_fd >= 0 ? &in_cgroup : NULL, &task));
    attempt(children, exitbus_exec_reserve(task, "cancelled", &cancelled));
    attempt(children, exitbus_exec_reserve(task, "", &leader));
    late = run_in(children, task, "late", true);
    int late_code = children->code;
    next_of_task(events, EXITBUS_EVENT_STARTED, "late");
    next_of_task(events, EXITBUS_EVENT_EXEC, "late");
    int leader_code = ++children->code;
    pid_t pid = start_child(leader_code);
    attempt(children, exitbus_exec_started(leader, pid, -1));
    next_of_task(events, EXITBUS_EVENT_STARTED, "");
    next_of_task(events, EXITBUS_EVENT_LEADER_DIED, "");
    must_equal(exitbus_exec_cancel(cancelled), 0);
    next_of_task(events, EXITBUS_EVENT_EXEC, "");
    must_equal(exitbus_exec_wait(cancelled, &event, PATIENCE_NS), -ECANCELED);
    must_equal(exitbus_exec_unref(cancelled), 0);
    judge_exec(children, late, late_code);
    judge_exec(children, leader, leader_code);
    must_equal(exitbus_task_end(task, SIGKILL, 0), -ESRCH);
    must_equal(exitbus_task_unref(task), 0);
    end_a_group(children, -1);
    if (cgroup_fd >= 0)
        end_a_group(children, cgroup_fd);
    must_equal(exitbus_receive(events, &event, 0), -EAGAIN); /* nothing else */
    must_equal(exitbus_unsubscribe(events), 0);
    must_equal(exitbus_reaper_stop(children->reaper), 0);
    must(!has_children());
}

/* What is lived through under faults. */
static void (*life_lived)(struct children *children, struct exitbus *bus) = children_live;

static bool memory_may_fail(int error)
{
    return error == ENOMEM;
}

/* Children, with memory failing from the nth allocation on; it is back when a publish has failed,
 * or a call of ours. */
static bool children_without_memory(unsigned long nth, unsigned long length, bool watched,
                                    bool polled)
{
    struct exitbus *bus;
    struct children children = {.watched = watched, .polled = polled, .may_fail = memory_may_fail};
    heap_fail(nth, length);
    while (exitbus_create(&bus, &heap_options) == -ENOMEM)
        continue;
    life_lived(&children, bus);
    must_equal(exitbus_destroy(bus), 0);
    heap_check_balance();
    return atomic_load(&heap.failed) > 0;
}

static void children_without_memory_every(bool watched, bool polled)
{
    unsigned long nth;
    for (nth = 1; children_without_memory(nth, 1, watched, polled); nth++)
        continue;
    check(nth > 6);
    for (nth = 1; children_without_memory(nth, 3, watched, polled); nth++)
        continue;
}

TEST(fault_memory, children_watched)
{
    children_without_memory_every(true, false);
}

TEST(fault_memory, children_all)
{
    children_without_memory_every(false, false);
}

TEST(fault_memory, children_watched_polled)
{
    children_without_memory_every(true, true);
}

TEST(fault_memory, children_all_polled)
{
    children_without_memory_every(false, true);
}

TEST(fault_memory, tasks_watched)
{
    life_lived = task_live;
    children_without_memory_every(true, false);
}

TEST(fault_memory, tasks_all)
{
    life_lived = task_live;
    children_without_memory_every(false, false);
}

TEST(fault_memory, children_all_signalfd)
{
    leave_signal();
    children_without_memory_every(false, false);
}

/* ------------------------------------------------------------------ system calls that fail */

static struct {
    _Atomic long number;
    _Atomic unsigned long nth;
    _Atomic unsigned long length;
    _Atomic int error;
    _Atomic unsigned long calls;
    _Atomic unsigned long fired;
    _Atomic unsigned unclosed; /* descriptors whose close was made to fail, ever */
} fault;

/* Runs in a signal handler, too. */
static int fault_hook(long number)
{
    if (number != atomic_load(&fault.number))
        return 0;
    unsigned long call = atomic_fetch_add(&fault.calls, 1) + 1, nth = atomic_load(&fault.nth);
    if (call < nth || call >= nth + atomic_load(&fault.length))
        return 0;
    atomic_fetch_add(&fault.fired, 1);
    if (number == SYS_close) /* the kernel has not seen it */
        atomic_fetch_add(&fault.unclosed, 1);
    return -atomic_load(&fault.error);
}

/* Which fault it was when a check fails. */
static void fault_tell(int signal)
{
    fprintf(stderr, "injected: call number %ld, error %d, %lu calls from the %luth of %lu\n",
            atomic_load(&fault.number), atomic_load(&fault.error), atomic_load(&fault.fired),
            atomic_load(&fault.nth), atomic_load(&fault.calls));
    struct sigaction fatal = {.sa_handler = SIG_DFL};
    sigaction(signal, &fatal, NULL);
    raise(signal);
}

static void fault_set(long number, unsigned long nth, unsigned long length, int error)
{
    atomic_store(&fault.number, -1);
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.fired, 0);
    atomic_store(&fault.nth, nth);
    atomic_store(&fault.length, length);
    atomic_store(&fault.error, error);
    atomic_store(&fault.number, number);
    __atomic_store_n(&exitbus_test_syscall, fault_hook, __ATOMIC_RELEASE);
}

static const int errors[] = {EINTR, EAGAIN, EMFILE, ENOMEM, ECHILD, ESRCH};
#define ERRORS (sizeof errors / sizeof errors[0])

static bool fault_may_fail(int error)
{
    int injected = atomic_load(&fault.error);
    /* That there is no such process means that it is no child: to who watches, the same. */
    bool named = error == injected || (injected == ESRCH && error == ECHILD);
    return named && atomic_load(&fault.fired) > 0;
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    must(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* The last of them go with a grace period. */
static void check_descriptors(unsigned before)
{
    for (int tries = 0; tries < 1000; tries++) {
        if (open_descriptors() == before + atomic_load(&fault.unclosed))
            return;
        poll(NULL, 0, 10);
    }
    must_equal(open_descriptors(), before + atomic_load(&fault.unclosed));
}

#define LIVES_MAX 300
#define LIVES_REFUSED 3

/*
 * Every call of one number, one after the other, with each error. ECHILD from waitid is left out:
 * it is the kernel's word that there is no such child, and whoever believes it is right.
 */
static void fail_every_call(struct exitbus *bus, long number, bool watched, bool polled)
{
    for (size_t e = 0; e < ERRORS; e++) {
        if (number == SYS_waitid && errors[e] == ECHILD)
            continue;
        unsigned lives = 0; /* in which the call was not made: who has its event does not sleep */
        for (unsigned long nth = 1;; nth++) {
            struct children children = {
                .watched = watched, .polled = polled, .may_fail = fault_may_fail};
            fault_set(number, nth, 1, errors[e]);
            life_lived(&children, bus);
            must(children.failures <= atomic_load(&fault.fired));
            if (atomic_load(&fault.fired) > 0)
                continue;
            if (nth > 1)
                break;
            /* Our barrier does not ask again once refused. Only the wait of liburcu does, which is
             * left out in a forked process, as the plain runner's are. */
            if (number == SYS_membarrier && e > 0 && lives >= LIVES_REFUSED)
                break;
            must(++lives < LIVES_MAX); /* the call is made at all */
            nth = 0;
        }
    }
}

static void tell_at_abort(void)
{
    struct sigaction tell = {.sa_handler = fault_tell};
    sigaction(SIGABRT, &tell, NULL);
}

static void fail_every(bool watched, bool polled, const long *numbers, size_t count)
{
    struct exitbus *bus;
    unsigned descriptors = open_descriptors();
    tell_at_abort();
    check_ok(exitbus_create(&bus, NULL));
    for (size_t i = 0; i < count; i++) {
        fail_every_call(bus, numbers[i], watched, polled);
        check_descriptors(descriptors);
    }
    check_ok(exitbus_destroy(bus));
}

#define FAULTS_IN(name, watched, polled, ...)                                                      \
    TEST(fault_system_call, name)                                                                  \
    {                                                                                              \
        static const long numbers[] = {__VA_ARGS__};                                               \
        fail_every(watched, polled, numbers, sizeof numbers / sizeof numbers[0]);                  \
    }

#define DESCRIPTOR_CALLS                                                                           \
    SYS_eventfd2, SYS_timerfd_create, SYS_epoll_create1, SYS_epoll_ctl, SYS_close
#define DATA_CALLS SYS_read, SYS_write, SYS_epoll_pwait
#define OTHER_CALLS SYS_futex, SYS_membarrier
/* Who polls does not sleep in a futex. */
#define POLLED_CALLS DATA_CALLS, SYS_membarrier, DESCRIPTOR_CALLS

FAULTS_IN(watched_descriptors, true, false, DESCRIPTOR_CALLS, SYS_pidfd_open)
FAULTS_IN(watched_data, true, false, DATA_CALLS)
FAULTS_IN(watched_wake, true, false, OTHER_CALLS)
FAULTS_IN(watched_wait, true, false, SYS_waitid)
FAULTS_IN(all_descriptors, false, false, DESCRIPTOR_CALLS)
FAULTS_IN(all_data, false, false, DATA_CALLS)
FAULTS_IN(all_wake, false, false, OTHER_CALLS)
FAULTS_IN(all_wait, false, false, SYS_waitid)
FAULTS_IN(watched_polled, true, true, POLLED_CALLS, SYS_pidfd_open)
FAULTS_IN(watched_polled_wait, true, true, SYS_waitid)
FAULTS_IN(all_polled, false, true, POLLED_CALLS)
FAULTS_IN(all_polled_wait, false, true, SYS_waitid)

#define TASK_CALLS                                                                                 \
    SYS_eventfd2, SYS_epoll_ctl, SYS_read, SYS_write, SYS_statx, SYS_pidfd_send_signal

/* The same of tasks and groups. */
static void fail_every_of_tasks(bool watched, const long *numbers, size_t count)
{
    char path[128];
    life_lived = task_live;
    cgroup_fd = cgroup_new(path, sizeof path);
    fail_every(watched, false, numbers, count);
    if (cgroup_fd >= 0) {
        close(cgroup_fd);
        await(rmdir(path) == 0);
    }
}

#define TASK_FAULTS_IN(name, watched, ...)                                                         \
    TEST(fault_system_call, name)                                                                  \
    {                                                                                              \
        static const long numbers[] = {__VA_ARGS__};                                               \
        fail_every_of_tasks(watched, numbers, sizeof numbers / sizeof numbers[0]);                 \
    }

TASK_FAULTS_IN(tasks_watched, true, TASK_CALLS, SYS_pidfd_open)
TASK_FAULTS_IN(tasks_watched_wait, true, SYS_waitid, SYS_futex)
TASK_FAULTS_IN(tasks_all, false, TASK_CALLS)
TASK_FAULTS_IN(tasks_all_wait, false, SYS_waitid, SYS_futex)

/* The calls that are other ones, or matter more, where the signal is left to the reaper. */
static void fail_every_signalfd(bool polled)
{
    static const long numbers[] = {SYS_signalfd4, SYS_epoll_ctl, SYS_read, SYS_waitid};
    leave_signal();
    fail_every(false, polled, numbers, sizeof numbers / sizeof numbers[0]);
}

TEST(fault_system_call, all_signalfd)
{
    fail_every_signalfd(false);
}

TEST(fault_system_call, all_signalfd_polled)
{
    fail_every_signalfd(true);
}

/* What /proc tells can't be had: the exit comes without it. */
static void fail_every_detail(bool watched, bool polled)
{
    static const long numbers[] = {SYS_readlinkat, SYS_openat, SYS_read,      SYS_statx,
                                   SYS_waitid,     SYS_close,  SYS_pidfd_open};
    more_flags = EXITBUS_REAPER_DETAILS;
    fail_every(watched, polled, numbers, sizeof numbers / sizeof numbers[0]);
}

TEST(fault_system_call, details_watched)
{
    fail_every_detail(true, false);
}

TEST(fault_system_call, details_all_polled)
{
    fail_every_detail(false, true);
}

/* An exit that can't be written waits until it can, and is not told before. */
static void fail_every_write(bool watched, bool polled, const long *numbers, size_t count)
{
    record_fd = memfd_create("record", MFD_CLOEXEC);
    must(record_fd >= 0 && fcntl(record_fd, F_SETFL, O_APPEND) == 0);
    more_flags = EXITBUS_REAPER_RECORD;
    fail_every(watched, polled, numbers, count);
}

static const long record_writes[] = {SYS_write, SYS_pread64};
static const long record_files[] = {SYS_statx, SYS_openat};

TEST(fault_system_call, record_watched)
{
    fail_every_write(true, false, record_writes, 2);
}

TEST(fault_system_call, record_all_polled)
{
    fail_every_write(false, true, record_writes, 2);
}

TEST(fault_system_call, record_files_watched)
{
    fail_every_write(true, false, record_files, 2);
}

TEST(fault_system_call, record_files_all_polled)
{
    fail_every_write(false, true, record_files, 2);
}

TEST(fault_system_call, record_start)
{
    static const long numbers[] = {SYS_fcntl};
    fail_every_write(true, true, numbers, 1);
}

/* A publish lacks memory, and then the timer for the next attempt can't be set. */
static void fail_timer(bool watched, bool polled)
{
    unsigned long fired = 0;
    tell_at_abort();
    for (size_t e = 0; e < ERRORS; e++) {
        unsigned long nth = 1, failed;
        do {
            struct exitbus *bus;
            struct children children = {
                .watched = watched, .polled = polled, .may_fail = memory_may_fail};
            heap_fail(nth++, 3);
            while (exitbus_create(&bus, &heap_options) == -ENOMEM)
                continue;
            fault_set(SYS_timerfd_settime, 1, 1, errors[e]);
            children_live(&children, bus);
            fired += atomic_load(&fault.fired);
            failed = atomic_load(&heap.failed);
            check_ok(exitbus_destroy(bus));
            heap_check_balance();
        } while (failed > 0);
    }
    check(fired > 0);
}

TEST(fault_system_call, timer_watched)
{
    fail_timer(true, false);
}

TEST(fault_system_call, timer_all)
{
    fail_timer(false, false);
}

TEST(fault_system_call, timer_polled)
{
    fail_timer(true, true);
}

/* Another waiter takes a watched child; then its status can be asked for in one way only. */
TEST(fault_system_call, status_of_a_stolen_child)
{
    struct exitbus *bus;
    struct exitbus_reaper *reaper;
    struct exitbus_subscription *subscription;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_WATCHED,
                                             .flags = EXITBUS_REAPER_POLLED};
    struct exitbus_event event;
    check_ok(exitbus_create(&bus, NULL));
    check_ok(exitbus_reaper_start(bus, &options, &reaper));
    check_ok(exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &subscription));
    for (size_t e = 0; e < ERRORS; e++)
        for (unsigned long nth = 1; nth <= 2; nth++) {
            pid_t pid = start_child(5);
            fault_set(SYS_ioctl, nth, 1, errors[e]);
            check_ok(exitbus_reaper_watch(reaper, pid));
            check_equal(waitpid(pid, NULL, 0), pid);
            while (exitbus_receive(subscription, &event, 0) == -EAGAIN)
                check_ok(exitbus_reaper_poll(reaper));
            check_equal(event.pid, pid);
            bool known = !(event.flags & EXITBUS_EVENT_STATUS_LOST);
            check(!known || event.exit_code == 5);
            if (nth == 1 && errors[e] != EINTR) { /* which is tried again */
                check(atomic_load(&fault.fired) == 1);
                check(!known);
            }
            check_equal(exitbus_receive(subscription, &event, 0), -EAGAIN);
        }
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

/* A kernel without membarrier: both sides of the wake-up then pay for a full fence. */
static void without_membarrier(unsigned long nth, int error)
{
    struct exitbus *bus;
    struct children children = {.watched = true, .may_fail = fault_may_fail};
    fault_set(SYS_membarrier, nth, ULONG_MAX / 2, error);
    check_ok(exitbus_create(&bus, NULL));
    check(atomic_load(&fault.fired) > 0);
    for (int i = 0; i < 20; i++)
        children_live(&children, bus);
    check_equal(children.failures, 0);
    check_ok(exitbus_destroy(bus));
}

TEST(fault_system_call, no_membarrier)
{
    without_membarrier(1, ENOSYS);
}

TEST(fault_system_call, membarrier_is_there_and_refuses)
{
    without_membarrier(2, EPERM);
}
