/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A run in a process of its own: see supervise.h. */
#include "supervise.h"
#include "children.h"
#include "options.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the run has started and left behind comes to us, because we are its subreaper. */
static void end_children(void)
{
    do
        children_kill();
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

struct end supervise(int (*body)(void))
{
    pid_t parent = getpid();
    int status;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "exitbus-stress: fork: %s\n", strerror(errno));
        exit(EXIT_ENVIRONMENT);
    }
    if (child == 0) {
        prctl(PR_SET_CHILD_SUBREAPER, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(getppid() == parent ? body() : EXIT_ENVIRONMENT);
    }
    pid_t ended;
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    end_children();
    if (ended == child && WIFSIGNALED(status))
        return (struct end){-1, WTERMSIG(status)};
    return (struct end){ended == child ? WEXITSTATUS(status) : -1, 0};
}
