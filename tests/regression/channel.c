/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subscriptions to one broad topic or one container, which share a channel: what one of them has,
 * lacks or breaks must not reach the others.
 */
#include "base/sys.h"
#include "bus/bus.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/halt.h"
#include "support/harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct channel *channel_of_all(struct exitbus *bus)
{
    return load_acquire(&bus->core.registry.all_channel);
}

static bool readable(int fd)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static void drain(struct exitbus_subscription *sub)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(sub, &event, 0)) == 0)
        continue;
    must_equal(result, -EAGAIN);
}

/* --------------------------------------------------------------------------- begin and end */

/*
 * A publish has returned, but its event lacks memory. A subscription that comes then does not get
 * it, and can't be made before it has found its place.
 */
TEST(channel, no_event_from_before_although_it_was_stalled)
{
    struct account account;
    account_init(&account);
    struct exitbus_options options = {.allocator = &account.allocator};
    struct exitbus *bus;
    struct exitbus_subscription *fresh;
    check_ok(exitbus_create(&bus, &options));
    struct exitbus_subscription *old = subscribe(bus, exitbus_topic_all());
    struct exitbus_event event = pid_event(1);
    uint64_t seq = 0, last = 0;
    check_ok(exitbus_publish(bus, &event, &seq));
    atomic_store(&account.refuse, true);
    while (exitbus_publish(bus, &event, &seq) == 0)
        last = seq;
    check(last > 1);
    check_equal(exitbus_subscribe(bus, exitbus_topic_all(), 0, &fresh), -ENOMEM);
    atomic_store(&account.refuse, false);
    check_ok(exitbus_subscribe(bus, exitbus_topic_all(), 0, &fresh));
    check_ok(exitbus_publish(bus, &event, &seq));
    check_ok(exitbus_receive(fresh, &event, 0));
    check_equal(event.seq, seq);
    check_equal(exitbus_receive(fresh, &event, 0), -EAGAIN);
    check_ok(exitbus_unsubscribe(fresh));
    check_ok(exitbus_unsubscribe(old));
    check_ok(exitbus_destroy(bus));
    account_await_empty(&account);
}

struct publisher {
    struct exitbus *bus;
    struct halt halt;
};

static void *publish_and_stop(void *argument)
{
    struct publisher *publisher = argument;
    halt_begin(&publisher->halt);
    must_equal(exitbus_publish_pid(publisher->bus, 7, 0), 0);
    halt_end(&publisher->halt);
    return NULL;
}

/*
 * A publisher is stopped with its turn open, and nothing delivered. The event came before a
 * subscription with a queue that is made then. So it came before one with a cursor that is made
 * behind that: else no order of the calls would explain what they receive.
 */
TEST(channel, no_event_that_came_before_an_earlier_subscription)
{
    struct publisher publisher = {.bus = bus_new()};
    struct exitbus_event event;
    struct exitbus_subscription *old = subscribe(publisher.bus, exitbus_topic_all());
    halt_hook_set();
    halt_init(&publisher.halt, PROBE_PUBLISH_ORDERED, 0);
    pthread_t thread = thread_start(publish_and_stop, &publisher);
    check(halt_await(&publisher.halt));
    struct exitbus_subscription *first = subscribe(publisher.bus, exitbus_topic_pid(7));
    struct exitbus_subscription *second = subscribe(publisher.bus, exitbus_topic_all());
    halt_release(&publisher.halt);
    thread_join(thread);
    check_equal(exitbus_receive(first, &event, 0), -EAGAIN);
    check_equal(exitbus_receive(second, &event, 0), -EAGAIN);
    check_ok(exitbus_receive(old, &event, 0));
    check_ok(exitbus_unsubscribe(first));
    check_ok(exitbus_unsubscribe(second));
    check_ok(exitbus_unsubscribe(old));
    check_ok(exitbus_destroy(publisher.bus));
}

