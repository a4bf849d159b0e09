/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The summary: one table of the numbers that decide whether exitbus fits. Each stands beside the
 * best peer's, and beside a baseline: what a program would do without exitbus.
 */
#include "output.h"
#include "results.h"

#include <stdio.h>
#include <string.h>

#define CELL_SIZE 96

static const struct {
    const char *what, *workload, *parameter, *metric, *baseline;
} lines[] = {
    {"Publish to 1 subscription", "burst", "N=1", "publish", "shim"},
    {"Publish to 16 subscriptions", "burst", "N=16", "publish", "shim"},
    {"Receive, in batches", "burst", "N=1", "receive", "shim"},
    {"One event from thread to thread", "pair", "", "event", "shim"},
    {"A delivery, 16 subscriptions", "fanout", "N=16", "delivery", "shim"},
    {"A delivery, 1,024 subscriptions", "fanout", "N=1024", "delivery", "shim"},
    {"An event, 4 producers and 4 consumers", "contended", "4+4", "event", "shim"},
    {"Publish, 100,000 subscriptions to a pid", "filtered", "100000", "publish", "shim"},
    {"Subscribe and unsubscribe", "churn", "", "subscribe+unsubscribe", "shim"},
    {"Memory of an undelivered event", "backlog", "", "memory", "shim"},
    {"Wake a blocked receiver, p50", "wake", "receive", "p50", "futex"},
    {"Wake a blocked receiver, p99", "wake", "receive", "p99", "futex"},
    {"Wake an epoll loop, p50", "wake", "epoll", "p50", "eventfd"},
    {"Wake an epoll loop, p99", "wake", "epoll", "p99", "eventfd"},
    {"From a child's `_exit` to receipt, p50", "exits", "", "p50", "waitid"},
    {"CPU time of an exit", "exits", "1 watched", "CPU", "waitid"},
    {"CPU time of an exit, 1,000 others", "exits", "1000 watched", "CPU", "waitid"},
    {"CPU time of an exit, 10,000 others", "exits", "10000 watched", "CPU", "waitid"},
    {"fork, exec and wait", "fork", "", "fork+exec", "without"},
};

/* With its unit, in one that needs few digits. */
static void value_text(char *text, size_t size, const struct series *series)
{
    static const char *const times[] = {"ns", "µs", "ms", "s"};
    double value = series->median;
    const char *unit = series->unit;
    if (strcmp(unit, times[0]) == 0) {
        size_t scale = 0;
        for (; value >= 999.5 && scale + 1 < sizeof times / sizeof *times; scale++)
            value /= 1000;
        unit = times[scale];
    } else if (strcmp(unit, "1/s") == 0) {
        value /= 1000;
        unit = "thousand/s";
    }
    int used = number_text(text, size, value);
    snprintf(text + used, size - (size_t)used, " %s", unit);
}

/* NAME VALUE (RATIO). Empty without `other`. */
static void other_text(char *text, size_t size, const struct series *own,
                       const struct series *other)
{
    char value[32];
    *text = '\0';
    if (!other || other->median <= 0)
        return;
    value_text(value, sizeof value, other);
    snprintf(text, size, "%s %s (%.2f×)", other->peer, value, own->median / other->median);
}

void summary_print(void)
{
    unsigned printed = 0;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const struct series *own =
            result_find(lines[i].workload, lines[i].parameter, EXITBUS, lines[i].metric);
        if (!own)
            continue;
        if (printed++ == 0)
            printf("## summary\n\n"
                   "| | exitbus | best peer (exitbus ÷ it) | baseline (exitbus ÷ it) |\n"
                   "| --- | ---: | --- | --- |\n");
        const struct series *best = result_best_peer(own);
        const struct series *base =
            result_find(lines[i].workload, lines[i].parameter, lines[i].baseline, lines[i].metric);
        char value[32], best_cell[CELL_SIZE], base_cell[CELL_SIZE];
        value_text(value, sizeof value, own);
        other_text(best_cell, sizeof best_cell, own, best);
        other_text(base_cell, sizeof base_cell, own, base);
        printf("| %s | %s | %s | %s |\n", lines[i].what, value, best_cell,
               base == best ? "the same" : base_cell);
    }
    if (printed > 0)
        printf("\n");
}
