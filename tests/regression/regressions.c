/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads that come late: what one has read or is about to write has lost its meaning by the time
 * it goes on, or another acts before it. Each test is one interleaving, thread by thread.
 */
#include "bus/bus.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/halt.h"
#include "support/harness.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------ publishers */

struct publisher {
    struct exitbus *bus;
    pid_t pid;
    int code;
    struct halt halt;
    pthread_t thread;
};

static void publish(struct exitbus *bus, pid_t pid, int code)
{
    struct exitbus_event event = pid_event(pid);
    event.exit_code = code;
    must_equal(exitbus_publish(bus, &event, NULL), 0);
}

static void *publish_halting(void *argument)
{
    struct publisher *publisher = argument;
    halt_begin(&publisher->halt);
    publish(publisher->bus, publisher->pid, publisher->code);
    halt_end(&publisher->halt);
    return NULL;
}

static void publisher_start(struct publisher *publisher, struct exitbus *bus, pid_t pid, int code,
                            enum probe step)
{
    *publisher = (struct publisher){.bus = bus, .pid = pid, .code = code};
    halt_init(&publisher->halt, step, 0);
    publisher->thread = thread_start(publish_halting, publisher);
    check(halt_await(&publisher->halt));
}

static void publisher_finish(struct publisher *publisher)
{
    halt_release(&publisher->halt);
    thread_join(publisher->thread);
}

static void check_receives(struct exitbus_subscription *sub, int code)
{
    struct exitbus_event event;
    check_equal(exitbus_receive(sub, &event, 0), 0);
    check_equal(event.exit_code, code);
}

static unsigned drain(struct exitbus_subscription *sub)
{
    struct exitbus_event event;
    unsigned count = 0;
    while (exitbus_receive(sub, &event, 0) == 0)
        count++;
    return count;
}

/* ------------------------------------------------------------------------------------- hint */

/*
 * A helper fills a cell of Q's segment S, and is stopped before it writes the hint. S is drained
 * and retired; the helper goes on, and leaves a hint into the middle of S. S comes back to Q: the
 * publisher that has moved the tail there is stopped before its first cell. Another helps it, and
 * must not begin in the middle.
 */
TEST(regressions, a_hint_from_a_segments_last_life)
{
    enum { Q_PID = 1, O_PID, BEFORE_S = 1 + 4 + 16, FILL_S = BEFORE_S + 8 };
    enum { FILL_NEXT = BEFORE_S + 2 * 126 };
    halt_hook_set();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *q = subscribe(bus, exitbus_topic_pid(Q_PID));
    struct exitbus_subscription *o = subscribe(bus, exitbus_topic_pid(O_PID));
    struct publisher owner, helper, mover;
    struct memory *memory = &bus->core.memory;
    const struct pool *pool = &memory->pools[SEGMENT_CLASS_126];
    int code = 0;
    /* S shall be the last of its batch to be retired, and so the first to be taken again. */
    while ((atomic_load(&pool->retired_count) + 1) % MEMORY_RETIRE_BATCH != 0) {
        publish(bus, O_PID, 0);
        check_equal(drain(o), 1);
    }
    while (code < FILL_S)
        publish(bus, Q_PID, code++);
    publisher_start(&owner, bus, Q_PID, code++, PROBE_DELIVER_BEFORE_APPEND);
    publisher_start(&helper, bus, O_PID, 0, PROBE_APPEND_TAG_WRITTEN); /* of the owner's event */
    publisher_finish(&owner);
    while (code < FILL_NEXT) /* S, and the one after it, to the last cell */
        publish(bus, Q_PID, code++);
    check_equal(drain(q), FILL_NEXT); /* retires S */
    check_equal(atomic_load(&pool->retired_count) % MEMORY_RETIRE_BATCH, 0);
    publisher_finish(&helper);
    check_equal(drain(o), 1);
    await(memory_callbacks(memory) == 0); /* it is free */

    publisher_start(&mover, bus, Q_PID, code++, PROBE_APPEND_TAIL_MOVED);
    publish(bus, O_PID, 0);       /* helps */
    publish(bus, Q_PID, code++);  /* and the next one */
    check_receives(q, FILL_NEXT); /* while the mover stands */
    check_receives(q, FILL_NEXT + 1);
    publisher_finish(&mover);
    publish(bus, Q_PID, code++);
    check_receives(q, FILL_NEXT + 2);
    check_equal(drain(q), 0);
    check_ok(exitbus_unsubscribe(q));
    check_ok(exitbus_unsubscribe(o));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------- descriptor */

static void *receive_one(void *subscription)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(subscription, &event, -1), 0);
    return NULL;
}