/* The channel goes with its last subscription, and its memory with it; then there is another. */
TEST(channel, ends_with_the_last_and_begins_again)
{
    struct exitbus *bus = bus_new();
    struct exitbus_event event;
    for (int round = 0; round < 100; round++) {
        check(!channel_of_all(bus));
        struct exitbus_subscription *subs[3];
        check_ok(exitbus_publish_pid(bus, 1, 0));
        for (int i = 0; i < 3; i++)
            subs[i] = subscribe(bus, exitbus_topic_all());
        for (int i = 0; i < 200; i++)
            check_ok(exitbus_publish_pid(bus, 1, 0));
        for (int i = 0; i < 3; i++) {
            check_ok(exitbus_receive(subs[i], &event, 0));
            check_equal(event.seq, (uint64_t)(round + 1) + 200u * (uint64_t)round + 1);
            check(channel_of_all(bus) != NULL);
            check_ok(exitbus_unsubscribe(subs[i]));
        }
    }
    check_ok(exitbus_destroy(bus));
}

/* An unsubscribed subscription that somebody still refers to holds back no event. */
TEST(channel, a_reference_keeps_no_backlog)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *held = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *other = subscribe(bus, exitbus_topic_all());
    check_ok(exitbus_subscription_ref(held));
    for (int i = 0; i < 100000; i++)
        check_ok(exitbus_publish_pid(bus, 1, 0));
    drain(other);
    check(stats_of(bus).bytes > (size_t)6 << 20);
    check_ok(exitbus_unsubscribe(held));
    await(stats_of(bus).bytes < (size_t)2 << 20);
    check_ok(exitbus_subscription_unref(held));
    check_ok(exitbus_unsubscribe(other));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------ containers */

static void publish_exec(struct exitbus *bus, const char *container)
{
    struct exitbus_event event = exec_event(container, "e");
    must_equal(exitbus_publish(bus, &event, NULL), 0);
}

/* What is undelivered takes the same memory, whatever the number of subscriptions is. */
TEST(channel, a_container_has_one_log)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *subs[64];
    struct exitbus_event event;
    for (int i = 0; i < 64; i++)
        subs[i] = subscribe(bus, exitbus_topic_container("c"));
    size_t before = stats_of(bus).bytes;
    for (int i = 0; i < 100000; i++)
        publish_exec(bus, "c");
    check(stats_of(bus).bytes - before < (size_t)200 * 100000);
    for (int i = 0; i < 64; i++) {
        check_ok(exitbus_receive(subs[i], &event, 0));
        check_equal(event.seq, 1);
        check_ok(exitbus_unsubscribe(subs[i]));
    }
    check_ok(exitbus_destroy(bus));
}

static registry_list *channels_of(struct exitbus *bus, const char *id)
{
    struct registry *registry = &bus->core.registry;
    return registry_channels(registry, topic_hash_container(&registry->key, id, strlen(id)));
}

static _Atomic unsigned arrived;

static void *subscribe_at_once(void *bus)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) % 4 != 0)
        continue;
    return subscribe(bus, exitbus_topic_container("c"));
}

/* Subscribes at once make one channel between them. */
TEST(channel, a_container_has_one_channel)
{
    struct exitbus *bus = bus_new();
    for (int round = 0; round < scaled(2000); round++) {
        pthread_t threads[4];
        void *subs[4];
        unsigned channels = 0;
        for (int i = 0; i < 4; i++)
            threads[i] = thread_start(subscribe_at_once, bus);
        for (int i = 0; i < 4; i++)
            must_equal(pthread_join(threads[i], &subs[i]), 0);
        reclaim_enter();
        struct registry_node *node = registry_first(channels_of(bus, "c"));
        for (; node; node = registry_next(node))
            channels++;
        reclaim_leave();
        check_equal(channels, 1);
        for (int i = 0; i < 4; i++)
            check_ok(exitbus_unsubscribe(subs[i]));
    }
    check_ok(exitbus_destroy(bus));
}

