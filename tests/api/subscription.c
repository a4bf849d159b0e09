/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The life of a subscription: what it gets from its beginning to its end, one-shot, references,
 * unsubscribe from wherever, and the end of the bus around it.
 */
#include "base/compiler.h"
#include "base/probe.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/harness.h"
#include "support/ways.h"

#include <urcu/urcu-bp.h>

#define LONG_NS ((int64_t)3600 * 1000000000)

static void publish_pids(struct exitbus *bus, pid_t first, pid_t last)
{
    for (pid_t pid = first; pid <= last; pid++)
        must_equal(exitbus_publish_pid(bus, pid, 0), 0);
}

static void check_receives(struct exitbus_subscription *subscription, pid_t pid)
{
    struct exitbus_event event;
    check_equal(exitbus_receive(subscription, &event, 0), 0);
    check_equal(event.pid, pid);
}

static void check_nothing(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    check_equal(exitbus_receive(subscription, &event, 0), -EAGAIN);
    check_equal(exitbus_subscription_pending(subscription), 0);
}

static void check_closed(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    check_equal(exitbus_receive(subscription, &event, 0), -ESHUTDOWN);
    check_equal(exitbus_receive(subscription, &event, LONG_NS), -ESHUTDOWN);
    check_equal(exitbus_receive(subscription, &event, -1), -ESHUTDOWN);
    check_equal(exitbus_receive_batch(subscription, &event, 1, -1), -ESHUTDOWN);
    check_equal(exitbus_receive_pid(subscription, 1, &event, &(uint64_t){0}, -1), -ESHUTDOWN);
    check_equal(exitbus_subscription_pending(subscription), 0);
}

/* Deliveries that publishers have gone through to; counted while the hook is set. */
static _Atomic uint64_t deliveries;

static void count_deliveries(enum probe step)
{
    if (step == PROBE_DELIVER_BEFORE_APPEND)
        atomic_fetch_add(&deliveries, 1);
}

/* ------------------------------------------------------------------------------ begin and end */

TEST(subscription, begins_and_ends)
{
    struct exitbus *bus = bus_new();
    publish_pids(bus, 1, 5);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    check_nothing(all);
    publish_pids(bus, 6, 7);
    check_receives(all, 6);
    check_equal(exitbus_subscription_pending(all), 1);
    check_ok(exitbus_subscription_ref(all));
    check_ok(exitbus_unsubscribe(all));
    publish_pids(bus, 8, 9);
    check_closed(all);
    check_ok(exitbus_subscription_unref(all));
    check_equal(stats_of(bus).subscriptions, 0);
    check_equal(stats_of(bus).dropped, 1);
    check_ok(exitbus_destroy(bus));
}

TEST(subscription, null_is_a_no_op_or_refused)
{
    check_equal(exitbus_unsubscribe(NULL), 0);
    check_equal(exitbus_subscription_unref(NULL), 0);
    check_equal(exitbus_subscription_ref(NULL), -EINVAL);
    check_equal(exitbus_destroy(NULL), 0);
}

