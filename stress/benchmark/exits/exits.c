/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exits: real children, from their start to the moment at which their exit has been received.
 * Each measurement is a process of its own (worker/worker.c).
 *
 * Latency is measured with the children and all threads where the kernel puts them, and once more
 * with everything on one core. A thread that collects the exits for others must wake one of them,
 * on a second core: "bare-relay" is what that costs without any library, and so what a bus with a
 * thread of its own can reach at best. "exitbus-polled" has no such thread, like the event loops.
 * "bare-loop" is the least that such a loop takes.
 */
#include "exits.h"
#include "../bench.h"

#include <stdio.h>
#include <string.h>

#define THROUGHPUT_MS 250
#define LATENCY_MS 250
/* About what a child takes, to make a count of a time. */
#define CHILD_NS 1000000
#define LATENCY_CHILD_NS 2500000
#define AT_ONCE 32
#define CPU_EXITS 50

/* To start so many others takes half a minute where pidfds slow it down: peers do it once. */
#define MANY 10000
/* And only so many may be watched for each second that the run is to take. */
#define WATCHED_PER_SECOND 40

static const char *const names[] = {
    EXITBUS,  "exitbus-polled",     "exitbus-direct", "exitbus-all", "exitbus-all+vfork",
    "waitid", "waitid+posix_spawn", "waitid-any",     "bare-relay",  "bare-loop",
    "libuv",  "glib",               "sd-event",       "tokio",
};
#define NAMES (sizeof names / sizeof *names)

static bool left_out[NAMES];

static bool run_worker(size_t i, const char *arguments, double *numbers, size_t count)
{
    char command[512];
    snprintf(command, sizeof command, "'%s' %s %s", EXITS_WORKER, names[i], arguments);
    if (command_numbers(command, numbers, count))
        return true;
    result_leave_out("exits", names[i], "it is not built in, or failed: see standard error");
    left_out[i] = true;
    return false;
}

static void measure_throughput(size_t i, unsigned at_once, const char *parameter)
{
    char arguments[64];
    double rate;
    snprintf(arguments, sizeof arguments, "throughput %llu %u",
             (unsigned long long)(bench_slice(THROUGHPUT_MS) / CHILD_NS) + 1, at_once);
    if (run_worker(i, arguments, &rate, 1))
        result_add("exits", parameter, names[i], "exits", "children/s", rate);
}

static void measure_latency(size_t i, const char *parameter)
{
    char arguments[64];
    double numbers[2];
    snprintf(arguments, sizeof arguments, "latency %llu",
             (unsigned long long)(bench_slice(LATENCY_MS) / LATENCY_CHILD_NS) + 1);
    if (!run_worker(i, arguments, numbers, 2))
        return;
    result_add("exits", parameter, names[i], "p50", "ns", numbers[0]);
    result_add("exits", parameter, names[i], "p99", "ns", numbers[1]);
}

static void measure_cpu(size_t i, unsigned watched)
{
    char arguments[64], parameter[32];
    double numbers[2];
    snprintf(arguments, sizeof arguments, "cpu %u %u", CPU_EXITS, watched);
    snprintf(parameter, sizeof parameter, "%u watched", watched);
    if (!run_worker(i, arguments, numbers, 2))
        return;
    result_add("exits", parameter, names[i], "CPU", "ns", numbers[0]);
    result_add("exits", parameter, names[i], "CPU with its start", "ns", numbers[1]);
}

/* With one core for all, and without. */
static void measure_pinned(size_t i)
{
    machine_pin(0);
    measure_latency(i, "one core");
    if (!left_out[i])
        measure_throughput(i, 1, "one core");
    machine_unpin();
}

static void measure(size_t i, unsigned round)
{
    static const unsigned watched[] = {1, 100, 1000, MANY};
    char at_once[32];
    snprintf(at_once, sizeof at_once, "%u at once", AT_ONCE);
    measure_throughput(i, 1, "");
    if (left_out[i])
        return;
    measure_throughput(i, AT_ONCE, at_once);
    measure_latency(i, "");
    measure_pinned(i);
    bool many = strcmp(names[i], EXITBUS) == 0 || round == 0;
    for (size_t n = 0; n < sizeof watched / sizeof *watched; n++)
        if (watched[n] <= WATCHED_PER_SECOND * bench.seconds && (watched[n] < MANY || many))
            measure_cpu(i, watched[n]);
}

static void run(void)
{
    memset(left_out, 0, sizeof left_out);
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t n = 0; n < NAMES; n++) {
            size_t i = (n + round) % NAMES;
            if (bench_wants(names[i]) && !left_out[i])
                measure(i, round);
        }
    result_note("exits", "p50, p99: from just before the child's _exit until its exit is received; "
                         "CPU: of the process, for each exit, with that many other children alive");
    if (MANY <= WATCHED_PER_SECOND * bench.seconds)
        result_note("exits", "%d watched: one round, but for %s", MANY, EXITBUS);
}

extern const struct workload exits_workload;
const struct workload exits_workload = {
    "exits", "Children, from their start to the receipt of their exit.", run};
