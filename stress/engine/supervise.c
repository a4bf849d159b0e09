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
#include <time.h>
#include <unistd.h>

/* The heart beats ten times a second, but a machine may be busy, and the process stopped. */
#define BEAT_NS_MAX 20000000000
#define LOOK_NS 20000000
#define SPARED_MAX 64

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    interrupted = signal;
}

int supervise_interrupted(void)
{
    return interrupted;
}

void supervise_beat(void)
{
    atomic_store(&world->beat_ns, now_ns());
}

void supervise_rest(void)
{
    atomic_store(&world->beat_ns, 0);
}

/* Children that were there before: of a shell that has become this program, say. */
static pid_t spared[SPARED_MAX];
static size_t spared_count;

static bool spare(pid_t pid, char state)
{
    (void)state;
    if (spared_count < SPARED_MAX)
        spared[spared_count++] = pid;
    return true;
}

static bool is_spared(pid_t pid)
{
    for (size_t i = 0; i < spared_count; i++)
        if (spared[i] == pid)
            return true;
    return false;
}

static bool end_child(pid_t pid, char state)
{
    if (is_spared(pid))
        return false;
    if (state != 'Z')
        kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return true;
}

/* What the run has started and left behind comes to us, because we are its subreaper. */
static void end_children(void)
{
    while (for_each_child(end_child) > 0)
        continue;
}

static bool stands_still(void)
{
    uint64_t beat_ns = atomic_load(&world->beat_ns);
    uint64_t most_ns = BEAT_NS_MAX + (uint64_t)patience_ns();
    return beat_ns != 0 && now_ns() > beat_ns + most_ns;
}

/* Returns false if there is no such child. */
static bool await_end(pid_t child, int *status)
{
    const struct timespec moment = {.tv_nsec = LOOK_NS};
    for (;;) {
        pid_t ended = waitpid(child, status, WNOHANG);
        if (ended == child || (ended < 0 && errno != EINTR))
            return ended == child;
        if (interrupted)
            kill(child, SIGKILL);
        else if (stands_still()) {
            atomic_store(&world->ending, ENDING_STILL);
            kill(child, SIGKILL);
        }
        nanosleep(&moment, NULL);
    }
}

static void set_handlers(void (*on_signal)(int), void (*on_pipe)(int))
{
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGPIPE, on_pipe); /* the reports are written, too, if nobody reads what is printed */
}

struct end supervise(int (*body)(void))
{
    pid_t parent = getpid();
    int status = 0;
    spared_count = 0;
    for_each_child(spare);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    set_handlers(on_interrupt, SIG_IGN);
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "exitbus-stress: fork: %s\n", strerror(errno));
        exit(EXIT_ENVIRONMENT);
    }
    if (child == 0) {
        set_handlers(SIG_DFL, SIG_DFL);
        prctl(PR_SET_CHILD_SUBREAPER, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        exit(getppid() == parent ? body() : EXIT_ENVIRONMENT);
    }
    bool ended = await_end(child, &status);
    supervise_rest();
    end_children();
    if (ended && WIFSIGNALED(status))
        return (struct end){-1, WTERMSIG(status)};
    return (struct end){ended ? WEXITSTATUS(status) : -1, 0};
}