TEST(subscription, bad_arguments_are_refused)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *const untouched = (void *)&account, *sub = untouched;
    char too_long[EXITBUS_ID_MAX + 2];
    id_fill(too_long, EXITBUS_ID_MAX + 1, 'a');
    const struct exitbus_topic bad[] = {
        {.kind = 0},
        {.kind = 7},
        exitbus_topic_pid(0),
        exitbus_topic_pid(-1),
        exitbus_topic_container(NULL),
        exitbus_topic_container(""),
        exitbus_topic_container(too_long),
        exitbus_topic_exec(NULL, "e"),
        exitbus_topic_exec("", "e"),
        exitbus_topic_exec("c", NULL),
        exitbus_topic_exec("c", too_long),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_equal(exitbus_subscribe(bus, bad[i], 0, &sub), -EINVAL);
    check_equal(exitbus_subscribe(NULL, exitbus_topic_all(), 0, &sub), -EINVAL);
    check_equal(exitbus_subscribe(bus, exitbus_topic_all(), 0, NULL), -EINVAL);
    for (uint32_t flag = 4; flag != 0; flag <<= 1)
        check_equal(exitbus_subscribe(bus, exitbus_topic_all(), flag, &sub), -EINVAL);
    atomic_store(&account.refuse, true);
    check_equal(exitbus_subscribe(bus, exitbus_topic_all(), 0, &sub), -ENOMEM);
    check(sub == untouched);
    check_equal(stats_of(bus).subscriptions, 0);
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

TEST(subscription, ids_belong_to_the_caller)
{
    struct exitbus *bus = bus_new();
    char container[] = "container", exec[] = "exec";
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_exec(container, exec));
    memset(container, 'x', sizeof container - 1);
    memset(exec, 'x', sizeof exec - 1);
    check_equal(exitbus_publish_exec(bus, "container", "exec", 3), 0);
    check_equal(exitbus_publish_exec(bus, container, exec, 4), 0);
    check_equal(exitbus_subscription_pending(sub), 1);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(subscription, several_on_one_topic_are_independent)
{
    const struct exitbus_topic topics[] = {exitbus_topic_all(), exitbus_topic_any_pid(),
                                           exitbus_topic_pid(4)};
    for (size_t t = 0; t < 3; t++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub[3];
        for (size_t i = 0; i < 3; i++)
            sub[i] = subscribe(bus, topics[t]);
        publish_pids(bus, 4, 4);
        check_receives(sub[0], 4);
        check_receives(sub[1], 4);
        check_ok(exitbus_unsubscribe(sub[1]));
        publish_pids(bus, 4, 4);
        check_receives(sub[0], 4);
        check_nothing(sub[0]);
        check_equal(exitbus_subscription_pending(sub[2]), 2);
        check_receives(sub[2], 4);
        check_receives(sub[2], 4);
        check_nothing(sub[2]);
        check_ok(exitbus_unsubscribe(sub[0]));
        check_ok(exitbus_unsubscribe(sub[2]));
        check_ok(exitbus_destroy(bus));
    }
}

/* Many come and go; memory stays with those that live (G7), and all of it comes back (G6). */
TEST(subscription, memory_follows_the_living)
{
    static struct account account;
    static struct exitbus_subscription *subs[20000];
    const size_t count = scaled(20000);
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    size_t before = stats_of(bus).bytes;
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < count; i++)
            subs[i] = subscribe(bus, exitbus_topic_pid((pid_t)i + 1));
        check(stats_of(bus).bytes <= before + ((size_t)1 << 20) + count * 640);
        publish_pids(bus, 1, (pid_t)count);
        for (size_t i = 0; i < count; i++)
            check_ok(exitbus_unsubscribe(subs[i]));
        await(stats_of(bus).bytes <= before + ((size_t)1 << 20));
    }
    check_equal(stats_of(bus).dropped, 2 * count);
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

/* ------------------------------------------------------------------------------------ one-shot */

#define ONE_SHOT EXITBUS_SUBSCRIBE_ONE_SHOT

static const struct one_shot_case {
    struct exitbus_topic topic;
    bool pid; /* which kind of event it matches */
} one_shot_cases[] = {
    {{.kind = EXITBUS_TOPIC_ALL}, true},
    {{.kind = EXITBUS_TOPIC_ALL}, false},
    {{.kind = EXITBUS_TOPIC_ANY_PID}, true},
    {{.kind = EXITBUS_TOPIC_PID, .pid = 7}, true},
    {{.kind = EXITBUS_TOPIC_ANY_EXEC}, false},
    {{.kind = EXITBUS_TOPIC_CONTAINER, .container_id = "c"}, false},
    {{.kind = EXITBUS_TOPIC_EXEC, .container_id = "c", .exec_id = "e"}, false},
};
#define ONE_SHOT_CASES (sizeof one_shot_cases / sizeof one_shot_cases[0])

