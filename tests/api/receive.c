/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All ways to receive: try, timed, blocking, batch, wait_pid, and the descriptor for event loops.
 */
#include "support/events.h"
#include "support/harness.h"
#include "support/ways.h"

#include <stdatomic.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LONG_NS ((int64_t)3600 * 1000000000)
#define SHORT_NS ((int64_t)1000 * 1000)

struct fixture {
    struct exitbus *bus;
    struct exitbus_subscription *all;
};

static struct fixture fixture_begin(void)
{
    struct fixture fixture = {.bus = bus_new()};
    fixture.all = subscribe(fixture.bus, exitbus_topic_all());
    return fixture;
}

static void fixture_end(struct fixture *fixture)
{
    check_ok(exitbus_unsubscribe(fixture->all));
    check_ok(exitbus_destroy(fixture->bus));
}

static void publish_pids(struct exitbus *bus, pid_t first, pid_t last)
{
    for (pid_t pid = first; pid <= last; pid++)
        must_equal(exitbus_publish_pid(bus, pid, 0), 0);
}

static void await_sleepers(struct exitbus *bus, uint64_t count)
{
    await(stats_of(bus).sleeping_receivers == count);
}

/* ------------------------------------------------------------------------------- try, timed,
 * blocking */

TEST(receive, a_try_does_not_wait)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event = {.pid = 77};
    check_equal(exitbus_receive(fixture.all, &event, 0), -EAGAIN);
    check_equal(event.pid, 77);
    publish_pids(fixture.bus, 1, 3);
    for (pid_t pid = 1; pid <= 3; pid++) {
        check_equal(exitbus_receive(fixture.all, &event, 0), 0);
        check_equal(event.pid, pid);
        check_equal(event.seq, pid);
    }
    check_equal(exitbus_receive(fixture.all, &event, 0), -EAGAIN);
    fixture_end(&fixture);
}

TEST(receive, what_is_there_needs_no_waiting)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event;
    const int64_t timeouts[] = {0, 1, LONG_NS, INT64_MAX, -1, INT64_MIN};
    for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
        publish_pids(fixture.bus, 9, 9);
        check_equal(exitbus_receive(fixture.all, &event, timeouts[i]), 0);
        check_equal(event.seq, i + 1);
    }
    fixture_end(&fixture);
}

TEST(receive, time_runs_out)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event = {.pid = 77};
    check_equal(exitbus_receive(fixture.all, &event, 1), -ETIMEDOUT);
    check_equal(exitbus_receive(fixture.all, &event, SHORT_NS), -ETIMEDOUT);
    check_equal(exitbus_receive_batch(fixture.all, &event, 1, SHORT_NS), -ETIMEDOUT);
    check_equal(event.pid, 77);
    check_equal(stats_of(fixture.bus).sleeping_receivers, 0);
    publish_pids(fixture.bus, 1, 1);
    check_equal(exitbus_receive(fixture.all, &event, SHORT_NS), 0);
    fixture_end(&fixture);
}

struct sleeper {
    struct exitbus_subscription *subscription;
    int64_t timeout_ns;
    size_t capacity;
    struct exitbus_event events[8];
    ssize_t result;
};

static void *sleep_and_receive(void *argument)
{
    struct sleeper *sleeper = argument;
    sleeper->result = exitbus_receive_batch(sleeper->subscription, sleeper->events,
                                            sleeper->capacity, sleeper->timeout_ns);
    return NULL;
}

TEST(receive, sleepers_are_woken_by_an_event)
{
    const int64_t timeouts[] = {-1, LONG_NS, INT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct fixture fixture = fixture_begin();
        struct sleeper sleeper = {
            .subscription = fixture.all, .timeout_ns = timeouts[i], .capacity = 8};
        pthread_t thread = thread_start(sleep_and_receive, &sleeper);
        await_sleepers(fixture.bus, 1);
        publish_pids(fixture.bus, 5, 5);
        thread_join(thread);
        check_equal(sleeper.result, 1);
        check_equal(sleeper.events[0].pid, 5);
        check_equal(stats_of(fixture.bus).sleeping_receivers, 0);
        fixture_end(&fixture);
    }
}

