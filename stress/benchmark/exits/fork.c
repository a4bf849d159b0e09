/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * fork: what a fork, an exec and a wait cost a host program that has a bus in it, with a reaper,
 * subscriptions and a backlog, against the same program without the library (worker/host.c).
 * "bare-threads" has no library, but two threads that sleep, as many as the reaper and liburcu
 * have.
 */
#include "../bench.h"
#include "exits.h"

#include <stdio.h>

#define FORK_MS 400
#define FORK_NS 1000000

static const struct {
    const char *peer, *program;
    unsigned threads;
} hosts[] = {
    {EXITBUS, EXITS_HOST, 0},
    {"without", EXITS_HOST_WITHOUT, 0},
    {"bare-threads", EXITS_HOST_WITHOUT, 2},
};
#define HOSTS (sizeof hosts / sizeof *hosts)

static void run(void)
{
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t n = 0; n < HOSTS; n++) {
            size_t i = (n + round) % HOSTS;
            char command[512];
            double ns;
            snprintf(command, sizeof command, "'%s' %llu %u", hosts[i].program,
                     (unsigned long long)(bench_slice(FORK_MS) / FORK_NS) + 1, hosts[i].threads);
            if (!command_numbers(command, &ns, 1))
                bench_die("fork: %s failed", hosts[i].program);
            result_add("fork", "", hosts[i].peer, "fork+exec", "ns", ns);
        }
    result_note("fork", "median of the fork, exec and wait of a program that does nothing");
}

extern const struct workload fork_workload;
const struct workload fork_workload = {
    "fork", "fork and exec in a program with a reaper, 1,000 subscriptions and 8 MB of backlog.",
    run};
