/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The targets, and the judge: see targets.h. */
#include "targets.h"

#include "options.h"
#include "peers.h"
#include "results.h"

#include <stdio.h>
#include <string.h>

const struct target targets[] = {
    {"burst", "N=1", "publish", "crossbeam", NULL, AT_MOST, 1.5, NULL},
    {"burst", "N=1", "sum", "crossbeam", NULL, AT_MOST, 1, NULL},
    {"burst", "N=16", "publish", "moodycamel-token", NULL, AT_MOST, 0.5, NULL},
    {"burst", "N=16", "publish", "crossbeam", NULL, AT_MOST, 0.15, NULL},
    {"burst", "N=16", "sum", "crossbeam", NULL, AT_MOST, 1, NULL},
    {"burst", "N=16", "sum", "moodycamel-token", NULL, AT_MOST, 0.75, NULL},
    {"alternate", "N=1", "publish", "moodycamel-token", NULL, AT_MOST, 1.3, NULL},
    {"alternate", "N=16", "publish", "moodycamel-token", NULL, AT_MOST, 0.15, NULL},
    {"pair", "", "event", "bare-ring", NULL, AT_MOST, 1, NULL},
    {"fanout", "N=16", "delivery", "moodycamel-token", NULL, AT_MOST, 0.25, NULL},
    {"fanout", "N=64", "delivery", "moodycamel-token", NULL, AT_MOST, 0.25, NULL},
    {"fanout", "N=256", "delivery", "moodycamel-token", NULL, AT_MOST, 0.25, NULL},
    {"fanout", "N=1024", "delivery", "moodycamel-token", NULL, AT_MOST, 0.25, NULL},
    {"fanout", "N=16", "delivery", "tokio-broadcast", NULL, AT_MOST, 0.4, NULL},
    {"fanout", "N=64", "delivery", "tokio-broadcast", NULL, AT_MOST, 0.4, NULL},
    {"fanout", "N=256", "delivery", "tokio-broadcast", NULL, AT_MOST, 0.4, NULL},
    {"fanout", "N=1024", "delivery", "tokio-broadcast", NULL, AT_MOST, 0.4, NULL},
    {"contended", "4+4", "event", BEST_FIFO, NULL, FASTER, 1, NULL},
    {"filtered", "10", "publish", "shim", NULL, AT_MOST, 1, NULL},
    {"filtered", "100000", "publish", "shim", NULL, AT_MOST, 1, NULL},
    {"filtered", "100000", "publish", EXITBUS, "10", AT_MOST, 1.3, NULL},
    {"many", "100000", "publish", EXITBUS, "1", AT_MOST, 2, NULL},
    {"many", "100000", "unsubscribe", EXITBUS, "1", AT_MOST, 2, NULL},
    {"wake", "receive", "p50", "futex", NULL, AT_MOST, 1.15, NULL},
    {"wake", "receive", "p99", "futex", NULL, AT_MOST, 1.15, NULL},
    {"wake", "epoll", "p50", "eventfd", NULL, AT_MOST, 1.15, NULL},
    {"wake", "epoll", "p99", "eventfd", NULL, AT_MOST, 1.15, NULL},
    {"wake", "loop, 1 core", "empty", NULL, NULL, AT_MOST, 0.05, NULL},
    {"wake", "loop, 2 cores", "empty", NULL, NULL, AT_MOST, 0.05, NULL},
    {"wake", "loop, 1 core", "CPU", "eventfd", NULL, AT_MOST, 1.15, NULL},
    {"wake", "loop, 2 cores", "CPU", "eventfd", NULL, AT_MOST, 1.15, NULL},
    {"exits", "", "p50", "bare-relay", NULL, AT_MOST, 1.06, NULL},
    {"exits", "", "p50", "waitid", NULL, AT_MOST, 1.15, "exitbus-polled"},
    {"exits", "", "p50", "waitid", NULL, AT_MOST, 1.15, "exitbus-direct"},
    {"exits", "", "exits", "waitid", NULL, FASTER, 0.97, NULL},
    {"orphans", "", "CPU", "waitid-any", NULL, AT_MOST, 1.4, "exitbus-init"},
    {"exits", "10000 watched", "CPU", EXITBUS, "1 watched", AT_MOST, 1.2, NULL},
    {"fork", "", "fork+exec", "without", NULL, AT_MOST, 1.1, NULL},
    {"fork", "", "fork+exec", "bare-threads", NULL, AT_MOST, 1.05, NULL},
    {"backlog", "", "publish", "crossbeam", NULL, AT_MOST, 1.2, NULL},
    {"backlog", "", "memory", NULL, NULL, AT_MOST, 70, NULL},
    {"backlog", "N=64", "memory", NULL, NULL, AT_MOST, 70, NULL},
    {"backlog", "", "left", NULL, NULL, AT_MOST, 5, NULL},
    {"churn", "", "subscribe+unsubscribe", NULL, NULL, AT_LEAST, 3e6, NULL},
    {"churn", "", "slowdown", NULL, NULL, AT_MOST, 50, NULL},
};
const size_t target_count = sizeof targets / sizeof *targets;

