/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * orphans: what each costs an init, which is PID 1 of a pid namespace of its own (worker/worker.c).
 * "waitid-any" is a bare loop of waitid, which does nothing else. "bare-init" is the least that an
 * init takes which sleeps at a descriptor, and looks at an exit before it reaps.
 */
#include "../bench.h"
#include "exits.h"

#include <stdio.h>

#define ORPHANS_MAX 20000
#define ORPHANS_MS 1000
#define ORPHAN_NS 300000

static const char *const inits[] = {"exitbus-init", "waitid-any", "bare-init"};
#define INITS (sizeof inits / sizeof *inits)

static void run(void)
{
    unsigned long long count = bench_slice(ORPHANS_MS) / ORPHAN_NS + 1;
    if (count > ORPHANS_MAX)
        count = ORPHANS_MAX;
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t n = 0; n < INITS; n++) {
            const char *name = inits[(n + round) % INITS];
            char command[512];
            double cpu;
            snprintf(command, sizeof command, "'%s' %s orphans %llu", EXITS_WORKER, name, count);
            if (!command_numbers(command, &cpu, 1)) {
                result_leave_out("orphans", name, "no pid namespace: see standard error");
                return;
            }
            result_add("orphans", "", name, "CPU", "ns", cpu);
        }
    result_note("orphans", "CPU of PID 1 for each orphan, one after the other");
}

extern const struct workload orphans_workload;
const struct workload orphans_workload = {
    "orphans", "Orphans of a pid namespace, received by its init.", run};
