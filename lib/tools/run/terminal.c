/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Job control: see run.h.
 *
 * How it works
 *   - One command gets the terminal: its group becomes the foreground one, before its program
 *     runs. With several commands the foreground stays ours, so that ^C comes here, and to all.
 *   - The terminal is given only while our own group is the foreground one. A job in the
 *     background takes nothing from a shell.
 *   - A command that stops, as by ^Z, has its parent stop as well, so that a shell sees a job that
 *     has stopped. The kernel discards that SIGTSTP where no shell could continue us. There the
 *     command is continued at once, since nobody else would.
 *   - With --session the command has the terminal as its controlling one. Only the leader of a
 *     session can give that away. The kernel then sends SIGHUP and SIGCONT, which are dropped.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Take a pending signal. Returns whether it was there. */
static bool drop_pending(int signal)
{
    static const struct timespec none;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return sigtimedwait(&set, NULL, &none) == signal;
}

static bool is_pending(int signal)
{
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, signal) == 1;
}

/* Give up the controlling terminal. Returns whether that was ours to do. */
static bool give_up_terminal(int fd)
{
    bool hup = is_pending(SIGHUP), cont = is_pending(SIGCONT); /* from outside */
    if (getsid(0) != getpid() || ioctl(fd, TIOCNOTTY) < 0)
        return false;
    if (!hup)
        drop_pending(SIGHUP);
    if (!cont)
        drop_pending(SIGCONT);
    return true;
}

void terminal_find(struct run *run)
{
    pid_t ours = getpgrp(); /* 0: that of another pid namespace */
    for (int fd = 0; fd <= STDERR_FILENO && run->count == 1 && run->terminal < 0; fd++)
        if (ours > 0 && tcgetpgrp(fd) == ours)
            run->terminal = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (run->terminal >= 0 && run->options.session && !give_up_terminal(run->terminal)) {
        close(run->terminal);
        run->terminal = -1;
    }
}

bool terminal_is_ours(const struct run *run)
{
    return run->terminal >= 0 && (run->options.session || tcgetpgrp(run->terminal) == getpgrp());
}

void terminal_give(struct run *run)
{
    const struct command *command = run->commands;
    if (run->options.session || command->state != COMMAND_RUNNING || !terminal_is_ours(run))
        return;
    if (tcsetpgrp(run->terminal, command->pid) == 0)
        run->terminal_group = command->pid;
}

void terminal_take_back(struct run *run)
{
    if (run->terminal < 0 || run->options.session || run->terminal_group == 0)
        return;
    pid_t foreground = tcgetpgrp(run->terminal);
    bool gone = foreground > 0 && kill(-foreground, 0) < 0 && errno == ESRCH;
    if (foreground == run->terminal_group || gone)
        tcsetpgrp(run->terminal, getpgrp());
    run->terminal_group = 0;
}

void terminal_start_failed(struct run *run)
{
    if (!run->options.session)
        tcsetpgrp(run->terminal, getpgrp());
}

bool terminal_stop(void)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    kill(getpid(), SIGTSTP);
    sigprocmask(SIG_UNBLOCK, &stop, NULL);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    return drop_pending(SIGCONT);
}

void terminal_look(struct run *run)
{
    struct command *command = run->commands;
    siginfo_t info = {0};
    if (run->terminal < 0 || run->options.session || command->state != COMMAND_RUNNING ||
        waitid(P_PID, (id_t)command->pid, &info, WSTOPPED | WNOHANG) != 0 || info.si_pid == 0)
        return;
    int signal = info.si_status;
    bool wants_it = signal == SIGTTIN || signal == SIGTTOU;
    if (signal == SIGSTOP) /* somebody wants it to stand still, and nothing else */
        return;
    if (!(wants_it && terminal_is_ours(run)) && !terminal_stop() && wants_it)
        return;
    terminal_give(run);
    signals_send(run, command, SIGCONT);
}
