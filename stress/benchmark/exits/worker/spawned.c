/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What several peers share: a start by vfork, and a queue of pids. */
#include "peer.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern char **environ;

/* Not inlined: the child borrows the caller's stack, and must not write to live variables there. */
__attribute__((noinline)) pid_t spawn_by_vfork(char *const argv[])
{
    pid_t pid = vfork();
    if (pid == 0) {
        execve(argv[0], argv, environ);
        _exit(127);
    }
    return pid < 0 ? -errno : pid;
}

/* More than any workload has in flight. */
#define PIDS_MAX 4096
static pid_t pids[PIDS_MAX];
static size_t first, last;

void pids_push(pid_t pid)
{
    if (last - first == PIDS_MAX) {
        fprintf(stderr, "exits: more than %d children in flight\n", PIDS_MAX);
        exit(1);
    }
    pids[last++ % PIDS_MAX] = pid;
}

pid_t pids_pop(void)
{
    return first == last ? 0 : pids[first++ % PIDS_MAX];
}
