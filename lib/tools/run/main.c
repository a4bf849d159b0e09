/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Begin and end: see run.h.
 *
 * Signals are blocked first, so that one that comes before a command is started is passed on to it.
 * At the end the bus is not destroyed: the process ends with it, and an init is not to wait.
 */
#include "tools/run/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Take the numbers 0 to 2, where they are free: nothing of ours may lie there. Commands find them
 * as they were, since these are closed on exec. */
static void fill_low_fds(void)
{
    int fd;
    do
        fd = open("/", O_PATH | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static bool fail(const char *what, int error)
{
    say(SAY_ERROR, "%s: %s", what, exitbus_strerror(error));
    return false;
}

/* ------------------------------------------------------------------------------------- commands */

static size_t count_commands(const struct run_options *options)
{
    size_t count = 1;
    for (char **word = options->words; *word; word++)
        count += strcmp(*word, options->separator) == 0;
    return count;
}

static bool add_command(struct run *run, char **argv)
{
    struct command *command = &run->commands[run->count++];
    if (!*argv)
        return fail("a command has no words", EINVAL);
    *command = (struct command){.argv = argv,
                                .number = (unsigned)run->count,
                                .cgroup_fd = -1,
                                .ready_pipe = -1,
                                .ready_socket = -1};
    if (run->options.tally_deaths == 0)
        return true;
    command->deaths = calloc((size_t)run->options.tally_deaths, sizeof *command->deaths);
    return command->deaths || fail("--tally", ENOMEM);
}

/* Cut the words where separators stand. */
static bool make_commands(struct run *run)
{
    size_t count = count_commands(&run->options);
    run->commands = calloc(count, sizeof *run->commands);
    if (!run->commands)
        return fail("commands", ENOMEM);
    for (char **word = run->options.words; run->count < count; word++) {
        char **first = word;
        while (*word && strcmp(*word, run->options.separator) != 0)
            word++;
        *word = NULL;
        if (!add_command(run, first))
            return false;
    }
    run->left = run->count;
    return true;
}

/* ---------------------------------------------------------------------------------------- begin */

static bool open_record(struct run *run, struct exitbus_reaper_options *options)
{
    const char *path = run->options.record;
    if (!path)
        return true;
    options->record_fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    options->flags |= EXITBUS_REAPER_RECORD;
    return options->record_fd >= 0 || fail(path, errno);
}

static bool start_bus(struct run *run)
{
    struct exitbus_reaper_options options = {
        .mode = EXITBUS_REAPER_ALL,
        .flags = EXITBUS_REAPER_POLLED | (run->options.subreaper ? EXITBUS_REAPER_SUBREAPER : 0)};
    if (!open_record(run, &options))
        return false;
    int result = exitbus_create(&run->bus, NULL);
    if (result < 0)
        return fail("no bus", result);
    result = exitbus_subscribe(run->bus, exitbus_topic_all(), 0, &run->events);
    if (result < 0)
        return fail("no subscription", result);
    result = exitbus_reaper_start(run->bus, &options, &run->reaper);
    if (run->options.record)
        close(options.record_fd); /* the reaper has a copy */
    return result == 0 || fail("no reaper", result);
}

static bool set_parent_death(const struct run_options *options)
{
    return options->parent_death == 0 ||
           prctl(PR_SET_PDEATHSIG, (unsigned long)options->parent_death) == 0 ||
           fail("--parent-death", errno);
}

static bool open_signals(struct run *run)
{
    sigset_t all;
    sigfillset(&all);
    run->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    return run->signal_fd >= 0 || fail("signalfd", errno);
}

static bool open_ready_to(struct run *run)
{
    int fd = run->options.ready_to;
    if (fd > STDERR_FILENO && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return fail("--ready-to", errno);
    if (fd >= 0)
        run->options.ready_to = log_own(fd);
    return true;
}

static void warn_of_orphans(void)
{
    int subreaper = 0;
    if (getpid() != 1 && prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && !subreaper)
        say(SAY_WARNING,
            "this is neither PID 1 nor a subreaper (--subreaper): orphans go elsewhere");
}

static bool begin(struct run *run)
{
    if (!make_commands(run) || !set_parent_death(&run->options) || !log_open(run) ||
        !open_ready_to(run))
        return false;
    log_own_messages();
    return open_signals(run) && start_bus(run) && ending_open_cgroups(run);
}

/* Keep no directory busy. A command that is started again needs the one where it was started. */
static void leave_directory(const struct run *run)
{
    if (run->options.restart == RESTART_NEVER && chdir("/") < 0)
        say(SAY_WARNING, "/: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    struct run run = {.signal_fd = -1,
                      .terminal = -1,
                      .start_fd = AT_FDCWD,
                      .log_fd = -1,
                      .status_seq = UINT64_MAX};
    run.inherited_mask = signals_block();
    fill_low_fds();
    int status = options_read(&run.options, argc, argv);
    if (status >= 0)
        return status;
    if (begin(&run)) {
        warn_of_orphans();
        terminal_find(&run);
        command_start_all(&run);
        leave_directory(&run);
        loop_run(&run);
        terminal_take_back(&run);
    } else {
        run.status = CODE_OURS;
    }
    ending_remove_cgroups(&run);
    _exit(run.status);
}
