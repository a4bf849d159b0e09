/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fanout: each event to N subscriptions, all drained by one thread on another core. fanout2: by two
 * threads, half of them each, of which one shares the producer's core if there are but two. With
 * --threads fanout has producers beside that one drainer, and fanout2 drainers beside the producer,
 * until there are so many threads. The window keeps what is undelivered within caches of usual
 * size: 65,536 events of 64 bytes.
 */
#include "stream.h"

#include <stdio.h>

#define UNDELIVERED_MAX 65536u
#define WINDOW_MAX 4096u

static size_t window_of(unsigned subscriptions)
{
    return UNDELIVERED_MAX / subscriptions < WINDOW_MAX ? UNDELIVERED_MAX / subscriptions
                                                        : WINDOW_MAX;
}

/* Why this peer cannot have so many threads; NULL: it can. */
static const char *obstacle(const struct peer *peer, unsigned producers, unsigned consumers)
{
    if (consumers > 1 && peer->features & PEER_ONE_CONSUMER)
        return "one thread has all receivers";
    return producers > 1 && peer->features & PEER_ONE_TO_ONE ? "one producer, one consumer" : NULL;
}

static void measure_all(const char *name, unsigned producers, unsigned consumers, unsigned least)
{
    static const unsigned subscriptions[] = {1, 4, 16, 64, 256, 1024};
    for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++)
        for (unsigned round = 0; round < bench.rounds && subscriptions[n] >= least; round++)
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                const struct stream_plan plan = {.buses = 1,
                                                 .producers = producers,
                                                 .consumers = consumers,
                                                 .subscriptions = subscriptions[n],
                                                 .window = window_of(subscriptions[n]),
                                                 .slice_ms = 120};
                char variant[16], parameter[PARAMETER_SIZE];
                snprintf(variant, sizeof variant, "N=%u", subscriptions[n]);
                parameter_text(parameter, variant);
                if (bench_wants(peer->name) && !obstacle(peer, producers, consumers))
                    result_add(name, parameter, peer->name, "delivery", "ns",
                               stream_measure(peer, &plan) / subscriptions[n]);
            }
    for (size_t i = 0; i < peer_count; i++) {
        const char *why = obstacle(peers[i], producers, consumers);
        if (why && bench_wants(peers[i]->name))
            result_leave_out(name, peers[i]->name, why);
    }
    result_note(name,
                "the producer is at most %u events ahead of the slowest subscription, "
                "and at most %u deliveries ahead of all",
                WINDOW_MAX, UNDELIVERED_MAX);
    if (bench.threads)
        result_note(name,
                    "%u threads: %u to publish, %u to receive; each that publishes may be %u "
                    "events ahead",
                    bench.threads, producers, consumers, STREAM_LEAST);
}

static void run(void)
{
    measure_all("fanout", bench.threads ? bench.threads - 1 : 1, 1, 1);
}

/* Each thread drains at least one subscription. */
static void run_two(void)
{
    unsigned consumers = bench.threads ? bench.threads - 1 : 2;
    measure_all("fanout2", 1, consumers, consumers > 4 ? consumers : 4);
}

extern const struct workload fanout_workload;
const struct workload fanout_workload = {
    "fanout",
    "One producer, N subscriptions drained by one thread on another core: from publish to received "
    "by all, for each delivery.",
    run};

extern const struct workload fanout2_workload;
const struct workload fanout2_workload = {
    "fanout2",
    "One producer, N subscriptions drained by two threads, half of them each: from publish to "
    "received by all, for each delivery.",
    run_two};
