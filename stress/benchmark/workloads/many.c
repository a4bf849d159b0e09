/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * many: N subscriptions to one broad topic. What a publish takes, and what an unsubscribe takes,
 * must not grow with N. A steady subscription stands beside the N, so that the last unsubscribe
 * does not take down what all of them share. All events are received, and all subscriptions are
 * made, outside of the clock.
 *
 * To receive on 100,000 subscriptions takes their memory through the caches of the core that
 * publishes next, which a program's receivers, on cores of their own, do not. So as much memory is
 * walked over before each burst, by receives or without, whatever N is: all publish from the same
 * cold caches.
 */
#include "../must.h"
#include "workloads.h"

#include <stdio.h>
#include <stdlib.h>

#define SLICE_MS 250
#define BURST RECEIVE_BATCH /* events between two times that all is received */
/* Unsubscribed between two times that as many subscribe again. At most a tenth, so that N holds. */
#define LEAVE_MOST 1000u
#define LEAVE_PART 10u
#define CLOCK_CALLS 10000u
/* Bursts after which the log goes over memory that it has used before. */
#define WARM_UP 300
/* What a receive walks over: two lines of the subscription; and those of the largest N do. */
#define WALKED_BYTES ((size_t)2 * 64)
#define CACHE_BYTES (WALKED_BYTES * 100000)

struct crowd {
    struct exitbus *bus;
    volatile char *memory; /* CACHE_BYTES */
    unsigned count;
    struct exitbus_subscription **subscriptions; /* `count`, then the steady one */
};

/* Of one call of now_ns(): with N = 1 the clock is read for each unsubscribe. */
static double clock_ns(void)
{
    uint64_t begin = now_ns();
    for (unsigned i = 1; i < CLOCK_CALLS; i++)
        now_ns();
    return (double)(now_ns() - begin) / CLOCK_CALLS;
}

static void join(struct crowd *crowd, unsigned place)
{
    must(exitbus_subscribe(crowd->bus, exitbus_topic_any_pid(), 0, &crowd->subscriptions[place]),
         "exitbus_subscribe");
}

static void leave(struct crowd *crowd, unsigned place)
{
    must(exitbus_unsubscribe(crowd->subscriptions[place]), "exitbus_unsubscribe");
}

/* On those from place `first` on. */
static void receive_all(const struct crowd *crowd, unsigned first)
{
    struct exitbus_event events[BURST];
    for (unsigned i = first; i <= crowd->count; i++) {
        ssize_t taken;
        size_t all = 0;
        while ((taken = exitbus_receive_batch(crowd->subscriptions[i], events, BURST, 0)) > 0)
            all += (size_t)taken;
        if (all != BURST)
            bench_die("many: lost an event");
    }
}

/* Publish a burst, and receive it everywhere. Returns the nanoseconds of the publishes. */
static uint64_t burst(const struct crowd *crowd, unsigned first)
{
    const struct exitbus_event event = {
        .kind = EXITBUS_EVENT_PID, .pid = 1, .monotonic_ns = 1, .realtime_ns = 1};
    for (size_t i = WALKED_BYTES * crowd->count; i < CACHE_BYTES; i += 64)
        crowd->memory[i]++;
    uint64_t begin = now_ns();
    for (unsigned i = 0; i < BURST; i++)
        must(exitbus_publish(crowd->bus, &event, NULL), "exitbus_publish");
    uint64_t took = now_ns() - begin;
    receive_all(crowd, first);
    return took;
}

static double publish(const struct crowd *crowd)
{
    uint64_t spent = 0, bursts = 0, until = now_ns() + bench_slice(SLICE_MS);
    burst(crowd, 0); /* every subscription gets what memory it needs */
    do {
        spent += burst(crowd, 0);
        bursts++;
    } while (now_ns() < until);
    return ((double)spent / (double)bursts - clock_ns()) / BURST;
}

/* The subscriptions leave in turn: each has been there for as long as the others. */
static double unsubscribe(struct crowd *crowd)
{
    unsigned part = crowd->count / LEAVE_PART;
    unsigned leaving = part < 1 ? 1 : part > LEAVE_MOST ? LEAVE_MOST : part;
    uint64_t spent = 0, times = 0, until = now_ns() + bench_slice(SLICE_MS);
    for (unsigned first = 0; times == 0 || now_ns() < until; times++) {
        uint64_t begin = now_ns();
        for (unsigned i = first; i < first + leaving; i++)
            leave(crowd, i);
        spent += now_ns() - begin;
        for (unsigned i = first; i < first + leaving; i++)
            join(crowd, i);
        first = (first + leaving) % crowd->count;
    }
    return ((double)spent / (double)times - clock_ns()) / leaving;
}

static void measure(unsigned subscriptions)
{
    struct crowd crowd = {.count = subscriptions};
    char parameter[16];
    snprintf(parameter, sizeof parameter, "%u", subscriptions);
    must(exitbus_create(&crowd.bus, NULL), "exitbus_create");
    crowd.subscriptions = peer_memory((subscriptions + 1) * sizeof(void *));
    crowd.memory = peer_memory(CACHE_BYTES);
    for (size_t i = 0; i < CACHE_BYTES; i += 64)
        crowd.memory[i] = 0;
    join(&crowd, subscriptions);
    for (unsigned i = 0; i < WARM_UP; i++) /* with all of them that would take long */
        burst(&crowd, subscriptions);
    for (unsigned i = 0; i < subscriptions; i++)
        join(&crowd, i);
    result_add("many", parameter, EXITBUS, "publish", "ns", publish(&crowd));
    result_add("many", parameter, EXITBUS, "unsubscribe", "ns", unsubscribe(&crowd));
    for (unsigned i = 0; i <= subscriptions; i++)
        leave(&crowd, i);
    must(exitbus_destroy(crowd.bus), "exitbus_destroy");
    free(crowd.subscriptions);
    free((void *)crowd.memory);
}

static void run(void)
{
    static const unsigned subscriptions[] = {1, 1000, 10000, 100000};
    machine_pin(0);
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++)
            measure(subscriptions[n]);
    machine_unpin();
    result_note("many", "publish: bursts of %u, from cold caches; received outside of the clock",
                BURST);
    result_note("many", "unsubscribe: at most %u and a tenth of the N, which then subscribe again",
                LEAVE_MOST);
    result_note("many", "queues have no list of subscriptions to leave: only exitbus is here");
}

extern const struct workload many_workload;
const struct workload many_workload = {
    "many", "N subscriptions to all processes: time of a publish, and of an unsubscribe.", run};
