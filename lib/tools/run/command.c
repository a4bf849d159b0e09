/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One command: its start, its exit, and what follows. See run.h.
 *
 * How it works
 *   - A command is RUNNING until its process exits, then ENDING until its group is empty. What is
 *     left in the group gets SIGTERM, and later SIGKILL: see ending.c.
 *   - Then the policy decides: it waits for its next start, or it is over.
 *   - The exit status is decided by commands that are over, as --until says. Those that are ended
 *     here come too late to decide.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------------- start */

static void describe(const struct run *run, const struct command *command, int child_fd,
                     struct exitbus_spawn_options *options,
                     struct exitbus_spawn_attributes *attributes,
                     struct exitbus_spawn_action *action)
{
    options->argv = command->argv;
    options->flags = EXITBUS_SPAWN_SEARCH_PATH | EXITBUS_SPAWN_SHELL | EXITBUS_SPAWN_ATTRIBUTES |
                     EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_INHERIT_IGNORED |
                     (run->options.session ? EXITBUS_SPAWN_SETSID : EXITBUS_SPAWN_SETPGROUP);
    options->signal_mask = &run->inherited_mask;
    options->attributes = attributes;
    if (child_fd >= 0) {
        *action = (struct exitbus_spawn_action){
            .kind = EXITBUS_SPAWN_DUP2, .fd = run->options.ready_fd, .source_fd = child_fd};
        options->actions = action;
        options->action_count = 1;
    }
    if (terminal_is_ours(run)) {
        attributes->set |=
            run->options.session ? EXITBUS_ATTRIBUTE_TERMINAL : EXITBUS_ATTRIBUTE_FOREGROUND;
        attributes->terminal_fd = run->terminal;
    }
    if (command->cgroup_fd >= 0) {
        attributes->set |= EXITBUS_ATTRIBUTE_CGROUP;
        attributes->cgroup_fd = command->cgroup_fd;
    }
}

static int spawn(struct run *run, struct command *command, struct exitbus_spawn_report *report)
{
    struct exitbus_spawn_attributes attributes = {0};
    struct exitbus_spawn_options options = {.report = report};
    struct exitbus_spawn_action action;
    int child_fd = -1;
    int result = ready_open(run, command, &child_fd);
    if (result < 0)
        return result;
    describe(run, command, child_fd, &options, &attributes, &action);
    char **environment = ready_environment(run, command);
    options.envp = environment;
    result = exitbus_process_spawn(run->bus, &options, &command->process);
    free(environment);
    if (child_fd >= 0)
        close(child_fd);
    if (result < 0)
        ready_close(command);
    return result;
}

static int code_of(int error, const struct exitbus_spawn_report *report)
{
    if (report->step != EXITBUS_SPAWN_STEP_EXEC)
        return CODE_OURS;
    return error == -ENOENT || error == -ENOTDIR ? CODE_NOT_FOUND : CODE_NOT_STARTED;
}

static void tell_failure(const struct command *command, int error,
                         const struct exitbus_spawn_report *report)
{
    if (report->step == EXITBUS_SPAWN_STEP_EXEC)
        say(SAY_ERROR, "%s: %s", command->argv[0], strerror(-error));
    else
        say(SAY_ERROR, "%s: %s: %s", command->argv[0], exitbus_spawn_strerror(report),
            strerror(-error));
}

/* Start it. Returns 0; or the exit code that says why it can't be started, which was told. */
static int start(struct run *run, struct command *command)
{
    struct exitbus_spawn_report report = {0};
    bool has_terminal = terminal_is_ours(run);
    command->starts++;
    command->started_ns = loop_now();
    command->told = command->killed = command->by_number = false;
    command->asked = command->emptied = false;
    snprintf(command->name, sizeof command->name, "%u.%u", command->number, command->starts);
    int result = spawn(run, command, &report);
    if (result < 0) {
        command->process = NULL;
        if (has_terminal)
            terminal_start_failed(run);
        command->code = code_of(result, &report);
        tell_failure(command, result, &report);
        log_not_started(run, command, result);
        return command->code;
    }
    command->state = COMMAND_RUNNING;
    command->pid = exitbus_process_pid(command->process);
    run->terminal_group = has_terminal ? command->pid : 0;
    ending_prepare(run, command);
    log_start(run, command);
    ready_started(run, command);
    return 0;
}

/* ---------------------------------------------------------------------------------------- exit */

