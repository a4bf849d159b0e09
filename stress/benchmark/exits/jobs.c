/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * jobs: how long it takes until a job is empty whose processes fork, leave their session, and
 * ignore SIGTERM (worker/jobs.c). "bare-cgroup" writes cgroup.kill itself, and polls cgroup.events.
 */
#include "../bench.h"
#include "exits.h"

#include <stdio.h>

#define JOBS_MAX 1000
#define JOBS_MS 1500
#define JOB_NS 1500000

static const char *const enders[] = {EXITBUS, "bare-cgroup"};
static const char *const ways[] = {"exitbus", "bare"};
#define ENDERS (sizeof enders / sizeof *enders)

static void run(void)
{
    unsigned long long count = bench_slice(JOBS_MS) / JOB_NS + 1;
    if (count > JOBS_MAX)
        count = JOBS_MAX;
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t n = 0; n < ENDERS; n++) {
            size_t i = (n + round) % ENDERS;
            char command[512];
            double ns[3];
            snprintf(command, sizeof command, "'%s' %s %llu", JOBS_WORKER, ways[i], count);
            if (!command_numbers(command, ns, 3)) {
                result_leave_out("jobs", enders[i], "no cgroup v2: see standard error");
                return;
            }
            result_add("jobs", "", enders[i], "p50", "µs", ns[0] / 1000);
            result_add("jobs", "", enders[i], "p99", "µs", ns[1] / 1000);
            result_add("jobs", "", enders[i], "max", "µs", ns[2] / 1000);
        }
    result_note("jobs", "%llu jobs of three processes in each round, all found empty", count);
}

extern const struct workload jobs_workload;
const struct workload jobs_workload = {
    "jobs", "Jobs that fork, leave their session and ignore SIGTERM: until they are empty.", run};
