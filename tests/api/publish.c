/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All ways to publish: what arrives, in which place, how it is counted, and what is refused. */
#include "support/allocator.h"
#include "support/events.h"
#include "support/harness.h"

#include <signal.h>
#include <sys/wait.h>

static struct exitbus_event receive(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(subscription, &event, 0), 0);
    return event;
}

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
    struct exitbus_event event;
    check_equal(exitbus_receive(fixture->all, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(fixture->all));
    check_ok(exitbus_destroy(fixture->bus));
}

TEST(publish, carries_every_field)
{
    struct fixture fixture = fixture_begin();
    for (uint8_t kind = EXITBUS_EVENT_PID; kind <= EXITBUS_EVENT_EXEC; kind++) {
        struct exitbus_event given = full_event(kind);
        uint64_t seq = 0;
        check_equal(exitbus_publish(fixture.bus, &given, &seq), 0);
        struct exitbus_event received = receive(fixture.all);
        check(event_carries(&received, &given));
        check_equal(received.seq, seq);
        check_equal(seq, kind);
    }
    fixture_end(&fixture);
}

TEST(publish, ids_at_their_limits)
{
    struct fixture fixture = fixture_begin();
    const size_t sizes[] = {0, 1, 126, 127};
    for (size_t c = 1; c < 4; c++) {
        for (size_t e = 0; e < 4; e++) {
            struct exitbus_event given = exec_event("c", "");
            given.monotonic_ns = given.realtime_ns = 1;
            id_fill(given.container_id, sizes[c], 'a');
            id_fill(given.exec_id, sizes[e], 'A');
            check_equal(exitbus_publish(fixture.bus, &given, NULL), 0);
            struct exitbus_event received = receive(fixture.all);
            check(event_carries(&received, &given));

            check_equal(exitbus_publish_exec(fixture.bus, given.container_id, given.exec_id, 7), 0);
            received = receive(fixture.all);
            check_equal(received.container_id_size, sizes[c]);
            check_equal(received.exec_id_size, sizes[e]);
            check_equal(strcmp(received.container_id, given.container_id), 0);
            check_equal(strcmp(received.exec_id, given.exec_id), 0);
        }
    }
    fixture_end(&fixture);
}

TEST(publish, seq_counts_every_event)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event event = pid_event(1),
                         batch[3] = {pid_event(2), pid_event(3), pid_event(4)};
    uint64_t seq;
    check_equal(exitbus_publish(fixture.bus, &event, &seq), 0);
    check_equal(seq, 1);
    check_equal(exitbus_publish_pid(fixture.bus, 5, 0), 0);
    check_equal(exitbus_publish_exec(fixture.bus, "c", "e", 0), 0);
    check_equal(exitbus_publish_wait(fixture.bus, 6, 0, NULL), 0);
    check_equal(exitbus_publish_batch(fixture.bus, batch, 3, &seq), 0);
    check_equal(seq, 5);
    check_equal(exitbus_publish_batch(fixture.bus, batch, 2, NULL), 0);
    check_equal(exitbus_publish(fixture.bus, &event, &seq), 0);
    check_equal(seq, 10);
    const pid_t pids[] = {1, 5, 0, 6, 2, 3, 4, 2, 3, 1};
    for (size_t i = 0; i < 10; i++) {
        struct exitbus_event received = receive(fixture.all);
        check_equal(received.seq, i + 1);
        check_equal(received.pid, pids[i]);
    }
    fixture_end(&fixture);
}

/* ----------------------------------------------------------------------------- the short forms */

static void check_filled_in(const struct exitbus_event *event)
{
    check(event->monotonic_ns != 0);
    check(event->realtime_ns != 0);
}

TEST(publish, pid_with_exit_code)
{
    struct fixture fixture = fixture_begin();
    for (int code = 0; code < 256; code++) {
        check_equal(exitbus_publish_pid(fixture.bus, 1000 + code, code), 0);
        struct exitbus_event event = receive(fixture.all);
        check_equal(event.kind, EXITBUS_EVENT_PID);
        check_equal(event.pid, 1000 + code);
        check_equal(event.exit_code, code);
        check(WIFEXITED(event.status));
        check_equal(WEXITSTATUS(event.status), code);
        check_equal(event.flags, 0);
        check_equal(event.user_us + event.system_us + event.max_rss_kib, 0);
        check_equal(event.container_id[0] + event.exec_id[0], 0);
        check_equal(event.container_id_size + event.exec_id_size, 0);
        check_filled_in(&event);
    }
    fixture_end(&fixture);
}