/* ------------------------------------------------------------------------------------ compare */

static bool is_base(const struct target *target, const char *peer)
{
    if (strcmp(peer, EXITBUS) == 0)
        return strcmp(target->peers, EXITBUS) == 0;
    if (strcmp(target->peers, BEST_PEER) == 0)
        return !result_is_floor(peer);
    if (strcmp(target->peers, BEST_FIFO) == 0)
        return peer_keeps_fifo(peer);
    return options_named(target->peers, peer);
}

/*
 * Between what cores the workload was measured: "near", "far", or "both" if that changed meanwhile.
 * "-": not known. A target is of one class; a run that saw both judges neither of them alone.
 */
static const char *cores_of(const char *workload)
{
    for (size_t i = 0; i < results.trip_count; i++) {
        const struct round_trip *trip = &results.trips[i];
        if (strcmp(trip->workload, workload) != 0)
            continue;
        bool before = trip->before_ns <= NEAR_NS, after = trip->after_ns <= NEAR_NS;
        return before != after ? "both" : before ? "near" : "far";
    }
    return "-";
}

/* The best series that the target is compared with; NULL if none was measured. */
static const struct series *base_of(const struct target *target)
{
    const char *parameter = target->base_parameter ? target->base_parameter : target->parameter;
    const struct series *best = NULL;
    for (size_t i = 0; i < results.count; i++) {
        const struct series *series = &results.series[i];
        if (strcmp(series->workload, target->workload) != 0 ||
            strcmp(series->parameter, parameter) != 0 ||
            strcmp(series->metric, target->metric) != 0 || !is_base(target, series->peer))
            continue;
        if (!best || (series->median > best->median) == series_higher_is_better(series))
            best = series;
    }
    return best;
}

static double measure(const struct target *target, const struct series *own,
                      const struct series *base)
{
    if (!base)
        return own->median;
    if (target->relation == FASTER && !series_higher_is_better(own))
        return base->median / own->median;
    return own->median / base->median;
}

static bool is_met(const struct target *target, double measured)
{
    return target->relation == AT_MOST ? measured <= target->limit : measured >= target->limit;
}

/* -------------------------------------------------------------------------------------- print */

static void print_target(const struct target *target, const struct series *own,
                         const struct series *base, double measured)
{
    char against[64] = "a constant";
    if (base)
        snprintf(against, sizeof against, "%s%s%s", base->peer, target->base_parameter ? " " : "",
                 target->base_parameter ? target->base_parameter : "");
    /* An exitbus with a name of its own takes the parameter's place, which it has none of. */
    const char *parameter = target->variant ? target->variant : target->parameter;
    printf("| %-9s | %-14s | %-21s | %-20s | %s %-8g | %-8.3g | %-5s | %-6s |\n", target->workload,
           parameter, own->metric, against, target->relation == AT_MOST ? "≤" : "≥", target->limit,
           measured, cores_of(target->workload), is_met(target, measured) ? "met" : "MISSED");
}

unsigned targets_print(void)
{
    unsigned missed = 0, judged = 0;
    for (size_t i = 0; i < target_count; i++) {
        const struct target *target = &targets[i];
        const struct series *own =
            result_find(target->workload, target->parameter,
                        target->variant ? target->variant : EXITBUS, target->metric);
        const struct series *base = target->peers ? base_of(target) : NULL;
        if (!own || (target->peers && !base))
            continue;
        if (judged++ == 0)
            printf("## targets\n\n"
                   "| workload  | parameter      | metric                | against              | "
                   "target     | measured | cores | verdict |\n"
                   "| --------- | -------------- | --------------------- | -------------------- | "
                   "---------- | -------- | ----- | ------- |\n");
        double measured = measure(target, own, base);
        missed += !is_met(target, measured);
        print_target(target, own, base, measured);
    }
    if (judged > 0)
        printf("\n%u of %u targets met\n", judged - missed, judged);
    return missed;
}