/* Over and over: each event must find its way to a thread that is about to sleep, or asleep. */
static void *receive_forever(void *argument)
{
    struct sleeper *sleeper = argument;
    uint64_t seq = 0;
    while ((sleeper->result =
                exitbus_receive(sleeper->subscription, sleeper->events, sleeper->timeout_ns)) == 0)
        must_equal(sleeper->events[0].seq, ++seq);
    return NULL;
}

TEST(receive, no_wake_up_is_lost)
{
    struct fixture fixture = fixture_begin();
    struct sleeper sleeper = {.subscription = fixture.all, .timeout_ns = -1};
    pthread_t thread = thread_start(receive_forever, &sleeper);
    for (unsigned i = 0; i < scaled(40000); i++) {
        publish_pids(fixture.bus, 1, 1);
        while (exitbus_subscription_pending(fixture.all) >
               0) /* until it has been taken, or for ever */
            sched_yield();
    }
    check_ok(exitbus_subscription_ref(fixture.all));
    check_ok(exitbus_unsubscribe(fixture.all));
    thread_join(thread);
    check_ok(exitbus_subscription_unref(fixture.all));
    check_equal(sleeper.result, -ESHUTDOWN);
    check_ok(exitbus_destroy(fixture.bus));
}

TEST(receive, events_for_others_wake_nobody)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_subscription *one = subscribe(fixture.bus, exitbus_topic_pid(500));
    struct sleeper sleeper = {.subscription = one, .timeout_ns = -1, .capacity = 8};
    pthread_t thread = thread_start(sleep_and_receive, &sleeper);
    await_sleepers(fixture.bus, 1);
    publish_pids(fixture.bus, 1, 499);
    publish_pids(fixture.bus, 500 + 65536, 500 + 65536); /* its neighbour in the directory */
    check_equal(stats_of(fixture.bus).sleeping_receivers, 1);
    publish_pids(fixture.bus, 500, 500);
    thread_join(thread);
    check_equal(sleeper.result, 1);
    check_equal(sleeper.events[0].pid, 500);
    check_ok(exitbus_unsubscribe(one));
    fixture_end(&fixture);
}

/* --------------------------------------------------------------------------------------- batches
 */

TEST_EACH_WAY(receive, batches)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event events[41];
    uint64_t random = 99, received = 0, published = 0;
    while (received < 5000) {
        pid_t more = (pid_t)random_below(&random, 60);
        publish_pids(fixture.bus, (pid_t)published + 1, (pid_t)published + more);
        published += (uint64_t)more;
        if (published == received)
            continue;
        size_t capacity = 1 + random_below(&random, 40);
        memset((void *)events, 0x77, sizeof events);
        ssize_t count = way_receive(way, fixture.all, events, capacity);
        check(count >= 1 && (size_t)count <= capacity);
        for (ssize_t i = 0; i < count; i++) {
            check_equal(events[i].seq, ++received);
            check_equal(events[i].pid, received);
        }
        check_equal(events[count].seq, 0x7777777777777777);
        check_equal(exitbus_subscription_pending(fixture.all), published - received);
    }
    fixture_end(&fixture);
}

TEST(receive, a_batch_waits_for_the_first_only)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event events[8];
    check_equal(exitbus_receive_batch(fixture.all, events, 8, 0), -EAGAIN);
    struct sleeper sleeper = {.subscription = fixture.all, .timeout_ns = -1, .capacity = 8};
    pthread_t thread = thread_start(sleep_and_receive, &sleeper);
    await_sleepers(fixture.bus, 1);
    publish_pids(fixture.bus, 1, 1);
    thread_join(thread);
    check_equal(sleeper.result, 1);
    fixture_end(&fixture);
}

