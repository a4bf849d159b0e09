/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All workloads, in the order of a run. */
#include "bench.h"

extern const struct workload burst_workload;

const struct workload *const workloads[] = {
    &burst_workload,
    NULL,
};