static void publish_match(struct exitbus *bus, bool pid, int exit_code)
{
    must_equal(pid ? exitbus_publish_pid(bus, 7, exit_code)
                   : exitbus_publish_exec(bus, "c", "e", exit_code),
               0);
}

TEST_EACH_WAY(subscription, one_shot_takes_one_event)
{
    for (size_t i = 0; i < ONE_SHOT_CASES; i++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub = subscribe_flags(bus, one_shot_cases[i].topic, ONE_SHOT);
        way_prepare(way, sub);
        check_nothing(sub);
        for (int code = 1; code <= 5; code++) {
            publish_match(bus, one_shot_cases[i].pid, code);
            check_equal(exitbus_subscription_pending(sub), 1);
        }
        struct exitbus_event events[4];
        check_equal(way_receive(way, sub, events, 4), 1);
        check_equal(events[0].exit_code, 1);
        check_equal(way_receive(way, sub, events, 4), -ESHUTDOWN);
        check_closed(sub);
        publish_match(bus, one_shot_cases[i].pid, 6);
        check_closed(sub);
        check(way != WAY_FD || fd_readable(exitbus_subscription_fd(sub)));
        check_equal(stats_of(bus).delivered, 1);
        check_ok(exitbus_unsubscribe(sub));
        check_equal(stats_of(bus).delivered, 1);
        check_equal(stats_of(bus).dropped, 0);
        check_ok(exitbus_destroy(bus));
    }
}

static void costs_publishers_nothing_after_its_event(uint32_t flags)
{
    for (size_t i = 0; i < ONE_SHOT_CASES; i++) {
        for (int receive_first = 0; receive_first < 2; receive_first++) {
            struct exitbus *bus = bus_new();
            struct exitbus_subscription *sub = subscribe_flags(bus, one_shot_cases[i].topic, flags);
            publish_match(bus, one_shot_cases[i].pid, 1);
            struct exitbus_event event;
            if (receive_first)
                check_equal(exitbus_receive(sub, &event, 0), 0);
            atomic_store(&deliveries, 0);
            uint64_t bytes = stats_of(bus).bytes;
            exitbus_probe_hook = count_deliveries;
            for (int k = 0; k < 1000; k++)
                publish_match(bus, one_shot_cases[i].pid, 2);
            exitbus_probe_hook = NULL;
            check_equal(deliveries, 0);
            check_equal(stats_of(bus).bytes, bytes);
            check_ok(exitbus_unsubscribe(sub));
            check_equal(stats_of(bus).dropped, receive_first ? 0 : 1);
            check_equal(stats_of(bus).subscriptions, 0);
            check_ok(exitbus_destroy(bus));
        }
    }
}

TEST(subscription, one_shot_costs_publishers_nothing_after_its_event)
{
    costs_publishers_nothing_after_its_event(ONE_SHOT);
}

TEST(subscription, sticky_costs_publishers_nothing_after_its_event)
{
    costs_publishers_nothing_after_its_event(EXITBUS_SUBSCRIBE_STICKY);
}

TEST(subscription, one_shot_may_end_before_its_event)
{
    for (size_t i = 0; i < ONE_SHOT_CASES; i++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub = subscribe_flags(bus, one_shot_cases[i].topic, ONE_SHOT);
        check_ok(exitbus_subscription_ref(sub));
        check_ok(exitbus_unsubscribe(sub));
        publish_match(bus, one_shot_cases[i].pid, 1);
        check_closed(sub);
        check_ok(exitbus_subscription_unref(sub));
        check_ok(exitbus_destroy(bus));
    }
}

