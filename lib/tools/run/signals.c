/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Signals from outside, and where they go: see run.h.
 *
 * How it works
 *   - All signals are blocked for good, and are taken by sigtimedwait(): no handler runs. That is
 *     also the cheapest sleep there is, and SIGCHLD ends it.
 *   - A reminder is a SIGCHLD that a timer sends: see loop.c.
 *   - SIGPIPE or SIGXFSZ that a write of our own has caused is no signal from outside.
 *   - A stop signal of a process stops this one by SIGSTOP: the sender can continue it. One of the
 *     terminal stops it only if a shell can continue it; else the commands are continued at once.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static sigset_t all_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    return all;
}

/* A handler, so that SIGCHLD also tells of children that stop: the reaper keeps its flags. */
static void never(int signal)
{
    (void)signal; /* it stays blocked */
}

sigset_t signals_block(void)
{
    const struct sigaction action = {.sa_handler = never};
    sigset_t all = all_signals(), before;
    sigprocmask(SIG_SETMASK, &all, &before);
    sigaction(SIGCHLD, &action, NULL);
    return before;
}

void signals_remind(struct run *run)
{
    static timer_t timer;
    static bool made;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCHLD};
    const struct itimerspec second = {.it_value = {.tv_sec = 1}};
    made = made || timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
    run->reminder_comes = made && timer_settime(timer, 0, &second, NULL) == 0;
}

void signals_send(struct run *run, const struct command *command, int signal)
{
    uint32_t flags = run->options.child_only ? 0 : EXITBUS_SIGNAL_GROUP;
    int result = exitbus_process_signal(command->process, signal, flags);
    if (result < 0 && command->state == COMMAND_ENDING && command->by_number)
        result = kill(-command->pid, signal) < 0 ? -errno : 0;
    say(SAY_DEBUG, "SIG%s to %s (%u): %s", words_signal_name(signal), command->argv[0],
        command->number, result < 0 ? exitbus_strerror(result) : "sent");
}

static bool is_stop(int signal)
{
    return signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

static bool is_end(int signal)
{
    return signal == SIGTERM || signal == SIGINT || signal == SIGQUIT;
}

/* What is passed on. A session has no shell that could stop and continue it: it is made to stop. */
static int rewritten(const struct run_options *options, int signal)
{
    int to = options->rewrite[signal];
    return options->session && is_stop(signal) && to == signal ? SIGSTOP : to;
}

static void pass_on(struct run *run, struct command *command, int signal, int to)
{
    if (command->state != COMMAND_RUNNING && command->state != COMMAND_ENDING)
        return;
    if (signal == SIGTERM && to == SIGTERM)
        command->asked = true;
    if (signal == SIGTERM && run->options.grace_given)
        ending_begin(run, command, to, run->options.grace_ns);
    else
        signals_send(run, command, to);
}

/* Stop behind the commands. SIGCONT from outside is passed on. */
static void stop(struct run *run, bool by_terminal)
{
    if (!by_terminal) {
        kill(getpid(), SIGSTOP);
        return;
    }
    int to = terminal_stop() ? run->options.rewrite[SIGCONT] : SIGCONT;
    terminal_give(run);
    for (size_t i = 0; i < run->count && to != 0; i++)
        pass_on(run, &run->commands[i], SIGCONT, to);
}

static void from_outside(struct run *run, const siginfo_t *info)
{
    int signal = info->si_signo;
    int to = rewritten(&run->options, signal);
    say(SAY_DEBUG, "got SIG%s", words_signal_name(signal));
    if (to == 0)
        return;
    if (is_end(signal))
        run->stopping = true;
    if (signal == SIGCONT)
        terminal_give(run);
    for (size_t i = 0; i < run->count; i++)
        pass_on(run, &run->commands[i], signal, to);
    for (size_t i = 0; i < run->count && is_end(signal); i++)
        command_give_up(run, &run->commands[i]); /* which may end the others */
    if (is_stop(signal))
        stop(run, info->si_code == SI_KERNEL);
}

/* Has a write of our own caused it? */
static bool is_of_a_write(const siginfo_t *info)
{
    return (info->si_signo == SIGPIPE || info->si_signo == SIGXFSZ) && info->si_pid == getpid();
}

bool signals_take(struct run *run, bool wait, enum look *look)
{
    static const struct timespec none;
    sigset_t all = all_signals();
    siginfo_t info;
    int signal = sigtimedwait(&all, &info, wait ? NULL : &none);
    if (signal < 0)
        return false;
    if (signal != SIGCHLD) {
        if (!is_of_a_write(&info))
            from_outside(run, &info);
    } else if (info.si_code != SI_TIMER) {
        *look = LOOK_NEWS;
    } else {
        run->reminder_comes = false;
        *look = *look == LOOK_NOT ? LOOK_REMINDED : *look;
    }
    return true;
}
