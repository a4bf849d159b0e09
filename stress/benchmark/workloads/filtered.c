/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * filtered: many subscriptions, each to one pid; each event matches one of them, in turn. What an
 * exit costs must not grow with the pids that others wait for. Beside it the floor: a lookup by
 * nothing but an index, and a copy of 64 bytes there, in the caches or out of them.
 */
#include "workloads.h"

#include <stdio.h>
#include <stdlib.h>

#define SLICE_MS 100
#define BURST 1000u /* events between two times that all is received, outside of the clock */

#define WARM_PASSES 12u /* over all subscriptions */

#define FLOOR "bare copy"
#define FLOOR_RING 16u /* cells of each */

static void receive_all(const struct peer *peer, void *consumer, uint64_t first,
                        unsigned subscriptions)
{
    uint64_t sum = 0;
    unsigned taken = 0;
    for (uint64_t number = first; number < first + BURST; number++)
        taken += peer->receive(consumer, (unsigned)(number % subscriptions), RECEIVE_BATCH, &sum);
    if (taken != BURST || sum != BURST * first + (uint64_t)BURST * (BURST - 1) / 2)
        bench_die("filtered: %s: wrong events", peer->name);
}

static double measure(const struct peer *peer, unsigned subscriptions)
{
    const struct shape shape = {.subscriptions = subscriptions,
                                .producers = 1,
                                .consumers = 1,
                                .pending = BURST,
                                .one_pid = true};
    void *bus = peer->create(&shape), *producer = peer->producer(bus);
    void *consumer = peer->consumer(bus);
    uint64_t spent = 0, next = 1, counted = 0, slice = bench_slice(SLICE_MS);
    /* Every subscription has got what memory it needs before it counts. */
    for (bool counts; spent < slice; next += BURST) {
        uint64_t begin = now_ns();
        peer->publish(producer, next, BURST);
        uint64_t end = now_ns();
        receive_all(peer, consumer, next, subscriptions);
        counts = next > WARM_PASSES * subscriptions;
        spent += counts ? end - begin : 0;
        counted += counts ? BURST : 0;
    }
    peer->consumer_end(consumer);
    peer->producer_end(producer);
    peer->destroy(bus);
    return (double)spent / (double)counted;
}

static double measure_floor(unsigned subscriptions)
{
    struct event *cells = peer_memory((size_t)subscriptions * FLOOR_RING * sizeof *cells);
    struct event event = {0, {1, 1, 1, 1, 1, 1, 1}};
    uint64_t begin = now_ns(), slice = bench_slice(SLICE_MS), counted = 0;
    for (uint64_t number = 1; now_ns() - begin < slice || number < subscriptions; number += BURST) {
        if (number > subscriptions && counted == 0)
            begin = now_ns();
        for (uint64_t i = number; i < number + BURST; i++) {
            event.number = i;
            cells[i % subscriptions * FLOOR_RING + i / subscriptions % FLOOR_RING] = event;
            __asm__ volatile("" : : "r"(cells) : "memory");
        }
        counted += number > subscriptions ? BURST : 0;
    }
    double ns = (double)(now_ns() - begin) / (double)counted;
    free(cells);
    return ns;
}

static void run(void)
{
    static const unsigned subscriptions[] = {10, 100000};
    machine_pin(0);
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t n = 0; n < sizeof subscriptions / sizeof *subscriptions; n++) {
            char parameter[16];
            snprintf(parameter, sizeof parameter, "%u", subscriptions[n]);
            for (size_t i = 0; i < peer_count; i++) {
                const struct peer *peer = peer_in_round(round, i);
                if (!bench_wants(peer->name))
                    continue;
                if (peer->features & PEER_TOPICS)
                    result_add("filtered", parameter, peer->name, "publish", "ns",
                               measure(peer, subscriptions[n]));
            }
            if (bench_wants(FLOOR))
                result_add("filtered", parameter, FLOOR, "publish", "ns",
                           measure_floor(subscriptions[n]));
        }
    machine_unpin();
    result_note("filtered", "queues know no topics: only what has a map of them is here");
    result_note("filtered", "%s: 64 bytes to a cell of that subscription, found by an index",
                FLOOR);
}

extern const struct workload filtered_workload;
const struct workload filtered_workload = {
    "filtered", "N subscriptions to one pid each, every event matches one: time of a publish.",
    run};