TEST(receive, bad_arguments_are_refused)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event;
    publish_pids(fixture.bus, 1, 1);
    check_equal(exitbus_receive(NULL, &event, 0), -EINVAL);
    check_equal(exitbus_receive(fixture.all, NULL, 0), -EINVAL);
    check_equal(exitbus_receive_batch(NULL, &event, 1, 0), -EINVAL);
    check_equal(exitbus_receive_batch(fixture.all, NULL, 1, 0), -EINVAL);
    check_equal(exitbus_receive_batch(fixture.all, &event, 0, 0), -EINVAL);
    check_equal(exitbus_receive_pid(NULL, 1, &event, &(uint64_t){0}, 0), -EINVAL);
    check_equal(exitbus_receive_pid(fixture.all, 1, NULL, &(uint64_t){0}, 0), -EINVAL);
    check_equal(exitbus_receive_pid(fixture.all, 0, &event, &(uint64_t){0}, 0), -EINVAL);
    check_equal(exitbus_receive_pid(fixture.all, -1, &event, &(uint64_t){0}, 0), -EINVAL);
    check_equal(exitbus_subscription_pending(NULL), -EINVAL);
    check_equal(exitbus_subscription_fd(NULL), -EINVAL);
    check_equal(exitbus_subscription_pending(fixture.all), 1);
    fixture_end(&fixture);
}

TEST(receive, pending)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event events[5];
    check_equal(exitbus_subscription_pending(fixture.all), 0);
    for (int i = 1; i <= 300; i++) {
        check_equal(i % 3 ? exitbus_publish_pid(fixture.bus, 1, 0)
                          : exitbus_publish_exec(fixture.bus, "container", "exec", 0),
                    0);
        check_equal(exitbus_subscription_pending(fixture.all), i);
    }
    for (ssize_t left = 300; left > 0;) {
        ssize_t count = exitbus_receive_batch(fixture.all, events, 5, 0);
        check(count > 0);
        left -= count;
        check_equal(exitbus_subscription_pending(fixture.all), left);
    }
    fixture_end(&fixture);
}

/* ---------------------------------------------------------------------------------- receive_pid */

TEST(receive, receive_pid_counts_what_it_discards)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event;
    struct exitbus_event exec = exec_event("c", "e");
    uint64_t discarded = 77;
    exec.pid = 30; /* has the pid, but is not its exit */
    publish_pids(fixture.bus, 1, 20);
    check_equal(exitbus_publish(fixture.bus, &exec, NULL), 0);
    publish_pids(fixture.bus, 30, 40);
    check_equal(exitbus_receive_pid(fixture.all, 30, &event, &discarded, 0), 0);
    check_equal(event.kind, EXITBUS_EVENT_PID);
    check_equal(event.pid, 30);
    check_equal(discarded, 21);
    check_equal(exitbus_subscription_pending(fixture.all), 10);
    check_equal(exitbus_receive_pid(fixture.all, 35, &event, &discarded, -1), 0);
    check_equal(event.pid, 35);
    check_equal(discarded, 4);
    event.pid = 77;
    check_equal(exitbus_receive_pid(fixture.all, 999, &event, &discarded, 0), -EAGAIN);
    check_equal(event.pid, 77);
    check_equal(discarded, 5);
    check_equal(exitbus_subscription_pending(fixture.all), 0);
    publish_pids(fixture.bus, 1, 3);
    check_equal(exitbus_receive_pid(fixture.all, 999, &event, &discarded, SHORT_NS), -ETIMEDOUT);
    check_equal(discarded, 3);
    check_equal(exitbus_subscription_pending(fixture.all), 0);
    fixture_end(&fixture);
}

