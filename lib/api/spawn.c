/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls of spawn: exitbus_spawn(), and texts for its reports. */
#include "process/spawn.h"
#include "api/check.h"
#include "base/cancel.h"

#define SPAWN_FLAGS                                                                                \
    (EXITBUS_SPAWN_SEARCH_PATH | EXITBUS_SPAWN_SETSID | EXITBUS_SPAWN_SETPGROUP |                  \
     EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_SIGDEFAULT | EXITBUS_SPAWN_INHERIT_SIGMASK |            \
     EXITBUS_SPAWN_INHERIT_IGNORED)

/* --------------------------------------------------------------------------------- arguments */

static bool action_is_valid(const struct exitbus_spawn_action *action)
{
    if (action->fd < 0)
        return false;
    switch (action->kind) {
    case EXITBUS_SPAWN_OPEN:
        return action->path != NULL;
    case EXITBUS_SPAWN_DUP2:
        return action->source_fd >= 0;
    case EXITBUS_SPAWN_CLOSE:
        return true;
    default:
        return false;
    }
}

static int check_options(const struct exitbus_spawn_options *options,
                         struct exitbus_spawn_report *report)
{
    const uint32_t either_mask = EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_INHERIT_SIGMASK;
    if (!options->argv || !options->argv[0] || (options->flags & ~SPAWN_FLAGS) ||
        (options->action_count > 0 && !options->actions) ||
        (options->flags & either_mask) == either_mask ||
        ((options->flags & EXITBUS_SPAWN_SIGMASK) && !options->signal_mask) ||
        ((options->flags & EXITBUS_SPAWN_SIGDEFAULT) && !options->signal_default))
        return -EINVAL;
    for (size_t i = 0; i < options->action_count; i++)
        if (!action_is_valid(&options->actions[i])) {
            report->step = EXITBUS_SPAWN_STEP_ACTION;
            report->index = i;
            return -EINVAL;
        }
    return 0;
}

static int check_usable(struct exitbus *bus)
{
    if (bus_stale(bus))
        return -ESTALE;
    return bus_closed(bus) ? -ESHUTDOWN : 0;
}

/* Fill in the caller's report, if there is one, from what was being done at the end. */
static void fill_report(const struct exitbus_spawn_options *options,
                        const struct exitbus_spawn_report *failed, int result)
{
    if (!options->report)
        return;
    *options->report = (struct exitbus_spawn_report){0};
    if (result == 0)
        return;
    *options->report = *failed;
    options->report->error = result;
    if (failed->step != EXITBUS_SPAWN_STEP_ACTION)
        options->report->index = 0;
}

int exitbus_spawn(struct exitbus *bus, const struct exitbus_spawn_options *options, pid_t *pid,
                  struct exitbus_subscription **subscription)
{
    CHECK_ARGUMENTS(bus && options && pid);
    struct exitbus_spawn_report report = {.step = EXITBUS_SPAWN_STEP_ARGUMENTS};
    int result = check_options(options, &report);
    if (result == 0)
        result = check_usable(bus);
    if (result == 0) {
        int cancelling = cancel_disable();
        result = spawn(bus, options, pid, subscription, &report);
        cancel_restore(cancelling);
    }
    fill_report(options, &report, result);
    return result;
}

/* ------------------------------------------------------------------------------------- texts */

struct cause {
    enum exitbus_spawn_step step;
    int error;
    const char *text;
};

