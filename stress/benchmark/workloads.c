/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* All workloads, in the order of a run. */
#include "bench.h"

extern const struct workload limit_workload, burst_workload, alternate_workload, pair_workload;
extern const struct workload fanout_workload, fanout2_workload;
extern const struct workload contended_workload, filtered_workload, many_workload, churn_workload;
extern const struct workload wake_workload, backlog_workload, exits_workload, orphans_workload;
extern const struct workload jobs_workload, fork_workload;

const struct workload *const workloads[] = {
    &limit_workload,
    &burst_workload,
    &alternate_workload,
    &pair_workload,
    &fanout_workload,
    &fanout2_workload,
    &contended_workload,
    &filtered_workload,
    &many_workload,
    &churn_workload,
    &wake_workload,
    &backlog_workload,
    &exits_workload,
    &orphans_workload,
    &jobs_workload,
    &fork_workload,
    NULL,
};