/* Without a count nothing may have to be discarded. */
TEST(receive, receive_pid_without_a_count_wants_one_pid)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_subscription *one, *any;
    struct exitbus_event event;
    uint64_t discarded = 77;
    check_equal(exitbus_subscribe(fixture.bus, exitbus_topic_pid(2), 0, &one), 0);
    check_equal(exitbus_subscribe(fixture.bus, exitbus_topic_any_pid(), 0, &any), 0);
    publish_pids(fixture.bus, 1, 3);
    check_equal(exitbus_receive_pid(fixture.all, 2, &event, NULL, 0), -EINVAL);
    check_equal(exitbus_receive_pid(any, 2, &event, NULL, 0), -EINVAL);
    check_equal(exitbus_receive_pid(one, 3, &event, NULL, 0), -EINVAL);
    check_equal(exitbus_subscription_pending(fixture.all), 3);
    check_equal(exitbus_subscription_pending(any), 3);
    check_equal(exitbus_subscription_pending(one), 1);
    check_equal(exitbus_receive_pid(one, 2, &event, NULL, 0), 0);
    check_equal(event.pid, 2);
    check_equal(exitbus_receive_pid(any, 1, &event, &discarded, 0), 0);
    check_equal(discarded, 0);
    check_equal(exitbus_unsubscribe(one), 0);
    check_equal(exitbus_unsubscribe(any), 0);
    fixture_end(&fixture);
}

struct waiter {
    struct exitbus_subscription *subscription;
    int64_t timeout_ns;
    struct exitbus_event event;
    int result;
};

static void *wait_for_pid(void *argument)
{
    struct waiter *waiter = argument;
    waiter->result = exitbus_receive_pid(waiter->subscription, 1000, &waiter->event, &(uint64_t){0},
                                         waiter->timeout_ns);
    return NULL;
}

TEST(receive, receive_pid_sleeps_through_the_others)
{
    const int64_t timeouts[] = {-1, LONG_NS};
    for (size_t i = 0; i < 2; i++) {
        struct fixture fixture = fixture_begin();
        struct waiter waiter = {.subscription = fixture.all, .timeout_ns = timeouts[i]};
        pthread_t thread = thread_start(wait_for_pid, &waiter);
        for (pid_t pid = 1; pid <= 20; pid++) {
            await_sleepers(fixture.bus, 1);
            publish_pids(fixture.bus, pid, pid);
            await(exitbus_subscription_pending(fixture.all) == 0);
        }
        await_sleepers(fixture.bus, 1);
        publish_pids(fixture.bus, 1000, 1001);
        thread_join(thread);
        check_equal(waiter.result, 0);
        check_equal(waiter.event.pid, 1000);
        check_equal(exitbus_subscription_pending(fixture.all), 1);
        fixture_end(&fixture);
    }
}

TEST(receive, receive_pid_ends_when_the_subscription_does)
{
    struct fixture fixture = fixture_begin();
    struct waiter waiter = {.subscription = fixture.all, .timeout_ns = -1};
    pthread_t thread = thread_start(wait_for_pid, &waiter);
    await_sleepers(fixture.bus, 1);
    check_ok(exitbus_unsubscribe(fixture.all));
    thread_join(thread);
    check_equal(waiter.result, -ESHUTDOWN);
    check_ok(exitbus_destroy(fixture.bus));
}

/* --------------------------------------------------------------------------------- the descriptor
 */

/* Level-triggered: every look gives the same answer, by poll and by epoll. */
static void check_readable(int fd, int epoll_fd, bool expected)
{
    for (int i = 0; i < 3; i++) {
        struct epoll_event event;
        check_equal(fd_readable(fd), expected);
        check_equal(epoll_wait(epoll_fd, &event, 1, 0), expected ? 1 : 0);
        check(!expected || event.events == EPOLLIN);
    }
}

static int epoll_of(int fd)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    must_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event), 0);
    return epoll_fd;
}

