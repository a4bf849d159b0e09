/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fanout: each event to N subscriptions, all drained by one thread on another core. The window
 * keeps what is undelivered within caches of usual size: 65,536 events of 64 bytes in all.
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

static void run(void)
{
    static const unsigned subscriptions[] = {1, 4, 16, 64, 256, 1024};
    for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++)
        for (unsigned round = 0; round < bench.rounds; round++)
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                const struct stream_plan plan = {.producers = 1,
                                                 .consumers = 1,
                                                 .subscriptions = subscriptions[n],
                                                 .window = window_of(subscriptions[n]),
                                                 .slice_ms = 120};
                char parameter[16];
                snprintf(parameter, sizeof parameter, "N=%u", subscriptions[n]);
                if (bench_wants(peer->name))
                    result_add("fanout", parameter, peer->name, "delivery", "ns",
                               stream_measure(peer, &plan) / subscriptions[n]);
            }
    result_note("fanout",
                "the producer is at most %u events ahead of the slowest subscription, "
                "and at most %u deliveries ahead of all",
                WINDOW_MAX, UNDELIVERED_MAX);
}

extern const struct workload fanout_workload;
const struct workload fanout_workload = {
    "fanout",
    "One producer, N subscriptions drained by one thread on another core: from publish to received "
    "by all, for each delivery.",
    run};