TEST(publish, exec_with_exit_code)
{
    struct fixture fixture = fixture_begin();
    const char *const execs[] = {"exec", ""};
    for (size_t i = 0; i < 2; i++) {
        check_equal(exitbus_publish_exec(fixture.bus, "container", execs[i], 42), 0);
        struct exitbus_event event = receive(fixture.all);
        check_equal(event.kind, EXITBUS_EVENT_EXEC);
        check_equal(event.pid, 0);
        check_equal(event.exit_code, 42);
        check_equal(WEXITSTATUS(event.status), 42);
        check_equal(strcmp(event.container_id, "container"), 0);
        check_equal(strcmp(event.exec_id, execs[i]), 0);
        check_filled_in(&event);
    }
    fixture_end(&fixture);
}

TEST(publish, wait_status_and_usage)
{
    struct fixture fixture = fixture_begin();
    const struct rusage usage = {.ru_utime = {.tv_sec = 3, .tv_usec = 4},
                                 .ru_stime = {.tv_sec = 5, .tv_usec = 6},
                                 .ru_maxrss = 789};
    const struct {
        int status;
        int exit_code;
        uint8_t flags;
    } cases[] = {
        {W_EXITCODE(0, 0), 0, 0},
        {W_EXITCODE(255, 0), 255, 0},
        {SIGKILL, 137, 0},
        {SIGSEGV | WCOREFLAG, 139, EXITBUS_EVENT_CORE_DUMPED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_equal(exitbus_publish_wait(fixture.bus, 12, cases[i].status, &usage), 0);
        struct exitbus_event event = receive(fixture.all);
        check_equal(event.kind, EXITBUS_EVENT_PID);
        check_equal(event.pid, 12);
        check_equal(event.status, cases[i].status);
        check_equal(event.exit_code, cases[i].exit_code);
        check_equal(event.flags, cases[i].flags);
        check_equal(event.user_us, 3000004);
        check_equal(event.system_us, 5000006);
        check_equal(event.max_rss_kib, 789);
        check_filled_in(&event);
    }
    check_equal(exitbus_publish_wait(fixture.bus, 12, 0, NULL), 0);
    struct exitbus_event event = receive(fixture.all);
    check_equal(event.user_us + event.system_us + event.max_rss_kib, 0);
    fixture_end(&fixture);
}

/* -------------------------------------------------------------------------------------- batches */

TEST(publish, batches_of_every_size)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event batch[EXITBUS_BATCH_MAX];
    uint64_t next = 1;
    for (size_t count = 1; count <= EXITBUS_BATCH_MAX; count++) {
        for (size_t i = 0; i < count; i++) {
            batch[i] = full_event(i % 3 == 0 ? EXITBUS_EVENT_EXEC : EXITBUS_EVENT_PID);
            batch[i].pid = (pid_t)(count * 100 + i);
            if (i % 3 == 0)
                id_fill(batch[i].exec_id, count + i, 'a');
        }
        uint64_t first;
        check_equal(exitbus_publish_batch(fixture.bus, batch, count, &first), 0);
        check_equal(first, next);
        for (size_t i = 0; i < count; i++) {
            struct exitbus_event received = receive(fixture.all);
            check_equal(received.seq, next++);
            check(event_carries(&received, &batch[i]));
        }
    }
    fixture_end(&fixture);
}

TEST(publish, times_of_zero_are_filled_in_throughout_a_batch)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event batch[3] = {pid_event(1), exec_event("c", "e"), pid_event(2)};
    batch[2].monotonic_ns = 5;
    check_equal(exitbus_publish_batch(fixture.bus, batch, 3, NULL), 0);
    for (size_t i = 0; i < 3; i++) {
        struct exitbus_event event = receive(fixture.all);
        check_filled_in(&event);
        check((event.monotonic_ns == 5) == (i == 2));
    }
    check_equal(batch[0].monotonic_ns, 0); /* the caller's are left alone */
    fixture_end(&fixture);
}

/* ------------------------------------------------------------------------------------- refusals */

