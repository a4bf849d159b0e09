/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * limit: what no bus can be faster than on this machine. 64 bytes copied into each of N rings that
 * are in the cache, and a cache line's way to the other core and back.
 */
#include "workloads.h"

#include <stdio.h>
#include <stdlib.h>

#define SLICE_MS 50
#define RING 64u /* cells: what one receive takes */
#define EVENTS_BETWEEN_LOOKS 16u

#define COPY "bare copy"
#define LINE "line to another core and back"

static double copy(unsigned rings)
{
    struct event *cells = peer_memory((size_t)rings * RING * sizeof *cells);
    struct event event = {0, {1, 1, 1, 1, 1, 1, 1}};
    uint64_t begin = now_ns(), slice = bench_slice(SLICE_MS), number = 0;
    while (now_ns() - begin < slice)
        for (unsigned i = 0; i < EVENTS_BETWEEN_LOOKS; i++) {
            event.number = ++number;
            for (unsigned ring = 0; ring < rings; ring++) {
                cells[ring * RING + number % RING] = event;
                __asm__ volatile("" : : "r"(cells) : "memory");
            }
        }
    double ns = (double)(now_ns() - begin) / (double)number / rings;
    free(cells);
    return ns;
}

static void run(void)
{
    static const unsigned rings[] = {1, 16, 64, 256, 1024};
    for (unsigned round = 0; round < bench.rounds; round++) {
        machine_pin(0);
        for (size_t n = 0; n < sizeof rings / sizeof *rings; n++) {
            char parameter[16];
            snprintf(parameter, sizeof parameter, "N=%u", rings[n]);
            result_add("limit", parameter, COPY, "copy", "ns", copy(rings[n]));
        }
        machine_unpin();
        result_add("limit", "", LINE, "line", "ns", machine_round_trip_ns());
    }
}

extern const struct workload limit_workload;
const struct workload limit_workload = {
    "limit", "The floor: 64 bytes into each of N rings, and a line from core to core.", run};
