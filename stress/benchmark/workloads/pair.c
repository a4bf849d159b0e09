/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* pair: one producer and one consumer, each on a core of its own. */
#include "stream.h"

#define WINDOW 4096u

static void run(void)
{
    const struct stream_plan plan = {
        .producers = 1, .consumers = 1, .subscriptions = 1, .window = WINDOW, .slice_ms = 150};
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t i = 0; i < peer_count; i++) {
            const struct peer *peer = peer_in_round(round, i);
            if (bench_wants(peer->name))
                result_add("pair", "", peer->name, "event", "ns", stream_measure(peer, &plan));
        }
    result_note("pair", "the producer is at most %u events ahead", WINDOW);
}

extern const struct workload pair_workload;
const struct workload pair_workload = {
    "pair", "One producer, one consumer on another core: time for each event.", run};