TEST(receive, fd_is_readable_while_events_are_pending)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event events[8];
    int fd = exitbus_subscription_fd(fixture.all);
    check(fd >= 0);
    int epoll_fd = epoll_of(fd);
    check_readable(fd, epoll_fd, false);
    uint64_t random = 3;
    for (unsigned round = 0; round < 200; round++) {
        pid_t count = 1 + (pid_t)random_below(&random, 20);
        publish_pids(fixture.bus, 1, count);
        check_readable(fd, epoll_fd, true);
        while (exitbus_subscription_pending(fixture.all) > 0) {
            check_readable(fd, epoll_fd, true);
            check(exitbus_receive_batch(fixture.all, events, 1 + random_below(&random, 8), 0) > 0);
        }
        check_readable(fd, epoll_fd, false);
        check_equal(exitbus_receive(fixture.all, events, 0), -EAGAIN);
        check_readable(fd, epoll_fd, false);
        check_equal(exitbus_subscription_fd(fixture.all), fd);
    }
    close(epoll_fd);
    fixture_end(&fixture);
}

TEST(receive, fd_follows_every_way_of_receiving)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event events[8];
    int fd = exitbus_subscription_fd(fixture.all), epoll_fd = epoll_of(fd);
    for (int how = 0; how < 5; how++) {
        publish_pids(fixture.bus, 1, 2);
        check_readable(fd, epoll_fd, true);
        check_equal(exitbus_receive(fixture.all, events, -1), 0);
        check_readable(fd, epoll_fd, true);
        switch (how) {
        case 0:
            check_equal(exitbus_receive(fixture.all, events, 0), 0);
            break;
        case 1:
            check_equal(exitbus_receive(fixture.all, events, LONG_NS), 0);
            break;
        case 2:
            check_equal(exitbus_receive(fixture.all, events, -1), 0);
            break;
        case 3:
            check_equal(exitbus_receive_batch(fixture.all, events, 8, 0), 1);
            break;
        default:
            check_equal(exitbus_receive_pid(fixture.all, 2, events, &(uint64_t){0}, -1), 0);
        }
        check_readable(fd, epoll_fd, false);
    }
    close(epoll_fd);
    fixture_end(&fixture);
}

TEST(receive, fd_made_after_the_events)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event;
    publish_pids(fixture.bus, 1, 3);
    int fd = exitbus_subscription_fd(fixture.all), epoll_fd = epoll_of(fd);
    check_readable(fd, epoll_fd, true);
    for (int i = 0; i < 3; i++) {
        check_readable(fd, epoll_fd, true);
        check_equal(exitbus_receive(fixture.all, &event, 0), 0);
    }
    check_readable(fd, epoll_fd, false);
    close(epoll_fd);
    fixture_end(&fixture);
}

TEST(receive, fd_stays_readable_after_closing)
{
    for (int how = 0; how < 4; how++) {
        struct fixture fixture = fixture_begin();
        struct exitbus_event event;
        struct exitbus_subscription *all = fixture.all;
        check_ok(exitbus_subscription_ref(all));
        int fd = how == 3 ? -1 : exitbus_subscription_fd(all);
        if (how == 1) /* closed with events in it */
            publish_pids(fixture.bus, 1, 3);
        if (how == 2)
            check_ok(exitbus_destroy(fixture.bus));
        check_ok(exitbus_unsubscribe(all));
        if (how == 3) /* made when it was closed */
            fd = exitbus_subscription_fd(all);
        int epoll_fd = epoll_of(fd);
        for (int i = 0; i < 3; i++) {
            check_readable(fd, epoll_fd, true);
            check_equal(exitbus_receive(all, &event, 0), -ESHUTDOWN);
            check_equal(exitbus_receive(all, &event, -1), -ESHUTDOWN);
            check_equal(exitbus_receive(all, &event, LONG_NS), -ESHUTDOWN);
            check_equal(exitbus_subscription_pending(all), 0);
        }
        check_equal(exitbus_subscription_fd(all), fd);
        close(epoll_fd);
        check_ok(exitbus_subscription_unref(all));
        if (how != 2)
            check_ok(exitbus_destroy(fixture.bus));
    }
}

static void *poll_and_receive(void *argument)
{
    struct sleeper *sleeper = argument;
    sleeper->result =
        way_receive(WAY_FD, sleeper->subscription, sleeper->events, sleeper->capacity);
    return NULL;
}

