/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A subscriber that never receives while a million events are published. The publisher comes to its
 * end all the same, the other subscribers are served meanwhile, everything is still there in order
 * for the slow one afterwards, and then the memory comes back.
 */
#include "base/compiler.h"
#include "base/probe.h"
#include "support/events.h"
#include "support/harness.h"
#include "support/ways.h"

#include <stdatomic.h>

#define EVENTS scaled(1000000)
#define STAGES 10 /* after each of them, the others have received all that was published */
/*
 * What a bus may keep of what it has used: a few small slabs, the slab of 2 MiB that it cuts blocks
 * from when there are many, and with each live subscription the one that its queue ends in.
 */
#define KEPT ((uint64_t)3 << 20)
#define KEPT_BY_EACH ((uint64_t)2 << 20)

struct subscriber {
    struct exitbus_subscription *subscription;
    enum way way;
    bool wide;
    _Atomic uint64_t received;
};

/* Event seq: a pid event, or, for wide ones, an exec event with ids of changing sizes. */
static struct exitbus_event event_make(uint64_t seq, bool wide)
{
    struct exitbus_event event = wide ? exec_event("container", "") : pid_event((pid_t)seq);
    if (wide)
        id_fill(event.exec_id, seq % (EXITBUS_ID_MAX + 1), 'a');
    event.monotonic_ns = event.user_us = seq;
    event.realtime_ns = ~seq;
    return event;
}

static void publish_stage(struct exitbus *bus, uint64_t first, uint64_t last, bool wide)
{
    for (uint64_t i = first; i <= last; i++) {
        struct exitbus_event event = event_make(i, wide);
        uint64_t seq;
        must_equal(exitbus_publish(bus, &event, &seq), 0);
        must_equal(seq, i);
    }
}

/* The next events, which must be those that follow on the ones received before. */
static ssize_t receive_more(struct subscriber *subscriber)
{
    struct exitbus_event events[32];
    ssize_t count = way_receive(subscriber->way, subscriber->subscription, events, 32);
    uint64_t seq = atomic_load(&subscriber->received);
    for (ssize_t i = 0; i < count; i++) {
        struct exitbus_event expected = event_make(++seq, subscriber->wide);
        must_equal(events[i].seq, seq);
        must(event_carries(&events[i], &expected));
    }
    atomic_store(&subscriber->received, seq);
    return count;
}

static void *receive_until_closed(void *argument)
{
    struct subscriber *subscriber = argument;
    ssize_t count;
    while ((count = receive_more(subscriber)) > 0)
        continue;
    must_equal(count, -ESHUTDOWN);
    must_equal(exitbus_subscription_unref(subscriber->subscription), 0);
    return NULL;
}

#define OTHERS 2

struct fixture {
    struct exitbus *bus;
    struct subscriber slow;
    struct subscriber others[OTHERS];
    pthread_t threads[OTHERS];
};

static void fixture_begin(struct fixture *fixture, enum way way, bool wide)
{
    fixture->bus = bus_new();
    for (size_t i = 0; i < 1 + OTHERS; i++) {
        struct subscriber *subscriber = i == 0 ? &fixture->slow : &fixture->others[i - 1];
        *subscriber = (struct subscriber){.way = way, .wide = wide};
        subscriber->subscription = subscribe(fixture->bus, exitbus_topic_all());
        way_prepare(way, subscriber->subscription);
    }
    for (size_t i = 0; i < OTHERS; i++) {
        check_ok(exitbus_subscription_ref(fixture->others[i].subscription));
        fixture->threads[i] = thread_start(receive_until_closed, &fixture->others[i]);
    }
}

static void others_end(struct fixture *fixture)
{
    for (size_t i = 0; i < OTHERS; i++) {
        check_ok(exitbus_unsubscribe(fixture->others[i].subscription));
        thread_join(fixture->threads[i]);
    }
}

