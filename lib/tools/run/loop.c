/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The one loop, in one thread: see run.h.
 *
 * How it works
 *   - The reaper has no thread (EXITBUS_REAPER_POLLED). SIGCHLD stays blocked, and each one makes a
 *     call of exitbus_reaper_poll(), which looks for children in any case.
 *   - While all commands run, and nothing but signals can happen, the loop sleeps for a signal.
 *     Else it polls, too: the reaper's descriptor, what tells readiness, and times.
 *   - An exit that can't be published for lack of memory stays a zombie, and is tried again by a
 *     later poll. In a sleep for signals the reaper's timer is not seen. So there is a reminder
 *     within a second of SIGCHLD, and further ones while there is a zombie, or an event that lacks
 *     memory to be received. At rest none comes.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How often a group that the kernel can't tell of is looked at. */
#define LOOK_NS (SECOND_NS / 20)

int64_t loop_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* --------------------------------------------------------------------------------------- exits */

static struct command *find_command(struct run *run, pid_t pid)
{
    for (size_t i = 0; i < run->count; i++)
        if (run->commands[i].pid == pid && run->commands[i].state == COMMAND_RUNNING)
            return &run->commands[i];
    return NULL;
}

/* The command whose group has that name. One of an earlier start has another. */
static struct command *find_name(struct run *run, const char *name)
{
    unsigned long number = strtoul(name, NULL, 10);
    struct command *command =
        number > 0 && number <= run->count ? &run->commands[number - 1] : NULL;
    return command && strcmp(command->name, name) == 0 ? command : NULL;
}

static void take_event(struct run *run, const struct exitbus_event *event)
{
    if (event->kind == EXITBUS_EVENT_EMPTY) {
        struct command *command = find_name(run, event->container_id);
        if (command)
            ending_empty(run, command);
    } else if (event->kind == EXITBUS_EVENT_PID) {
        struct command *command = find_command(run, event->pid);
        if (command)
            command_exited(run, command, event);
        else
            say(SAY_DEBUG, "reaped %d, an orphan, which exited with %d", event->pid,
                event->exit_code);
    }
}

/* Returns false if an exit lacks memory to be received. */
static bool collect(struct run *run)
{
    struct exitbus_event event;
    int result = exitbus_reaper_poll(run->reaper);
    if (result < 0) {
        say(SAY_ERROR, "exits can't be collected any more: %s", exitbus_strerror(result));
        _exit(CODE_OURS);
    }
    while ((result = exitbus_receive(run->events, &event, 0)) == 0)
        take_event(run, &event);
    terminal_look(run);
    return result != -ENOMEM;
}

static bool zombie_is_left(void)
{
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

/* Collect, and see to a reminder. */
static void look_at_exits(struct run *run, enum look look)
{
    bool all = collect(run);
    if (run->reminder_comes || (look == LOOK_REMINDED && all && !zombie_is_left()))
        return;
    signals_remind(run);
}

/* ---------------------------------------------------------------------------------------- sleep */

static bool only_signals_come(const struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        const struct command *command = &run->commands[i];
        if (command->state != COMMAND_RUNNING && command->state != COMMAND_OVER)
            return false;
        if (command->told || command->ready_pipe >= 0 || command->ready_socket >= 0)
            return false;
    }
    return true;
}

/* Returns when a command is to be looked at, or INT64_MAX. */
static int64_t next_look(const struct run *run, int64_t now)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < run->count; i++) {
        const struct command *command = &run->commands[i];
        bool ending = command->state == COMMAND_ENDING;
        int64_t due = ending || command->state == COMMAND_WAITING ? command->due_ns : INT64_MAX;
        if (ending && command->by_number && due > now + LOOK_NS)
            due = now + LOOK_NS;
        next = due < next ? due : next;
    }
    return next;
}

static void wait_until(struct pollfd *fds, nfds_t count, int64_t now, int64_t next)
{
    int64_t ns = next > now ? next - now : 0;
    const struct timespec timeout = {.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
    ppoll(fds, count, next == INT64_MAX ? NULL : &timeout, NULL);
}

/* Poll everything. Returns what is to be looked at. */
static enum look poll_all(struct run *run, struct pollfd *fds)
{
    enum look look = LOOK_NOT;
    size_t count = 0;
    fds[count++] = (struct pollfd){.fd = run->signal_fd, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = exitbus_reaper_fd(run->reaper), .events = POLLIN};
    for (size_t i = 0; i < run->count; i++) {
        fds[count++] = (struct pollfd){.fd = run->commands[i].ready_pipe, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = run->commands[i].ready_socket, .events = POLLIN};
    }
    int64_t now = loop_now();
    wait_until(fds, count, now, next_look(run, now));
    for (size_t i = 0; i < run->count; i++) {
        if (fds[2 + READY_FDS * i].revents || fds[3 + READY_FDS * i].revents)
            ready_read(run, &run->commands[i]);
    }
    if (fds[1].revents)
        look = LOOK_NEWS;
    if (fds[0].revents)
        while (signals_take(run, false, &look))
            continue;
    return look;
}

void loop_run(struct run *run)
{
    struct pollfd *fds = calloc(2 + READY_FDS * run->count, sizeof *fds);
    if (!fds) {
        say(SAY_ERROR, "%s", strerror(ENOMEM));
        _exit(CODE_OURS);
    }
    while (run->left > 0) {
        enum look look = LOOK_NOT;
        if (only_signals_come(run))
            signals_take(run, true, &look);
        else
            look = poll_all(run, fds);
        if (look != LOOK_NOT)
            look_at_exits(run, look);
        int64_t now = loop_now();
        for (size_t i = 0; i < run->count; i++)
            command_look(run, &run->commands[i], now);
    }
    free(fds);
}