/* clang-format off */
static const struct cause causes[] = {
    {EXITBUS_SPAWN_STEP_ARGUMENTS, ESTALE,
     "the bus belongs to the parent process: not usable after fork"},
    {EXITBUS_SPAWN_STEP_ARGUMENTS, ESHUTDOWN, "the bus is closed"},
    {EXITBUS_SPAWN_STEP_REAPER, EINVAL,
     "no reaper runs, and no thread can be started for one: after unshare(CLONE_NEWPID) the bus "
     "needs a reaper from before, or a polled one"},
    {EXITBUS_SPAWN_STEP_REAPER, EAGAIN, "no thread can be started for the reaper"},
    {EXITBUS_SPAWN_STEP_REAPER, ENOTSUP,
     "SIGCHLD is ignored or has SA_NOCLDWAIT: set it to SIG_DFL, or use an ALL reaper"},
    {EXITBUS_SPAWN_STEP_REAPER, EXDEV, "the children of this process are reaped into another bus"},
    {EXITBUS_SPAWN_STEP_REAPER, ESHUTDOWN, "the bus is closed"},
    {EXITBUS_SPAWN_STEP_PROCESS, EAGAIN, "no process can be made: there are too many"},
    {EXITBUS_SPAWN_STEP_PROCESS, ENOMEM,
     "no process can be made: no memory, or the init of its pid namespace has ended"},
    {EXITBUS_SPAWN_STEP_PROCESS, EMFILE, "out of file descriptors in this process"},
    {EXITBUS_SPAWN_STEP_PROCESS, ENFILE, "out of file descriptors in the system"},
    {EXITBUS_SPAWN_STEP_SESSION, EPERM, "no new session: the child leads a process group"},
    {EXITBUS_SPAWN_STEP_PROCESS_GROUP, EPERM,
     "that process group is none of this session, or the child leads a session"},
    {EXITBUS_SPAWN_STEP_DIRECTORY, ENOENT, "the working directory does not exist"},
    {EXITBUS_SPAWN_STEP_DIRECTORY, ENOTDIR, "the working directory is none"},
    {EXITBUS_SPAWN_STEP_DIRECTORY, EACCES, "the working directory may not be entered"},
    {EXITBUS_SPAWN_STEP_ACTION, EINVAL, "an action is invalid"},
    {EXITBUS_SPAWN_STEP_ACTION, ENOENT, "a file to be opened for the child does not exist"},
    {EXITBUS_SPAWN_STEP_ACTION, EACCES, "a file may not be opened for the child"},
    {EXITBUS_SPAWN_STEP_ACTION, EBADF,
     "a file descriptor of an action is not open, or too high a number"},
    {EXITBUS_SPAWN_STEP_EXEC, ENOENT,
     "the program does not exist, or the interpreter that it names does not"},
    {EXITBUS_SPAWN_STEP_EXEC, ENOTDIR, "a part of the program's path is no directory"},
    {EXITBUS_SPAWN_STEP_EXEC, EACCES, "the program may not be executed"},
    {EXITBUS_SPAWN_STEP_EXEC, EPERM, "the program may not be executed"},
    {EXITBUS_SPAWN_STEP_EXEC, ENOEXEC,
     "the program has no format that the kernel knows: no executable, no #! line"},
    {EXITBUS_SPAWN_STEP_EXEC, E2BIG, "the arguments and the environment are too long"},
    {EXITBUS_SPAWN_STEP_EXEC, ETXTBSY,
     "the program is open for writing, perhaps in a child that is being started: try again"},
};
/* clang-format on */

/* For causes that are not in the table. */
static const char *step_text(enum exitbus_spawn_step step)
{
    switch (step) {
    case EXITBUS_SPAWN_STEP_NONE:
        return "success";
    case EXITBUS_SPAWN_STEP_ARGUMENTS:
        return "invalid options";
    case EXITBUS_SPAWN_STEP_REAPER:
        return "the reaper of the bus could not be started";
    case EXITBUS_SPAWN_STEP_SUBSCRIPTION:
        return "no memory for the subscription";
    case EXITBUS_SPAWN_STEP_PROCESS:
        return "no process could be made";
    case EXITBUS_SPAWN_STEP_SIGNALS:
        return "the child's signals could not be set";
    case EXITBUS_SPAWN_STEP_SESSION:
        return "the child could not make a session";
    case EXITBUS_SPAWN_STEP_PROCESS_GROUP:
        return "the child could not enter the process group";
    case EXITBUS_SPAWN_STEP_DIRECTORY:
        return "the child could not enter the working directory";
    case EXITBUS_SPAWN_STEP_ACTION:
        return "an action failed in the child";
    case EXITBUS_SPAWN_STEP_EXEC:
        return "the program could not be started";
    }
    return "unknown step";
}

const char *exitbus_spawn_strerror(const struct exitbus_spawn_report *report)
{
    if (!report)
        return exitbus_strerror(EINVAL);
    if (report->error == -EINTR)
        return exitbus_strerror(EINTR);
    for (size_t i = 0; i < sizeof causes / sizeof causes[0]; i++)
        if (causes[i].step == report->step && report->error == -causes[i].error)
            return causes[i].text;
    return step_text(report->step);
}