/* A refused call orders nothing, delivers nothing and leaves its output alone. */
#define check_refused(fixture, error, call)                                                        \
    do {                                                                                           \
        uint64_t seq = 0x5e95e9;                                                                   \
        check_equal(call, error);                                                                  \
        check_equal(seq, 0x5e95e9);                                                                \
        check_equal(stats_of((fixture)->bus).published, 0);                                        \
        check_equal(exitbus_subscription_pending((fixture)->all), 0);                              \
    } while (0)

TEST(publish, bad_events_are_refused)
{
    struct fixture fixture = fixture_begin();
    struct exitbus_event bad[12];
    for (size_t i = 0; i < 12; i++)
        bad[i] = full_event(i < 6 ? EXITBUS_EVENT_PID : EXITBUS_EVENT_EXEC);
    bad[0].kind = 0;
    bad[1].kind = 3;
    bad[2].flags = 8;
    bad[3].flags = 0x80;
    bad[4].pid = 0;
    bad[5].pid = -5;
    bad[6].pid = -1;
    bad[7].container_id[0] = '\0';
    memset(bad[8].container_id, 'c', sizeof bad[8].container_id);
    memset(bad[9].exec_id, 'e', sizeof bad[9].exec_id);
    bad[10].kind = 255;
    bad[11].flags = 0xff;
    for (size_t i = 0; i < 12; i++) {
        check_refused(&fixture, -EINVAL, exitbus_publish(fixture.bus, &bad[i], &seq));
        check_refused(&fixture, -EINVAL, exitbus_publish_batch(fixture.bus, &bad[i], 1, &seq));
        /* All or none: in every place of a batch. */
        for (size_t place = 0; place < 3; place++) {
            struct exitbus_event batch[3] = {pid_event(1), pid_event(2), pid_event(3)};
            batch[place] = bad[i];
            check_refused(&fixture, -EINVAL, exitbus_publish_batch(fixture.bus, batch, 3, &seq));
        }
    }
    fixture_end(&fixture);
}