TEST(subscription, one_shot_by_wait_pid)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe_flags(bus, exitbus_topic_any_pid(), ONE_SHOT);
    publish_pids(bus, 1, 2);
    struct exitbus_event event;
    /* The only event that it takes is another's. */
    check_equal(exitbus_receive_pid(sub, 2, &event, &(uint64_t){0}, -1), -ESHUTDOWN);
    check_ok(exitbus_unsubscribe(sub));
    sub = subscribe_flags(bus, exitbus_topic_pid(2), ONE_SHOT);
    publish_pids(bus, 1, 2);
    check_equal(exitbus_receive_pid(sub, 2, &event, &(uint64_t){0}, -1), 0);
    check_equal(event.pid, 2);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(subscription, one_shot_of_a_destroyed_bus_is_closed)
{
    for (int publishes = 0; publishes <= 2; publishes++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub = subscribe_flags(bus, exitbus_topic_pid(1), ONE_SHOT);
        for (int i = 0; i < publishes; i++) /* the second takes it out of the registry */
            publish_pids(bus, 1, 1);
        check_ok(exitbus_destroy(bus));
        check_closed(sub);
        check_ok(exitbus_unsubscribe(sub));
    }
}

/* -------------------------------------------------------------------------------------- sticky */

#define STICKY EXITBUS_SUBSCRIBE_STICKY

TEST_EACH_WAY(subscription, sticky_event_stays)
{
    for (size_t i = 0; i < ONE_SHOT_CASES; i++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub = subscribe_flags(bus, one_shot_cases[i].topic, STICKY);
        struct exitbus_event events[4];
        way_prepare(way, sub);
        check_nothing(sub);
        for (int code = 1; code <= 5; code++) {
            publish_match(bus, one_shot_cases[i].pid, code);
            check_equal(way_receive(way, sub, events, 4), 1);
            check_equal(events[0].exit_code, 1);
            check_equal(exitbus_subscription_pending(sub), 1);
        }
        check(fd_readable(exitbus_subscription_fd(sub)));
        check_equal(stats_of(bus).delivered, 1);
        check_ok(exitbus_subscription_ref(sub));
        check_ok(exitbus_unsubscribe(sub));
        check_closed(sub);
        check_ok(exitbus_subscription_unref(sub));
        check_equal(stats_of(bus).delivered, 1);
        check_equal(stats_of(bus).dropped, 0);
        check_ok(exitbus_destroy(bus));
    }
}

TEST(subscription, sticky_that_nobody_received)
{
    for (int publishes = 0; publishes < 3; publishes++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub = subscribe_flags(bus, exitbus_topic_pid(7), STICKY);
        for (int i = 0; i < publishes; i++)
            publish_match(bus, true, 1);
        check_ok(exitbus_unsubscribe(sub));
        check_equal(stats_of(bus).delivered, 0);
        check_equal(stats_of(bus).dropped, publishes > 0);
        sub = subscribe_flags(bus, exitbus_topic_pid(7), STICKY);
        publish_match(bus, true, 1);
        check_ok(exitbus_destroy(bus));
        check_closed(sub);
        check_ok(exitbus_unsubscribe(sub));
    }
}

TEST(subscription, sticky_by_wait_pid)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe_flags(bus, exitbus_topic_any_pid(), STICKY);
    struct exitbus_event event;
    uint64_t discarded;
    check_equal(exitbus_receive_pid(sub, 1, &event, &discarded, 0), -EAGAIN);
    publish_pids(bus, 1, 2);
    for (int i = 0; i < 2; i++) {
        /* The only event that there will be is another's. */
        check_equal(exitbus_receive_pid(sub, 2, &event, &discarded, -1), -ESRCH);
        check_equal(discarded, 0);
        check_equal(exitbus_receive_pid(sub, 1, &event, &discarded, -1), 0);
        check_equal(event.pid, 1);
    }
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(subscription, sticky_or_one_shot)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub;
    check_equal(exitbus_subscribe(bus, exitbus_topic_all(), STICKY | ONE_SHOT, &sub), -EINVAL);
    check_equal(stats_of(bus).subscriptions, 0);
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------- closing under sleepers
 */

