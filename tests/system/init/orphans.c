/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Makes orphans, and waits until its parent, which is an init, has reaped them.
 *
 *     exitbus-orphans one-by-one COUNT    prints the parent's CPU time for each, in ns
 *     exitbus-orphans at-once COUNT       all live, then all exit
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 100 /* orphans that are not counted */

static int64_t cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec now;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &now) != 0)
        exit(3);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Make an orphan, which exits when `gate` does, or at once if it is negative. */
static pid_t make_orphan(const int *gate)
{
    int ends[2], status;
    pid_t orphan;
    if (pipe(ends) != 0)
        exit(3);
    pid_t parent = fork();
    if (parent == 0) {
        char none;
        orphan = fork();
        if (orphan == 0) {
            if (gate)
                close(gate[1]);
            _exit(gate && read(gate[0], &none, 1) != 0);
        }
        _exit(orphan < 0 || write(ends[1], &orphan, sizeof orphan) != sizeof orphan);
    }
    if (parent < 0 || waitpid(parent, &status, 0) != parent || status != 0 ||
        read(ends[0], &orphan, sizeof orphan) != sizeof orphan)
        exit(3);
    close(ends[0]);
    close(ends[1]);
    return orphan;
}

static void await_reap(pid_t orphan)
{
    const struct timespec moment = {.tv_nsec = 100000};
    while (kill(orphan, 0) == 0)
        nanosleep(&moment, NULL);
}

static void one_by_one(int count)
{
    pid_t init = getppid(), orphan = 0;
    for (int i = 0; i < WARM_UP; i++)
        orphan = make_orphan(NULL);
    await_reap(orphan);
    int64_t begin = cpu_ns(init);
    for (int i = 0; i < count; i++)
        orphan = make_orphan(NULL);
    await_reap(orphan);
    printf("%.0f\n", (double)(cpu_ns(init) - begin) / count);
}

static void at_once(int count)
{
    int gate[2];
    pid_t *orphans = calloc((size_t)count, sizeof *orphans);
    if (!orphans || pipe(gate) != 0)
        exit(3);
    for (int i = 0; i < count; i++)
        orphans[i] = make_orphan(gate);
    close(gate[1]);
    for (int i = 0; i < count; i++)
        await_reap(orphans[i]);
    free(orphans);
}

int main(int argc, char **argv)
{
    int count = argc == 3 ? atoi(argv[2]) : 0;
    if (count > 0 && strcmp(argv[1], "one-by-one") == 0)
        one_by_one(count);
    else if (count > 0 && strcmp(argv[1], "at-once") == 0)
        at_once(count);
    else
        return 2;
    return 0;
}