/* Containers whose channels are in one list get no events of each other; all of them go. */
TEST(channel, containers_in_one_list)
{
    struct exitbus *bus = bus_new();
    struct exitbus_event event;
    char other[EXITBUS_ID_MAX + 1];
    int number = 0;
    do
        snprintf(other, sizeof other, "%d", number++);
    while (channels_of(bus, other) != channels_of(bus, "c"));
    for (int round = 0; round < 10; round++) {
        struct exitbus_subscription *first = subscribe(bus, exitbus_topic_container("c"));
        struct exitbus_subscription *second = subscribe(bus, exitbus_topic_container(other));
        struct exitbus_subscription *third = subscribe(bus, exitbus_topic_container("c"));
        struct exitbus_subscription *once =
            subscribe_flags(bus, exitbus_topic_container(other), EXITBUS_SUBSCRIBE_ONE_SHOT);
        publish_exec(bus, "c");
        publish_exec(bus, "d");
        publish_exec(bus, other);
        for (int i = 0; i < 2; i++) {
            check_ok(exitbus_receive(i == 0 ? first : third, &event, 0));
            check(strcmp(event.container_id, "c") == 0);
            check_equal(exitbus_receive(i == 0 ? first : third, &event, 0), -EAGAIN);
        }
        check_ok(exitbus_unsubscribe(first));
        publish_exec(bus, "c");
        check_ok(exitbus_receive(third, &event, 0));
        check_ok(exitbus_unsubscribe(third));
        check_ok(exitbus_receive(once, &event, 0));
        check(strcmp(event.container_id, other) == 0);
        check_ok(exitbus_receive(second, &event, 0));
        check(strcmp(event.container_id, other) == 0);
        check_equal(exitbus_receive(second, &event, 0), -EAGAIN);
        check_ok(exitbus_unsubscribe(second));
        check_ok(exitbus_unsubscribe(once));
        check(!registry_first(channels_of(bus, "c")));
    }
    check_ok(exitbus_destroy(bus));
}

/* ---------------------------------------------------------------------------------- waking */

static _Thread_local unsigned *woken; /* of this thread: times that it woke */

static void count_woken(enum probe place)
{
    if (place == PROBE_RECEIVE_WOKEN && woken)
        __atomic_add_fetch(woken, 1, __ATOMIC_RELAXED);
}

struct sleeper {
    struct exitbus_subscription *subscription;
    unsigned woken;
    int result;
    pthread_t thread;
};

static void *sleep_once(void *argument)
{
    struct sleeper *sleeper = argument;
    struct exitbus_event event;
    woken = &sleeper->woken;
    sleeper->result = exitbus_receive(sleeper->subscription, &event, -1);
    exitbus_subscription_unref(sleeper->subscription);
    return NULL;
}

#define SLEEPERS 8

/* A close wakes its own receivers, and no neighbour's; a publish then wakes those. */
TEST(channel, closing_one_wakes_no_other)
{
    struct exitbus *bus = bus_new();
    struct sleeper sleepers[SLEEPERS] = {0};
    __atomic_store_n(&exitbus_probe_hook, count_woken, __ATOMIC_RELEASE);
    for (int i = 0; i < SLEEPERS; i++) {
        sleepers[i].subscription = subscribe(bus, exitbus_topic_all());
        check_ok(exitbus_subscription_ref(sleepers[i].subscription));
        sleepers[i].thread = thread_start(sleep_once, &sleepers[i]);
    }
    await(stats_of(bus).sleeping_receivers == SLEEPERS);
    for (int i = 0; i < SLEEPERS / 2; i++) {
        check_ok(exitbus_unsubscribe(sleepers[i].subscription));
        thread_join(sleepers[i].thread);
        check_equal(sleepers[i].result, -ESHUTDOWN);
    }
#ifndef __SANITIZE_THREAD__ /* which cuts sleeps into slices: sys.c */
    /* Eight blocks in a row have eight different bits. */
    for (int i = SLEEPERS / 2; i < SLEEPERS; i++)
        check_equal(__atomic_load_n(&sleepers[i].woken, __ATOMIC_RELAXED), 0);
#endif
    check_ok(exitbus_publish_pid(bus, 1, 0));
    for (int i = SLEEPERS / 2; i < SLEEPERS; i++) {
        thread_join(sleepers[i].thread);
        check_equal(sleepers[i].result, 0);
        check_ok(exitbus_unsubscribe(sleepers[i].subscription));
    }
    check_ok(exitbus_destroy(bus));
}