struct sleeper {
    struct exitbus_subscription *subscription;
    enum way way;
    int64_t timeout_ns; /* for WAY_BLOCKING */
    struct exitbus_event event;
    ssize_t result;
};

static void *sleep_and_receive(void *argument)
{
    struct sleeper *sleeper = argument;
    if (sleeper->way == WAY_BLOCKING)
        sleeper->result =
            exitbus_receive_batch(sleeper->subscription, &sleeper->event, 1, sleeper->timeout_ns);
    else
        sleeper->result = way_receive(sleeper->way, sleeper->subscription, &sleeper->event, 1);
    must_equal(exitbus_subscription_unref(sleeper->subscription), 0);
    return NULL;
}

#define SLEEPERS 6

/* Two of each way, and of the blocking ones one with a timeout; all on the same subscription. */
static void sleepers_start(struct exitbus *bus, struct exitbus_subscription *subscription,
                           struct sleeper *sleepers, pthread_t *threads)
{
    for (size_t i = 0; i < SLEEPERS; i++) {
        check_ok(exitbus_subscription_ref(subscription));
        sleepers[i] = (struct sleeper){.subscription = subscription,
                                       .way = (enum way)(i % WAYS),
                                       .timeout_ns = i < WAYS ? -1 : LONG_NS};
        threads[i] = thread_start(sleep_and_receive, &sleepers[i]);
    }
    await(stats_of(bus).sleeping_receivers == SLEEPERS / WAYS);
}

static void sleepers_join(const struct sleeper *sleepers, const pthread_t *threads, size_t served)
{
    for (size_t i = 0; i < SLEEPERS; i++) {
        thread_join(threads[i]);
        if (sleepers[i].result == 1)
            served--;
        else
            check_equal(sleepers[i].result, -ESHUTDOWN);
    }
    check_equal(served, 0);
}

TEST(subscription, unsubscribe_wakes_all_receivers)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    struct sleeper sleepers[SLEEPERS];
    pthread_t threads[SLEEPERS];
    sleepers_start(bus, sub, sleepers, threads);
    check_ok(exitbus_unsubscribe(sub));
    sleepers_join(sleepers, threads, 0);
    check_equal(stats_of(bus).sleeping_receivers, 0);
    check_ok(exitbus_destroy(bus));
}

TEST(subscription, sticky_wakes_all_receivers)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe_flags(bus, exitbus_topic_pid(7), STICKY);
    struct sleeper sleepers[SLEEPERS];
    pthread_t threads[SLEEPERS];
    sleepers_start(bus, sub, sleepers, threads);
    publish_match(bus, true, 4);
    sleepers_join(sleepers, threads, SLEEPERS);
    for (size_t i = 0; i < SLEEPERS; i++)
        check_equal(sleepers[i].event.exit_code, 4);
    check_ok(exitbus_unsubscribe(sub));
    check_equal(stats_of(bus).delivered, 1);
    check_ok(exitbus_destroy(bus));
}

TEST(subscription, destroy_wakes_all_receivers)
{
    for (uint32_t flags = 0; flags <= ONE_SHOT; flags++) {
        static struct account account;
        account_init(&account);
        struct exitbus *bus = account_bus(&account);
        struct exitbus_subscription *sub = subscribe_flags(bus, exitbus_topic_pid(3), flags);
        struct sleeper sleepers[SLEEPERS];
        pthread_t threads[SLEEPERS];
        sleepers_start(bus, sub, sleepers, threads);
        check_ok(exitbus_destroy(bus));
        sleepers_join(sleepers, threads, 0);
        check_closed(sub);
        check_ok(exitbus_unsubscribe(sub));
        account_await_empty(&account);
    }
}

