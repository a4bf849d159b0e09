/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * alternate: one thread publishes a thousand events, then another on another core receives them
 * from every subscription; the two take turns. What a burst costs whose lines lie in another core's
 * cache: the usual life of a bus.
 */
#include "workloads.h"

#include <ck_pr.h>
#include <stdio.h>

#define EVENTS 1000u
#define SLICE_MS 70
#define WARM_UP_PART 4

struct scene {
    const struct peer *peer;
    void *bus;
    unsigned subscriptions;
    uint64_t receive_ns; /* by the receiver, in its turn */
    _Alignas(2 * CACHE_LINE) _Atomic enum { PUBLISHER, RECEIVER, OVER } turn;
};

/* Give the turn away. */
static void turn_pass(struct scene *scene, int to)
{
    atomic_store_explicit(&scene->turn, to, memory_order_release);
}

/* Wait until it is not another's turn. */
static int turn_await(struct scene *scene, int others)
{
    int turn;
    while ((turn = (int)atomic_load_explicit(&scene->turn, memory_order_acquire)) == others)
        ck_pr_stall();
    return turn;
}

static void *receive(void *argument)
{
    struct scene *scene = argument;
    machine_pin(1);
    void *consumer = scene->peer->consumer(scene->bus);
    while (turn_await(scene, PUBLISHER) != OVER) {
        uint64_t begin = now_ns();
        receive_burst("alternate", scene->peer, consumer, scene->subscriptions, EVENTS);
        scene->receive_ns += now_ns() - begin;
        turn_pass(scene, PUBLISHER);
    }
    scene->peer->consumer_end(consumer);
    return NULL;
}

/* One burst, there and back. Returns the nanoseconds of its publishes. */
static uint64_t burst(struct scene *scene, void *producer)
{
    uint64_t begin = now_ns();
    scene->peer->publish(producer, 1, EVENTS);
    uint64_t took = now_ns() - begin;
    turn_pass(scene, RECEIVER);
    turn_await(scene, RECEIVER);
    return took;
}

static void measure(const struct peer *peer, unsigned subscriptions, const char *parameter)
{
    const struct shape shape = {
        .subscriptions = subscriptions, .producers = 1, .consumers = 1, .pending = EVENTS};
    struct scene scene = {
        .peer = peer, .bus = peer->create(&shape), .subscriptions = subscriptions};
    machine_pin(0);
    void *producer = peer->producer(scene.bus);
    pthread_t thread;
    start_thread(&thread, receive, &scene);
    uint64_t publish_ns = 0, bursts = 0, slice = bench_slice(SLICE_MS);
    for (uint64_t warm = now_ns() + slice / WARM_UP_PART; now_ns() < warm;)
        burst(&scene, producer);
    scene.receive_ns = 0;
    for (uint64_t until = now_ns() + slice; now_ns() < until; bursts++)
        publish_ns += burst(&scene, producer);
    turn_pass(&scene, OVER);
    pthread_join(thread, NULL);
    machine_unpin();
    peer->producer_end(producer);
    peer->destroy(scene.bus);
    double events = (double)bursts * EVENTS;
    result_add("alternate", parameter, peer->name, "publish", "ns", (double)publish_ns / events);
    result_add("alternate", parameter, peer->name, "receive", "ns",
               (double)scene.receive_ns / events);
}

static void run(void)
{
    static const unsigned subscriptions[] = {1, 16};
    if (machine_cores() < 2) {
        result_note("alternate", "needs two cores");
        return;
    }
    for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++)
        for (unsigned round = 0; round < bench.rounds; round++)
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                char parameter[16];
                snprintf(parameter, sizeof parameter, "N=%u", subscriptions[n]);
                if (bench_wants(peer->name))
                    measure(peer, subscriptions[n], parameter);
            }
    result_note("alternate", "per event, of bursts of %u, to and from all N subscriptions", EVENTS);
}

extern const struct workload alternate_workload;
const struct workload alternate_workload = {
    "alternate",
    "Two threads in turns: 1,000 events in, and 1,000 events out of each of N subscriptions on "
    "another core.",
    run};
