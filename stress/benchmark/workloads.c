/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All workloads, in the order of a run. */
#include "bench.h"

extern const struct workload burst_workload, pair_workload, fanout_workload, contended_workload;

const struct workload *const workloads[] = {
    &burst_workload, &pair_workload, &fanout_workload, &contended_workload, NULL,
};