TEST(subscription, one_shot_wakes_all_receivers)
{
    for (size_t i = 0; i < ONE_SHOT_CASES; i++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *sub = subscribe_flags(bus, one_shot_cases[i].topic, ONE_SHOT);
        struct sleeper sleepers[SLEEPERS];
        pthread_t threads[SLEEPERS];
        sleepers_start(bus, sub, sleepers, threads);
        publish_match(bus, one_shot_cases[i].pid, 1);
        sleepers_join(sleepers, threads, 1);
        check_closed(sub);
        check_ok(exitbus_unsubscribe(sub));
        check_ok(exitbus_destroy(bus));
    }
}

/* A call that is blocked already needs no reference of its own. */
static void *sleep_without_reference(void *argument)
{
    struct sleeper *sleeper = argument;
    sleeper->result = exitbus_receive(sleeper->subscription, &sleeper->event, -1);
    return NULL;
}

TEST(subscription, a_blocked_receiver_needs_no_reference)
{
    struct exitbus *bus = bus_new();
    for (unsigned i = 0; i < 50; i++) {
        struct sleeper sleeper = {.subscription = subscribe(bus, exitbus_topic_all())};
        pthread_t thread = thread_start(sleep_without_reference, &sleeper);
        await(stats_of(bus).sleeping_receivers == 1);
        check_ok(exitbus_unsubscribe(sleeper.subscription));
        thread_join(thread);
        check_equal(sleeper.result, -ESHUTDOWN);
    }
    check_ok(exitbus_destroy(bus));
}

/* --------------------------------------------------------------------------------- from anywhere
 */

static void *unsubscribe_here(void *argument)
{
    must_equal(exitbus_unsubscribe(argument), 0);
    return NULL;
}

TEST(subscription, ends_on_a_thread_that_never_used_the_bus)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    for (unsigned i = 0; i < 100; i++) {
        struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_container("c"));
        check_ok(exitbus_subscription_ref(sub));
        check_equal(exitbus_publish_exec(bus, "c", "", 0), 0);
        thread_join(thread_start(unsubscribe_here, sub));
        check_closed(sub);
        check_ok(exitbus_subscription_unref(sub));
    }
    check_equal(stats_of(bus).subscriptions, 0);
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

static pthread_key_t thread_subscription;

static void unsubscribe_at_exit(void *subscription)
{
    must_equal(exitbus_unsubscribe(subscription), 0);
}

static void *subscribe_and_exit(void *bus)
{
    must_equal(pthread_setspecific(thread_subscription, subscribe(bus, exitbus_topic_all())), 0);
    return NULL;
}

TEST(subscription, ends_in_a_destructor_at_thread_exit)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    check_equal(pthread_key_create(&thread_subscription, unsubscribe_at_exit), 0);
    for (unsigned i = 0; i < 100; i++) {
        pthread_t thread = thread_start(subscribe_and_exit, bus);
        publish_pids(bus, 1, 10);
        thread_join(thread);
        check_equal(stats_of(bus).subscriptions, 0);
    }
    check_equal(pthread_key_delete(thread_subscription), 0);
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

TEST(subscription, everything_but_destroy_inside_a_read_side_section)
{
    struct exitbus *bus = bus_new();
    struct exitbus_event event;
    urcu_bp_read_lock();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *other = subscribe_flags(bus, exitbus_topic_pid(2), ONE_SHOT);
    publish_pids(bus, 1, 100);
    for (pid_t pid = 1; pid <= 100; pid++)
        check_receives(sub, pid);
    check_receives(other, 2);
    check_equal(exitbus_destroy(bus), -EDEADLK);
    publish_pids(bus, 101, 101); /* and is as it was */
    check_receives(sub, 101);
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    check(exitbus_subscription_fd(sub) >= 0);
    check_equal(stats_of(bus).subscriptions, 2);
    check_ok(exitbus_subscription_ref(sub));
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_unsubscribe(other));
    check_closed(sub);
    check_ok(exitbus_subscription_unref(sub));
    urcu_bp_read_unlock();
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------- end of the bus */