/* The publisher has seen that there is no descriptor; then there is one, and it waits for an event.
 */
TEST(regressions, a_descriptor_made_during_a_publish)
{
    halt_hook_set();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_pid(1));
    struct publisher publisher;
    pthread_t receiver = thread_start(receive_one, sub);
    await(stats_of(bus).sleeping_receivers == 1); /* or the publish has nobody to wake */
    publisher_start(&publisher, bus, 1, 1, PROBE_WAKE_DONE);
    thread_join(receiver);
    int fd = exitbus_subscription_fd(sub);
    check_ok(fd);
    struct exitbus_event event;
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN); /* the descriptor is armed now */
    publisher_finish(&publisher);
    drain(sub);
    publish(bus, 1, 2);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    check_equal(poll(&ready, 1, -1), 1);
    check_receives(sub, 2);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/* The descriptor is the library's to close. If the application does, nobody hangs for that. */
TEST(regressions, a_descriptor_that_was_closed)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_pid(1));
    int fd = exitbus_subscription_fd(sub);
    check_ok(fd);
    struct exitbus_event event;
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    check_equal(close(fd), 0);
    publish(bus, 1, 1);
    check_receives(sub, 1);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------ memory */

struct retry {
    struct exitbus_subscription *sub;
    _Atomic unsigned events;
};

/* Tries again by itself while there is no memory. */
static void *receive_retrying(void *argument)
{
    struct retry *retry = argument;
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(retry->sub, &event, -1)) == 0)
        atomic_fetch_add(&retry->events, 1);
    must_equal(result, -ESHUTDOWN);
    return NULL;
}

static void await_retry(const struct account *account)
{
    size_t refused = atomic_load(&account->refused);
    await(atomic_load(&account->refused) > refused);
}

/* The second event needs memory. Its receiver sleeps, hears of it, and gets it when there is some,
 * though nobody publishes any more. */
static void run_without_memory(enum probe step)
{
    static struct account account;
    static struct retry retry;
    halt_hook_set();
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    memset((void *)&retry, 0, sizeof retry);
    retry.sub = subscribe(bus, exitbus_topic_pid(1));
    publish(bus, 1, 1);
    pthread_t receiver = thread_start(receive_retrying, &retry);
    await(atomic_load(&retry.events) == 1 && stats_of(bus).sleeping_receivers == 1);
    atomic_store(&account.refuse, true);
    struct publisher publisher;
    publisher_start(&publisher, bus, 1, 2, step);
    publisher_finish(&publisher);
    await_retry(&account);
    check_equal(atomic_load(&retry.events), 1);
    atomic_store(&account.refuse, false);
    await(atomic_load(&retry.events) == 2);
    check_ok(exitbus_subscription_ref(retry.sub));
    check_ok(exitbus_unsubscribe(retry.sub));
    thread_join(receiver);
    check_ok(exitbus_subscription_unref(retry.sub));
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

TEST(regressions, a_sleeper_learns_of_an_event_without_memory)
{
    static const enum probe steps[] = {PROBE_DELIVER_BEFORE_APPEND, PROBE_DELIVER_BEFORE_WAKE,
                                       PROBE_ORDER_STALLED, PROBE_WAKE_EPOCH_MOVED,
                                       PROBE_WAKE_DONE};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        run_without_memory(steps[i]);
}

/* Of a batch, the first event lacks memory in A's queue; the second, for B, must wait for it. A
 * leaves: then nothing is lacking, and B must not sleep on. */
TEST(regressions, a_sleeper_behind_anothers_lack_of_memory)
{
    static struct account account;
    static struct retry retry;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *a = subscribe(bus, exitbus_topic_pid(1));
    memset((void *)&retry, 0, sizeof retry);
    retry.sub = subscribe(bus, exitbus_topic_pid(2));
    struct exitbus_event events[] = {pid_event(1), pid_event(3)};
    check_ok(exitbus_publish_batch(bus, events, 2, NULL)); /* a batch has memory of its own */
    pthread_t receiver = thread_start(receive_retrying, &retry);
    await(stats_of(bus).sleeping_receivers == 1);
    atomic_store(&account.refuse, true);
    events[1] = pid_event(2);
    check_ok(exitbus_publish_batch(bus, events, 2, NULL));
    await_retry(&account);
    check_ok(exitbus_unsubscribe(a));
    await(atomic_load(&retry.events) == 1);
    check_ok(exitbus_subscription_ref(retry.sub));
    check_ok(exitbus_unsubscribe(retry.sub));
    thread_join(receiver);
    check_ok(exitbus_subscription_unref(retry.sub));
    check_ok(exitbus_destroy(bus));
}

/* A descriptor stays readable while something waits for memory. */
TEST(regressions, a_descriptor_and_an_event_without_memory)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_pid(1));
    struct pollfd ready = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    check_ok(ready.fd);
    struct exitbus_event event;
    publish(bus, 1, 1);
    check_receives(sub, 1);
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    check_equal(poll(&ready, 1, 0), 0);
    atomic_store(&account.refuse, true);
    publish(bus, 1, 2);
    for (int i = 0; i < 3; i++) {
        check_equal(poll(&ready, 1, 0), 1);
        check_equal(exitbus_receive(sub, &event, 0), -ENOMEM);
    }
    atomic_store(&account.refuse, false);
    check_equal(poll(&ready, 1, 0), 1);
    check_receives(sub, 2);
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    check_equal(poll(&ready, 1, 0), 0);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/*
 * A receive for one pid that does not wait: the exit was published, and only lacks memory. So it is
 * there, or -ENOMEM; not -EAGAIN.
 */