TEST(receive, fd_wakes_a_poll_that_has_begun)
{
    struct fixture fixture = fixture_begin();
    (void)fd_of(fixture.all);
    for (pid_t pid = 1; pid <= 200; pid++) {
        struct sleeper sleeper = {.subscription = fixture.all, .capacity = 8};
        pthread_t thread = thread_start(poll_and_receive, &sleeper);
        if (pid % 2)
            short_pause(); /* half of them while it is asleep, if it is that fast */
        publish_pids(fixture.bus, pid, pid);
        thread_join(thread);
        check_equal(sleeper.result, 1);
        check_equal(sleeper.events[0].pid, pid);
    }
    fixture_end(&fixture);
}

/* ------------------------------------------------------------------------------ several receivers
 */

struct shared {
    struct exitbus_subscription *subscription;
    uint64_t events;
    _Atomic uint64_t received;
    _Atomic uint8_t *times;
    uint64_t *told; /* written before the publish, and not atomic: whoever receives knows of it */
};

struct receiver {
    struct shared *shared;
    enum way way;
    size_t capacity;
};

static void *receive_share(void *argument)
{
    struct receiver *receiver = argument;
    struct shared *shared = receiver->shared;
    struct exitbus_event events[16];
    uint64_t last = 0;
    ssize_t count;
    while ((count = way_receive(receiver->way, shared->subscription, events, receiver->capacity)) >
           0) {
        for (ssize_t i = 0; i < count; i++) {
            must(events[i].seq > last);
            must(i == 0 || events[i].seq == last + 1); /* a batch is consecutive */
            last = events[i].seq;
            must_equal(events[i].pid, last);
            must_equal(shared->told[last], last);
            must_equal(atomic_fetch_add(&shared->times[last], 1), 0);
        }
        atomic_fetch_add(&shared->received, (uint64_t)count);
    }
    must_equal(count, -ESHUTDOWN);
    must_equal(exitbus_subscription_unref(shared->subscription), 0);
    return NULL;
}

static void share(const enum way *ways, size_t receivers, uint64_t events)
{
    struct fixture fixture = fixture_begin();
    struct shared shared = {.subscription = fixture.all, .events = events};
    shared.times = calloc(events + 1, sizeof *shared.times);
    shared.told = calloc(events + 1, sizeof *shared.told);
    check(shared.times && shared.told);
    pthread_t threads[8];
    struct receiver of_thread[8];
    check(receivers <= 8);
    for (size_t i = 0; i < receivers; i++) {
        of_thread[i] = (struct receiver){&shared, ways[i], i % 2 ? 1 : 16};
        check_ok(exitbus_subscription_ref(fixture.all));
        threads[i] = thread_start(receive_share, &of_thread[i]);
    }
    for (uint64_t i = 1; i <= events; i++) {
        shared.told[i] = i;
        publish_pids(fixture.bus, (pid_t)i, (pid_t)i);
        if (i % 64 == 0)
            sched_yield();
    }
    await(atomic_load(&shared.received) == events);
    check_equal(exitbus_subscription_pending(fixture.all), 0);
    check_ok(exitbus_unsubscribe(fixture.all));
    for (size_t i = 0; i < receivers; i++)
        thread_join(threads[i]);
    for (uint64_t i = 1; i <= events; i++)
        check_equal(shared.times[i], 1);
    free((void *)shared.times);
    free(shared.told);
    check_ok(exitbus_destroy(fixture.bus));
}

TEST_EACH_WAY(receive, several_receivers_take_each_event_once)
{
    const enum way ways[] = {way, way, way, way};
    share(ways, 4, scaled(60000));
}

TEST(receive, receivers_of_all_ways_take_each_event_once)
{
    const enum way ways[] = {WAY_TRY, WAY_BLOCKING, WAY_FD, WAY_BLOCKING, WAY_FD, WAY_TRY};
    share(ways, 6, scaled(60000));
}
