/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child in a copy of the caller's memory: see spawn_forked.h.
 *
 * How it works
 *   - The child prepares, and then waits at a pipe (the gate). The parent opens a pidfd, announces
 *     the child, and writes a byte into the gate. Then the child execs.
 *   - A second pipe takes the child's report of an error. Exec closes it.
 *
 * Why it is right
 *  1. The child can't exec before it was announced. So its exit finds the subscription.
 *  2. It has an exit signal from the beginning, since qemu insists. So if it fails to exec, an ALL
 *     reaper publishes its exit, besides the error that is returned.
 *  3. The pipes have no number that an action of the child names, and no standard one. So no action
 *     closes or replaces them.
 */
#include "process/spawn_forked.h"
#include "base/sys.h"
#include "process/spawn_attributes.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

/* Out of the way of the descriptors that a host is likely to use, and never standard ones. */
#define HIGH_FD 200

/* Does an action name this descriptor? */
static bool is_named(const struct exitbus_spawn_options *options, int fd)
{
    for (size_t i = 0; i < options->action_count; i++)
        if (options->actions[i].fd == fd ||
            (options->actions[i].kind == EXITBUS_SPAWN_DUP2 && options->actions[i].source_fd == fd))
            return true;
    return false;
}

/* Duplicate to a number >= from that no action names. Each try starts above the last. */
static int duplicate_unnamed(const struct exitbus_spawn_options *options, int fd, int from)
{
    int copy;
    while ((copy = sys_duplicate(fd, from)) >= 0 && is_named(options, copy)) {
        sys_close(copy);
        from = copy + 1;
    }
    return copy;
}

/*
 * Replace a descriptor by one that is no standard one and that no action names, and close it.
 * Returns the new one, or -EMFILE if there is none.
 */
static int move_away(const struct exitbus_spawn_options *options, int fd)
{
    int copy = duplicate_unnamed(options, fd, HIGH_FD);
    if (copy < 0)
        copy = duplicate_unnamed(options, fd, LOWEST_FD);
    if (copy < 0 && fd >= LOWEST_FD && !is_named(options, fd))
        return fd;
    sys_close(fd);
    return copy >= 0 ? copy : -EMFILE;
}

static void close_pipe(int fds[2])
{
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            sys_close(fds[i]);
        fds[i] = -1;
    }
}

static int open_pipe(const struct exitbus_spawn_options *options, int fds[2])
{
    int result = sys_pipe(fds);
    if (result < 0) {
        fds[0] = fds[1] = -1;
        return result;
    }
    for (int i = 0; i < 2; i++)
        fds[i] = move_away(options, fds[i]);
    return fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
}

/* Do what the waiting child can't do itself, and let it go on. Returns 0 or -errno. */
static int open_gate(struct child *child, struct process *process, int gate)
{
    process->pidfd = process_open_pidfd(process->pid);
    /* -ESRCH: the child has failed and reported why, and an ALL reaper has collected it. */
    if (process->pidfd < 0 && process->pidfd != -ESRCH)
        return process->pidfd;
    handover_announce(&child->handover, process->pid);
    return write(gate, "", 1) == 1 ? 0 : -errno;
}

/* Read what the child has reported. Returns false if it has exec'd, which closes its end. */
static bool read_report(int fd, struct exitbus_spawn_report *report)
{
    ssize_t got = -1;
    for (int attempt = 0; attempt < SPAWN_ATTEMPTS && got < 0; attempt++)
        got = read(fd, report, sizeof *report);
    return got == sizeof *report;
}

static int run_forked(struct child *child, char *stack, struct process *process, int gate[2],
                      int pipe_back[2])
{
    child->named = child->handlers_reset = child->began = false;
    child->gate_fd = gate[0];
    child->gate_other_fd = gate[1];
    child->report_fd = pipe_back[1];
    process->pidfd = -1;
    child->report.step = EXITBUS_SPAWN_STEP_PROCESS;
    int flags = SIGCHLD | (int)attributes_clone_flags(child->options);
    process->pid = clone(child_main, stack + CHILD_STACK, flags, child);
    if (process->pid < 0)
        return -errno;
    int result = open_gate(child, process, gate[1]);
    sys_close(gate[1]);
    sys_close(pipe_back[1]);
    gate[1] = pipe_back[1] = -1;
    struct exitbus_spawn_report report;
    if (read_report(pipe_back[0], &report) && result == 0) {
        child->report = report;
        result = -report.error;
    }
    if (result == 0)
        return 0;
    process_reap(process->pid, 0);
    process_close_pidfd(process);
    return result;
}

int spawn_forked(struct child *child, char *stack, struct process *process)
{
    int gate[2] = {-1, -1}, pipe_back[2] = {-1, -1};
    int result = open_pipe(child->options, gate);
    if (result == 0)
        result = open_pipe(child->options, pipe_back);
    if (result == 0)
        result = run_forked(child, stack, process, gate, pipe_back);
    close_pipe(gate);
    close_pipe(pipe_back);
    return result;
}
