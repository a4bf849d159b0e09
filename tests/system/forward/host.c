/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A host whose bus is forwarded: host SPOOL COUNT. It has one child that lives, publishes COUNT
 * events, and prints what it was told. With COUNT 0 it publishes until it is killed. With a third
 * argument it forks while its bus is forwarded.
 */
#include <exitbus/forward.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void want(int result, int expected, const char *what)
{
    if (result == expected)
        return;
    fprintf(stderr, "host: %s: %d, not %d\n", what, result, expected);
    exit(1);
}

/* Each bad argument has its error, and changes nothing. */
static void refusals(struct exitbus *bus, const char *spool)
{
    struct exitbus_forward *forward = NULL;
    struct exitbus_forward_options unknown = {.flags = 0x80, .spool = spool};
    struct exitbus_forward_options none = {.flags = 0};
    struct exitbus_forward_options small = {.spool = spool, .max_bytes = 4096};
    struct exitbus_forward_options nowhere = {.spool = "/nowhere/at/all"};
    want(exitbus_forward_start(NULL, &small, &forward), -EINVAL, "no bus");
    want(exitbus_forward_start(bus, &unknown, &forward), -EINVAL, "an unknown flag");
    want(exitbus_forward_start(bus, &none, &forward), -EINVAL, "no spool");
    want(exitbus_forward_start(bus, &small, &forward), -EINVAL, "a spool too small");
    want(exitbus_forward_start(bus, &nowhere, &forward), -ENOENT, "a spool that can't be made");
    want(exitbus_forward_stats(NULL, NULL), -EINVAL, "stats of none");
    want(exitbus_forward_stop(NULL), 0, "a stop of none");
    want(access(spool, F_OK), -1, "nothing was made");
}

static void publish(struct exitbus *bus, uint64_t i)
{
    char exec[32];
    snprintf(exec, sizeof exec, "e%" PRIu64, i);
    switch (i % 4) {
    case 0:
        want(exitbus_publish_pid(bus, (pid_t)(i % 4000000 + 1), (int)(i % 256)), 0, "a pid");
        break;
    case 1:
        want(exitbus_publish_exec(bus, "pid", exec, 1), 0, "a container named as our token");
        break;
    case 2:
        want(exitbus_publish_exec(bus, "a.b *>\xff", exec, 2), 0, "any bytes");
        break;
    default:
        want(exitbus_publish_exec(bus, "web-1", "", 3), 0, "a container");
    }
}

/* The calls of a forked child change nothing; and while it lives another writer may follow. */
static void fork_between(struct exitbus *bus, const struct exitbus_forward_options *options,
                         struct exitbus_forward **forward)
{
    struct exitbus_forward_stats stats;
    int ready[2];
    char byte;
    want(pipe(ready), 0, "a pipe");
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        want(exitbus_forward_stop(*forward), -ESTALE, "a stop in a forked child");
        want(exitbus_forward_stats(*forward, &stats), -ESTALE, "stats in a forked child");
        want((int)write(ready[1], "", 1), 1, "a byte");
        for (;;)
            pause();
    }
    close(ready[1]);
    want((int)read(ready[0], &byte, 1), 1, "the forked child's word");
    close(ready[0]);
    publish(bus, 0);
    want(exitbus_forward_stop(*forward), 0, "a stop");
    want(exitbus_forward_start(bus, options, forward), 0, "a start while the child lives");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct exitbus_forward *forward, *second = NULL;
    struct exitbus_forward_stats stats;
    if (argc != 3 && argc != 4)
        return 2;
    struct exitbus_forward_options options = {.spool = argv[1]};
    uint64_t count = strtoull(argv[2], NULL, 10);
    pid_t child = fork();
    if (child == 0)
        return pause();
    want(exitbus_create(&bus, NULL), 0, "a bus");
    if (count > 0)
        refusals(bus, argv[1]);
    want(exitbus_forward_start(bus, &options, &forward), 0, "start");
    want(exitbus_forward_start(bus, &options, &second), -EBUSY, "a second writer");
    printf("child %d\n", (int)child);
    fflush(stdout);
    if (argc == 4)
        fork_between(bus, &options, &forward);
    for (uint64_t i = 0; i < count || count == 0; i++)
        publish(bus, i);
    want(exitbus_forward_stats(forward, &stats), 0, "stats");
    want(stats.dropped == 0 && stats.waiting == 0, 1, "nothing dropped");
    want(exitbus_forward_stop(forward), 0, "stop");
    want(exitbus_destroy(bus), 0, "destroy");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