TEST(publish, bad_arguments_are_refused)
{
    struct fixture fixture = fixture_begin();
    struct exitbus *bus = fixture.bus;
    struct exitbus_event events[EXITBUS_BATCH_MAX + 1];
    for (size_t i = 0; i <= EXITBUS_BATCH_MAX; i++)
        events[i] = pid_event(1);
    check_refused(&fixture, -EINVAL, exitbus_publish(NULL, events, &seq));
    check_refused(&fixture, -EINVAL, exitbus_publish(bus, NULL, &seq));
    check_refused(&fixture, -EINVAL, exitbus_publish_batch(NULL, events, 1, &seq));
    check_refused(&fixture, -EINVAL, exitbus_publish_batch(bus, NULL, 1, &seq));
    check_refused(&fixture, -EINVAL, exitbus_publish_batch(bus, events, 0, &seq));
    check_refused(&fixture, -EINVAL,
                  exitbus_publish_batch(bus, events, EXITBUS_BATCH_MAX + 1, &seq));
    check_refused(&fixture, -EINVAL, exitbus_publish_pid(NULL, 1, 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_pid(bus, 0, 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_pid(bus, -1, 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_wait(NULL, 1, 0, NULL));
    check_refused(&fixture, -EINVAL, exitbus_publish_wait(bus, 0, 0, NULL));
    check_refused(&fixture, -EINVAL, exitbus_publish_wait(bus, -1, 0, NULL));
    check_refused(&fixture, -EINVAL, exitbus_publish_wait(bus, 1, W_STOPCODE(SIGSTOP), NULL));
    check_refused(&fixture, -EINVAL, exitbus_publish_wait(bus, 1, 0xffff, NULL));
    check_refused(&fixture, -EINVAL, exitbus_stats(NULL, &(struct exitbus_stats){0}));
    check_refused(&fixture, -EINVAL, exitbus_stats(bus, NULL));
    fixture_end(&fixture);
}

TEST(publish, bad_ids_are_refused)
{
    struct fixture fixture = fixture_begin();
    struct exitbus *bus = fixture.bus;
    char too_long[EXITBUS_ID_MAX + 2];
    id_fill(too_long, EXITBUS_ID_MAX + 1, 'a');
    check_refused(&fixture, -EINVAL, exitbus_publish_exec(NULL, "c", "e", 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_exec(bus, NULL, "e", 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_exec(bus, "c", NULL, 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_exec(bus, "", "e", 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_exec(bus, too_long, "e", 0));
    check_refused(&fixture, -EINVAL, exitbus_publish_exec(bus, "c", too_long, 0));
    fixture_end(&fixture);
}

/* The memory of a destroyed bus is there as long as a subscription is. */
TEST(publish, a_destroyed_bus_refuses)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *left = subscribe(bus, exitbus_topic_all());
    check_equal(exitbus_publish_pid(bus, 1, 0), 0);
    check_ok(exitbus_destroy(bus));
    struct exitbus_event event = pid_event(1);
    uint64_t seq = 5;
    check_equal(exitbus_publish(bus, &event, &seq), -ESHUTDOWN);
    check_equal(exitbus_publish_batch(bus, &event, 1, &seq), -ESHUTDOWN);
    check_equal(exitbus_publish_pid(bus, 1, 0), -ESHUTDOWN);
    check_equal(exitbus_publish_exec(bus, "c", "e", 0), -ESHUTDOWN);
    check_equal(exitbus_publish_wait(bus, 1, 0, NULL), -ESHUTDOWN);
    check_equal(seq, 5);
    check_equal(stats_of(bus).published, 1);
    check_ok(exitbus_unsubscribe(left));
}

TEST(publish, out_of_memory_orders_nothing)
{
    static struct account account;
    account_init(&account);
    struct exitbus *bus = account_bus(&account);
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    atomic_store(&account.refuse, true);
    struct exitbus_event event = pid_event(1);
    uint64_t seq = 5;
    check_equal(exitbus_publish(bus, &event, &seq), -ENOMEM);
    check_equal(seq, 5);
    check_equal(stats_of(bus).published, 0);
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    atomic_store(&account.refuse, false);
    event = pid_event(2);
    check_equal(exitbus_publish(bus, &event, &seq), 0);
    check_equal(seq, 1);
    check_equal(receive(all).pid, 2);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

/* ----------------------------------------------------------------------------------- statistics */

TEST(publish, statistics)
{
    struct exitbus *bus = bus_new();
    struct exitbus_stats stats = stats_of(bus);
    check(stats.bytes > 0);
    size_t bytes = stats.bytes;
    stats.bytes = 0;
    check_equal(memcmp(&stats, &(struct exitbus_stats){0}, sizeof stats), 0);

    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *pid = subscribe(bus, exitbus_topic_pid(7));
    struct exitbus_subscription *container = subscribe(bus, exitbus_topic_container("c"));
    check_equal(stats_of(bus).subscriptions, 3);
    check(stats_of(bus).bytes > bytes);
    for (int i = 0; i < 10; i++) {
        check_equal(exitbus_publish_pid(bus, 7, i), 0);
        check_equal(exitbus_publish_exec(bus, "c", "e", i), 0);
    }
    stats = stats_of(bus);
    check_equal(stats.published, 20);
    check_equal(stats.delivered, 0);
    check_equal(stats.dropped, 0);
    check_equal(stats.helped, 0);
    check_equal(stats.sleeping_receivers, 0);

    struct exitbus_event events[4];
    check_equal(exitbus_receive_batch(all, events, 1, 0), 1);
    check_equal(exitbus_receive(pid, events, 0), 0);
    check_equal(exitbus_receive(pid, events, 0), 0);
    check_equal(stats_of(bus).delivered, 3);
    check_ok(exitbus_unsubscribe(pid));
    stats = stats_of(bus);
    check_equal(stats.delivered, 3);
    check_equal(stats.dropped, 8);
    check_equal(stats.subscriptions, 2);
    check_ok(exitbus_unsubscribe(container));
    check_ok(exitbus_unsubscribe(all));
    stats = stats_of(bus);
    check_equal(stats.published, 20);
    check_equal(stats.delivered, 3);
    check_equal(stats.dropped, 8 + 10 + 19);
    check_equal(stats.subscriptions, 0);
    check_ok(exitbus_destroy(bus));
}

TEST(publish, events_that_nobody_wants_are_numbered_all_the_same)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *one = subscribe(bus, exitbus_topic_pid(3));
    for (int i = 1; i <= 1000; i++)
        check_equal(exitbus_publish_pid(bus, i, 0), 0);
    check_equal(exitbus_subscription_pending(one), 1);
    check_equal(receive(one).seq, 3);
    check_equal(stats_of(bus).published, 1000);
    check_ok(exitbus_unsubscribe(one));
    check_ok(exitbus_destroy(bus));
}