void command_exited(struct run *run, struct command *command, const struct exitbus_event *event)
{
    int code = event->exit_code >= 0 ? event->exit_code : CODE_OURS; /* the status was lost */
    command->code = run->options.map[code % RUN_CODES];
    command->exit_seq = event->seq;
    command->state = COMMAND_ENDING;
    log_exit(run, command, event);
    ready_read(run, command); /* what it has told before */
    ready_close(command);
    ending_leftovers(run, command);
}

/* Its code is the exit status, unless that of one that has exited before it is. */
static void decide(struct run *run, const struct command *command)
{
    if (command->exit_seq >= run->status_seq)
        return;
    run->status = command->code;
    run->status_seq = command->exit_seq;
}

static void be_over(struct run *run, struct command *command)
{
    bool was_started = command->starts > 0;
    command->state = COMMAND_OVER;
    run->left--;
    enum run_until until = run->options.until;
    if ((until == UNTIL_FIRST && was_started) || (until == UNTIL_MAIN && command->number == 1)) {
        decide(run, command);
        command_end_all(run);
    } else if (until == UNTIL_ALL && command->code != 0) {
        decide(run, command);
    }
}

void command_start_all(struct run *run)
{
    for (size_t i = 0; i < run->count && !run->all_told; i++)
        if (start(run, &run->commands[i]) != 0) {
            decide(run, &run->commands[i]);
            be_over(run, &run->commands[i]);
            command_end_all(run);
        }
}

/* --------------------------------------------------------------------------------------- again */

/* Note a death. Returns whether there were too many. */
static bool died_too_often(const struct run_options *options, struct command *command, int64_t now)
{
    uint64_t size = (uint64_t)options->tally_deaths;
    if (size == 0)
        return false;
    command->deaths[command->death_count++ % size] = now;
    return command->death_count >= size &&
           now - command->deaths[command->death_count % size] <= options->tally_ns;
}

/* Wait before the next start: twice as long as before, unless it has run for long. */
static void back_off(const struct run_options *options, struct command *command, int64_t now)
{
    if (command->backoff_ns == 0 || now - command->started_ns >= options->backoff_to_ns)
        command->backoff_ns = options->backoff_from_ns;
    command->due_ns = now + command->backoff_ns;
    command->backoff_ns *= 2;
    if (command->backoff_ns > options->backoff_to_ns)
        command->backoff_ns = options->backoff_to_ns;
    command->state = COMMAND_WAITING;
}

static void start_or_back_off(struct run *run, struct command *command)
{
    const struct run_options *options = &run->options;
    int64_t now = loop_now();
    bool wanted = options->restart == RESTART_ALWAYS ||
                  (options->restart == RESTART_ON_FAILURE && command->code != 0);
    if (run->all_told && wanted)
        command->exit_seq = UINT64_MAX; /* it is over because all end: too late to decide */
    if (run->stopping || !wanted) {
        be_over(run, command);
        return;
    }
    if (!died_too_often(options, command, now)) {
        back_off(options, command, now);
        return;
    }
    say(SAY_ERROR, "%s (%u) died %lld times too fast: it is given up", command->argv[0],
        command->number, (long long)options->tally_deaths);
    log_word(run, "given-up", command);
    if (command->code == 0)
        command->code = 1;
    be_over(run, command);
}

void command_finished(struct run *run, struct command *command)
{
    exitbus_group_unref(command->group);
    exitbus_process_unref(command->process);
    command->group = NULL;
    command->process = NULL;
    command->pid = 0;
    terminal_take_back(run);
    start_or_back_off(run, command);
}

void command_look(struct run *run, struct command *command, int64_t now)
{
    if (command->state == COMMAND_WAITING && now >= command->due_ns && start(run, command) != 0)
        start_or_back_off(run, command);
    if (command->state == COMMAND_ENDING)
        ending_look(run, command, now);
}

void command_give_up(struct run *run, struct command *command)
{
    if (command->state == COMMAND_WAITING || command->state == COMMAND_NEW)
        be_over(run, command);
}

void command_end_all(struct run *run)
{
    if (run->all_told)
        return;
    bool was_stopping = run->stopping; /* then those that wait are over by a signal, as others */
    run->stopping = run->all_told = true;
    for (size_t i = 0; i < run->count; i++) {
        struct command *command = &run->commands[i];
        if (command->state == COMMAND_WAITING && !was_stopping)
            command->exit_seq = UINT64_MAX; /* it was to go on: it does not decide */
        if (command->state == COMMAND_RUNNING && !command->asked)
            ending_begin(run, command, SIGTERM, run->options.grace_ns);
        command_give_up(run, command);
    }
}