static void receive_pid_without_memory(bool comes_back)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_any_pid());
    struct exitbus_event event;
    uint64_t discarded = 0, before = 0;
    pid_t pid = 1;
    publish(bus, pid, 0);
    atomic_store(&account.refuse, true);
    while (exitbus_publish_pid(bus, pid + 1, 0) == 0)
        pid++;
    if (comes_back)
        atomic_store(&account.refuse, false);
    else
        check_equal(exitbus_receive_pid(sub, pid, &event, &before, 0), -ENOMEM);
    atomic_store(&account.refuse, false);
    check_ok(exitbus_receive_pid(sub, pid, &event, &discarded, 0));
    check_equal(event.pid, pid);
    check_equal(before + discarded, (uint64_t)pid - 1);
    check_equal(exitbus_receive_pid(sub, pid, &event, &discarded, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(regressions, a_receive_for_a_pid_without_memory)
{
    receive_pid_without_memory(false);
    receive_pid_without_memory(true);
}

struct receiver {
    struct exitbus_subscription *sub;
    struct halt halt;
};

static void *try_halting(void *argument)
{
    struct receiver *receiver = argument;
    struct exitbus_event event;
    halt_begin(&receiver->halt);
    must_equal(exitbus_receive(receiver->sub, &event, 0), -EAGAIN); /* it finishes another's */
    halt_end(&receiver->halt);
    return NULL;
}

/* Whoever has finished one event is stopped before it says so; the next one lacks memory, too. */
TEST(regressions, a_lack_of_memory_behind_anothers_end)
{
    static struct account account;
    static struct receiver finisher;
    halt_hook_set();
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *a = subscribe(bus, exitbus_topic_pid(1));
    struct exitbus_subscription *b = subscribe(bus, exitbus_topic_any_exec());
    struct exitbus_subscription *idle = subscribe(bus, exitbus_topic_pid(3));
    char id[EXITBUS_ID_MAX + 1];
    id_fill(id, EXITBUS_ID_MAX, 'a');
    struct exitbus_event wide = exec_event(id, id), event;
    publish(bus, 1, 1);
    atomic_store(&account.refuse, true);
    publish(bus, 1, 2); /* needs a segment of the smallest class */
    check_equal(exitbus_receive(idle, &event, 0), -ENOMEM);
    atomic_store(&account.refuse, false);
    finisher.sub = idle;
    halt_init(&finisher.halt, PROBE_ORDER_UNSTALLING, 0);
    pthread_t thread = thread_start(try_halting, &finisher);
    check(halt_await(&finisher.halt));
    atomic_store(&account.refuse, true);
    check_ok(exitbus_publish(bus, &wide, NULL)); /* of a larger one */
    check(exitbus_receive(b, &event, 0) == -ENOMEM);
    halt_release(&finisher.halt);
    thread_join(thread);
    atomic_store(&account.refuse, false);
    check_equal(exitbus_receive(b, &event, 0), 0); /* nobody has published since */
    check_receives(a, 1);
    check_receives(a, 2);
    check_ok(exitbus_unsubscribe(a));
    check_ok(exitbus_unsubscribe(b));
    check_ok(exitbus_unsubscribe(idle));
    check_ok(exitbus_destroy(bus));
}