TEST(subscription, outlives_its_bus)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *subs[6];
    const struct exitbus_topic topics[6] = {
        exitbus_topic_all(),      exitbus_topic_any_pid(),      exitbus_topic_pid(1),
        exitbus_topic_any_exec(), exitbus_topic_container("c"), exitbus_topic_exec("c", "e")};
    for (size_t i = 0; i < 6; i++)
        subs[i] = subscribe(bus, topics[i]);
    publish_pids(bus, 1, 3);
    check_equal(exitbus_publish_exec(bus, "c", "e", 0), 0);
    check_ok(exitbus_destroy(bus));
    for (size_t i = 0; i < 6; i++) {
        check_closed(subs[i]);
        check(fd_readable(exitbus_subscription_fd(subs[i])));
    }
    struct exitbus_subscription *another;
    for (size_t i = 0; i < 6; i++)
        check_equal(exitbus_subscribe(bus, topics[i], 0, &another), -ESHUTDOWN);
    check_ok(exitbus_subscription_ref(subs[0]));
    for (size_t i = 0; i < 6; i++)
        check_ok(exitbus_unsubscribe(subs[i]));
    check(atomic_load(&account.blocks) > 0);
    check_closed(subs[0]);
    check_ok(exitbus_subscription_unref(subs[0]));
    account_await_empty(&account);
}

struct ending {
    struct exitbus *bus;
    struct exitbus_subscription *keeper; /* keeps the memory, so that the handle may be used */
    _Atomic unsigned at_work;            /* threads that have been through it once */
};

/* Uses the bus in every way until it is closed, and after. */
static void *use_until_closed(void *argument)
{
    struct ending *ending = argument;
    uint64_t published = 0, received = 0;
    bool counted = false;
    for (;;) {
        struct exitbus_subscription *sub;
        int result = exitbus_subscribe(ending->bus, exitbus_topic_all(), 0, &sub);
        if (result < 0) {
            must_equal(result, -ESHUTDOWN);
            break;
        }
        for (unsigned i = 0; i < 10; i++) {
            struct exitbus_event event;
            result = exitbus_publish_pid(ending->bus, 1, 0);
            must(result == 0 || result == -ESHUTDOWN);
            published += result == 0;
            result = exitbus_receive(sub, &event, i % 2 ? 0 : 1);
            must(result == 0 || result == -ESHUTDOWN || result == -EAGAIN || result == -ETIMEDOUT);
            received += result == 0;
        }
        must_equal(exitbus_unsubscribe(sub), 0);
        if (!counted)
            atomic_fetch_add(&ending->at_work, 1);
        counted = true;
    }
    must_equal(exitbus_publish_pid(ending->bus, 1, 0), -ESHUTDOWN);
    must(published > 0 && received > 0);
    must_equal(exitbus_subscription_unref(ending->keeper), 0);
    return NULL;
}

TEST(subscription, destroy_while_others_are_at_work)
{
    static struct account account;
    for (unsigned round = 0; round < 10; round++) {
        account_init(&account);
        struct ending ending = {.bus = account_bus(&account)};
        ending.keeper = subscribe(ending.bus, exitbus_topic_pid(9));
        pthread_t threads[3];
        for (size_t i = 0; i < 3; i++) {
            check_ok(exitbus_subscription_ref(ending.keeper));
            threads[i] = thread_start(use_until_closed, &ending);
        }
        await(atomic_load(&ending.at_work) == 3);
        check_ok(exitbus_destroy(ending.bus));
        for (size_t i = 0; i < 3; i++)
            thread_join(threads[i]);
        check_closed(ending.keeper);
        check_ok(exitbus_unsubscribe(ending.keeper));
        account_await_empty(&account);
    }
}
