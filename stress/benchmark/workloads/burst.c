/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * burst: one thread publishes a thousand events, then receives them from every subscription. What
 * the instructions cost, without another core. With --threads so many threads do that at a time,
 * each with a bus of its own: what the buses share shows.
 */
#include "workloads.h"

#include <stdio.h>
#include <stdlib.h>

#define EVENTS 1000u
#define SLICE_MS 60
#define WARM_UP_PART 4

struct burster {
    _Alignas(2 * CACHE_LINE) const struct peer *peer;
    unsigned subscriptions, core;
    pthread_barrier_t *warm;
    pthread_t thread;
    double publish_ns, receive_ns; /* of an event */
};

static void *burst(void *argument)
{
    struct burster *own = argument;
    const struct peer *peer = own->peer;
    const unsigned subscriptions = own->subscriptions;
    const struct shape shape = {
        .subscriptions = subscriptions, .producers = 1, .consumers = 1, .pending = EVENTS};
    machine_pin(own->core);
    void *bus = peer->create(&shape), *producer = peer->producer(bus);
    void *consumer = peer->consumer(bus);
    uint64_t publish_ns = 0, receive_ns = 0, bursts = 0;
    uint64_t slice = bench_slice(SLICE_MS);
    for (uint64_t warm = now_ns() + slice / WARM_UP_PART; now_ns() < warm;) {
        peer->publish(producer, 1, EVENTS);
        receive_burst("burst", peer, consumer, subscriptions, EVENTS);
    }
    pthread_barrier_wait(own->warm);
    for (uint64_t until = now_ns() + slice; now_ns() < until; bursts++) {
        uint64_t begin = now_ns();
        peer->publish(producer, 1, EVENTS);
        uint64_t between = now_ns();
        receive_burst("burst", peer, consumer, subscriptions, EVENTS);
        receive_ns += now_ns() - between;
        publish_ns += between - begin;
    }
    peer->consumer_end(consumer);
    peer->producer_end(producer);
    peer->destroy(bus);
    own->publish_ns = (double)publish_ns / (double)bursts / EVENTS;
    own->receive_ns = (double)receive_ns / (double)bursts / EVENTS;
    return NULL;
}

/* All threads at a time, of which the caller is one; the mean of what they measured. */
static void measure(const struct peer *peer, unsigned subscriptions, const char *parameter)
{
    const unsigned count = bench.threads ? bench.threads : 1;
    struct burster *bursters = peer_memory(count * sizeof *bursters);
    pthread_barrier_t warm;
    double published = 0, received = 0;
    if (pthread_barrier_init(&warm, NULL, count) != 0)
        bench_die("cannot make a barrier");
    for (unsigned i = 0; i < count; i++) {
        bursters[i] = (struct burster){
            .peer = peer, .subscriptions = subscriptions, .core = i, .warm = &warm};
        if (i > 0)
            start_thread(&bursters[i].thread, burst, &bursters[i]);
    }
    burst(&bursters[0]);
    machine_unpin();
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            pthread_join(bursters[i].thread, NULL);
        published += bursters[i].publish_ns / count;
        received += bursters[i].receive_ns / count;
    }
    pthread_barrier_destroy(&warm);
    free(bursters);
    result_add("burst", parameter, peer->name, "publish", "ns", published);
    result_add("burst", parameter, peer->name, "receive", "ns", received);
    result_add("burst", parameter, peer->name, "sum", "ns", published + received);
}

static void run(void)
{
    static const unsigned subscriptions[] = {1, 16};
    for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++)
        for (unsigned round = 0; round < bench.rounds; round++)
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                char variant[16], parameter[PARAMETER_SIZE];
                snprintf(variant, sizeof variant, "N=%u", subscriptions[n]);
                parameter_text(parameter, variant);
                if (bench_wants(peer->name))
                    measure(peer, subscriptions[n], parameter);
            }
    if (bench.threads)
        result_note("burst", "threads: each has a bus of its own; the mean of them");
    result_note("burst", "per event, of bursts of %u, to and from all N subscriptions", EVENTS);
}

extern const struct workload burst_workload;
const struct workload burst_workload = {
    "burst", "One thread: 1,000 events in, 1,000 events out of each of N subscriptions.", run};
