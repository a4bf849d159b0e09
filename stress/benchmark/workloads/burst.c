/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * burst: one thread publishes a thousand events, then receives them from every subscription. What
 * the instructions cost, without another core.
 */
#include "workloads.h"

#include <stdio.h>

#define EVENTS 1000u
#define SLICE_MS 60
#define WARM_UP_PART 4

static void measure(const struct peer *peer, unsigned subscriptions, const char *parameter)
{
    const struct shape shape = {
        .subscriptions = subscriptions, .producers = 1, .consumers = 1, .pending = EVENTS};
    void *bus = peer->create(&shape), *producer = peer->producer(bus);
    void *consumer = peer->consumer(bus);
    uint64_t publish_ns = 0, receive_ns = 0, bursts = 0;
    uint64_t slice = bench_slice(SLICE_MS);
    for (uint64_t warm = now_ns() + slice / WARM_UP_PART; now_ns() < warm;) {
        peer->publish(producer, 1, EVENTS);
        receive_burst("burst", peer, consumer, subscriptions, EVENTS);
    }
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
    double events = (double)bursts * EVENTS;
    double published = (double)publish_ns / events, received = (double)receive_ns / events;
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
                char parameter[16];
                snprintf(parameter, sizeof parameter, "N=%u", subscriptions[n]);
                if (bench_wants(peer->name)) {
                    machine_pin(0);
                    measure(peer, subscriptions[n], parameter);
                    machine_unpin();
                }
            }
    result_note("burst", "per event, of bursts of %u, to and from all N subscriptions", EVENTS);
}

extern const struct workload burst_workload;
const struct workload burst_workload = {
    "burst", "One thread: 1,000 events in, 1,000 events out of each of N subscriptions.", run};