/* The slow one receives nothing: each stage ends, and the others have it all, while it has none. */
static void publish_all(struct fixture *fixture, uint64_t events)
{
    for (uint64_t stage = 0; stage < STAGES; stage++) {
        uint64_t first = stage * events / STAGES + 1, last = (stage + 1) * events / STAGES;
        publish_stage(fixture->bus, first, last, fixture->slow.wide);
        check_equal(exitbus_subscription_pending(fixture->slow.subscription), last);
        for (size_t i = 0; i < OTHERS; i++)
            await(atomic_load(&fixture->others[i].received) == last);
    }
    check_equal(atomic_load(&fixture->slow.received), 0);
    check_equal(stats_of(fixture->bus).delivered, OTHERS * events);
}

static void run(enum way way, bool wide, uint64_t events)
{
    static struct fixture fixture;
    fixture_begin(&fixture, way, wide);
    uint64_t before = stats_of(fixture.bus).bytes;
    publish_all(&fixture, events);
    check_equal(stats_of(fixture.bus).published, events);
    check(stats_of(fixture.bus).bytes >= before + events * 64);

    while (atomic_load(&fixture.slow.received) < events)
        check(receive_more(&fixture.slow) > 0);
    must_be_empty(fixture.slow.subscription);
    await(stats_of(fixture.bus).bytes <= before + KEPT + (1 + OTHERS) * KEPT_BY_EACH);

    others_end(&fixture);
    check_equal(stats_of(fixture.bus).delivered, (1 + OTHERS) * events);
    check_equal(stats_of(fixture.bus).dropped, 0);
    check_ok(exitbus_unsubscribe(fixture.slow.subscription));
    await(stats_of(fixture.bus).bytes <= before + KEPT);
    check_ok(exitbus_destroy(fixture.bus));
}

TEST_EACH_WAY(monitor_backpressure, a_million_events_wait_for_a_slow_subscriber)
{
    run(way, false, EVENTS);
}

TEST_EACH_WAY(monitor_backpressure, wide_events_wait_for_a_slow_subscriber)
{
    run(way, true, EVENTS / 5);
}

/* The slow one goes without having received anything: its events go with it, and their memory. */
TEST_EACH_WAY(monitor_backpressure, a_slow_subscriber_that_leaves_gives_its_memory_back)
{
    static struct fixture fixture;
    fixture_begin(&fixture, way, false);
    uint64_t before = stats_of(fixture.bus).bytes;
    publish_all(&fixture, EVENTS / 5);
    check_ok(exitbus_unsubscribe(fixture.slow.subscription));
    check_equal(stats_of(fixture.bus).dropped, EVENTS / 5);
    await(stats_of(fixture.bus).bytes <= before + KEPT + OTHERS * KEPT_BY_EACH);
    publish_stage(fixture.bus, EVENTS / 5 + 1, EVENTS / 5 + 1000, false);
    for (size_t i = 0; i < OTHERS; i++)
        await(atomic_load(&fixture.others[i].received) == EVENTS / 5 + 1000);
    others_end(&fixture);
    check_ok(exitbus_destroy(fixture.bus));
}

/*
 * Backlogs cost a publish nothing: it goes through the same steps, whether the queue that it
 * appends to is empty or holds all that was published before.
 */
static _Atomic uint64_t steps;

static void count_steps(enum probe step)
{
    if (step <= PROBE_PUBLISH_DONE && step != PROBE_APPEND_SEGMENT_LINKED &&
        step != PROBE_APPEND_TAIL_MOVED) /* which come with every 64th event */
        atomic_fetch_add(&steps, 1);
}

static uint64_t steps_of_publishing(struct exitbus *bus, uint64_t first, uint64_t last)
{
    atomic_store(&steps, 0);
    exitbus_probe_hook = count_steps;
    publish_stage(bus, first, last, false);
    exitbus_probe_hook = NULL;
    return atomic_load(&steps);
}

TEST(monitor_backpressure, a_backlog_adds_no_step_to_a_publish)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *slow = subscribe(bus, exitbus_topic_all());
    uint64_t with_none = steps_of_publishing(bus, 1, 100);
    publish_stage(bus, 101, EVENTS / 5, false);
    uint64_t with_many = steps_of_publishing(bus, EVENTS / 5 + 1, EVENTS / 5 + 100);
    check(with_none >= 100);
    check_equal(with_many, with_none);
    check_ok(exitbus_unsubscribe(slow));
    check_ok(exitbus_destroy(bus));
}
