/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * pair: one producer and one consumer, each on a core of its own. With --threads half as many such
 * pairs at a time, each with a bus of its own.
 */
#include "stream.h"

#define WINDOW 4096u

static void run(void)
{
    const struct stream_plan plan = {.buses = bench.threads ? bench.threads / 2 : 1,
                                     .producers = 1,
                                     .consumers = 1,
                                     .subscriptions = 1,
                                     .window = WINDOW,
                                     .slice_ms = 150};
    char parameter[PARAMETER_SIZE];
    parameter_text(parameter, "");
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t i = 0; i < peer_count; i++) {
            const struct peer *peer = peer_in_round(round, i);
            if (bench_wants(peer->name))
                result_add("pair", parameter, peer->name, "event", "ns",
                           stream_measure(peer, &plan));
        }
    if (bench.threads)
        result_note("pair", "threads: each two have a bus of their own; the mean of the buses");
    result_note("pair", "the producer is at most %u events ahead", WINDOW);
}

extern const struct workload pair_workload;
const struct workload pair_workload = {
    "pair", "One producer, one consumer on another core: time for each event.", run};
