/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fanout: each event to N subscriptions, all drained by one thread on another core. fanout2: by two
 * threads, half of them each, of which one shares the producer's core if there are but two. The
 * window keeps what is undelivered within caches of usual size: 65,536 events of 64 bytes.
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

static bool can_be_drained(const struct peer *peer, unsigned consumers)
{
    return consumers == 1 || !(peer->features & PEER_ONE_CONSUMER);
}

static void measure_all(const char *name, unsigned consumers, unsigned least)
{
    static const unsigned subscriptions[] = {1, 4, 16, 64, 256, 1024};
    for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++)
        for (unsigned round = 0; round < bench.rounds && subscriptions[n] >= least; round++)
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                const struct stream_plan plan = {.producers = 1,
                                                 .consumers = consumers,
                                                 .subscriptions = subscriptions[n],
                                                 .window = window_of(subscriptions[n]),
                                                 .slice_ms = 120};
                char parameter[16];
                snprintf(parameter, sizeof parameter, "N=%u", subscriptions[n]);
                if (bench_wants(peer->name) && can_be_drained(peer, consumers))
                    result_add(name, parameter, peer->name, "delivery", "ns",
                               stream_measure(peer, &plan) / subscriptions[n]);
            }
    for (size_t i = 0; i < peer_count; i++)
        if (bench_wants(peers[i]->name) && !can_be_drained(peers[i], consumers))
            result_leave_out(name, peers[i]->name, "one thread has all receivers");
    result_note(name,
                "the producer is at most %u events ahead of the slowest subscription, "
                "and at most %u deliveries ahead of all",
                WINDOW_MAX, UNDELIVERED_MAX);
}

static void run(void)
{
    measure_all("fanout", 1, 1);
}

static void run_two(void)
{
    measure_all("fanout2", 2, 4);
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