/* Epochs stay comparable, however many closes there are without a publish. */
TEST(channel, closes_without_a_publish_do_not_wear_epochs_out)
{
    struct exitbus *bus = bus_new();
    struct sleeper sleepers[3] = {0};
    struct exitbus_subscription *by_fd = subscribe(bus, exitbus_topic_all());
    int fd = exitbus_subscription_fd(by_fd);
    check(fd >= 0 && !readable(fd));
    struct channel *channel = channel_of_all(bus);
    for (int i = 0; i < 3; i++) {
        sleepers[i].subscription = subscribe(bus, exitbus_topic_all());
        check_ok(exitbus_subscription_ref(sleepers[i].subscription));
        sleepers[i].thread = thread_start(sleep_once, &sleepers[i]);
        await(stats_of(bus).sleeping_receivers == (unsigned)i + 1);
        /* As if there had been that many. */
        fetch_add_relaxed(&channel->epoch, (uint32_t)1 << 30);
    }
    for (int i = 0; i < 2; i++) {
        check_ok(exitbus_unsubscribe(sleepers[i].subscription));
        thread_join(sleepers[i].thread);
        check_equal(sleepers[i].result, -ESHUTDOWN);
    }
    check_ok(exitbus_publish_pid(bus, 1, 0));
    thread_join(sleepers[2].thread);
    check_equal(sleepers[2].result, 0);
    check(readable(fd));
    drain(by_fd);
    check_ok(exitbus_publish_pid(bus, 1, 0));
    check(readable(fd));
    check_ok(exitbus_unsubscribe(sleepers[2].subscription));
    check_ok(exitbus_unsubscribe(by_fd));
    check_ok(exitbus_destroy(bus));
}

static _Atomic unsigned futex_calls;

static int count_futex(long number)
{
    if (number == SYS_futex)
        atomic_fetch_add(&futex_calls, 1);
    return 0;
}

/* A host has closed one descriptor of ours: the others work on, and epochs are noted as woken. */
TEST(channel, a_descriptor_that_cannot_be_written)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *broken = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *sound = subscribe(bus, exitbus_topic_all());
    int fd = exitbus_subscription_fd(broken), other = exitbus_subscription_fd(sound);
    check(fd >= 0 && other >= 0);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    must_equal(dup2(null, fd), fd);
    struct channel *channel = channel_of_all(bus);
    __atomic_store_n(&exitbus_test_syscall, count_futex, __ATOMIC_RELEASE);
    for (int i = 0; i < 1000; i++) {
        check_ok(exitbus_publish_pid(bus, 1, 0));
        if (i % 10 == 0) {
            check(readable(other));
            drain(sound);
            check(!readable(other));
        }
    }
    __atomic_store_n(&exitbus_test_syscall, NULL, __ATOMIC_RELEASE);
    check(load_relaxed(&channel->epoch) - load_relaxed(&channel->wake.woken_epoch) <= 1);
    /* No thread sleeps on the channel, in 100 rounds. Only the worker may be woken now and then. */
    check(atomic_load(&futex_calls) < 50);
    drain(broken);
    check_ok(exitbus_unsubscribe(broken));
    check_ok(exitbus_unsubscribe(sound));
    close(null);
    check_ok(exitbus_destroy(bus));
}
