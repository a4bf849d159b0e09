/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * contended: n producers and n consumers share one subscription; each event goes to one consumer.
 * --threads gives n+n instead of the usual numbers.
 * Threads go round the cores: with more threads than cores any of them may be stopped anywhere.
 */
#include "stream.h"

#include <stdio.h>

#define WINDOW 4096u

static void run(void)
{
    static const unsigned usual[] = {2, 4, 8};
    const unsigned half = bench.threads / 2;
    const unsigned *threads = bench.threads ? &half : usual;
    const size_t count = bench.threads ? 1 : sizeof usual / sizeof *usual;
    for (size_t n = 0; n < count; n++)
        for (unsigned round = 0; round < bench.rounds; round++)
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                const struct stream_plan plan = {.buses = 1,
                                                 .producers = threads[n],
                                                 .consumers = threads[n],
                                                 .subscriptions = 1,
                                                 .window = WINDOW,
                                                 .slice_ms = 200};
                char variant[16], parameter[PARAMETER_SIZE];
                snprintf(variant, sizeof variant, "%u+%u", threads[n], threads[n]);
                parameter_text(parameter, variant);
                if (!bench_wants(peer->name))
                    continue;
                if (peer->features & PEER_ONE_TO_ONE)
                    result_leave_out("contended", peer->name, "one producer, one consumer");
                else if (peer->features & PEER_ONE_CONSUMER)
                    result_leave_out("contended", peer->name, "one consumer only");
                else
                    result_add("contended", parameter, peer->name, "event", "ns",
                               stream_measure(peer, &plan));
            }
    result_note("contended", "producers are together some %u events ahead, at most", WINDOW);
}

extern const struct workload contended_workload;
const struct workload contended_workload = {
    "contended",
    "n producers and n consumers on one subscription, n+n threads: time for each event.", run};
