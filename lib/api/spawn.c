/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls of spawn: exitbus_spawn(), and texts for its reports. */
#include "process/spawn.h"
#include "api/check.h"
#include "base/cancel.h"

#define SPAWN_FLAGS                                                                                \
    (EXITBUS_SPAWN_SEARCH_PATH | EXITBUS_SPAWN_SETSID | EXITBUS_SPAWN_SETPGROUP |                  \
     EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_SIGDEFAULT | EXITBUS_SPAWN_INHERIT_SIGMASK |            \
     EXITBUS_SPAWN_INHERIT_IGNORED | EXITBUS_SPAWN_ATTRIBUTES | EXITBUS_SPAWN_NO_NEW_PRIVS |       \
     EXITBUS_SPAWN_CHILD_PATH | EXITBUS_SPAWN_SHELL | EXITBUS_SPAWN_DIRECT)
#define ATTRIBUTES                                                                                 \
    (EXITBUS_ATTRIBUTE_UID | EXITBUS_ATTRIBUTE_GID | EXITBUS_ATTRIBUTE_GROUPS |                    \
     EXITBUS_ATTRIBUTE_UMASK | EXITBUS_ATTRIBUTE_NICE | EXITBUS_ATTRIBUTE_SCHEDULER |              \
     EXITBUS_ATTRIBUTE_CPUS | EXITBUS_ATTRIBUTE_LIMITS | EXITBUS_ATTRIBUTE_DEATH_SIGNAL |          \
     EXITBUS_ATTRIBUTE_CGROUP | EXITBUS_ATTRIBUTE_NAMESPACES | EXITBUS_ATTRIBUTE_ROOT |            \
     EXITBUS_ATTRIBUTE_TERMINAL | EXITBUS_ATTRIBUTE_FOREGROUND | EXITBUS_ATTRIBUTE_PROGRAM_FD |    \
     EXITBUS_ATTRIBUTE_PIDFD)
/* CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID and NEWNET. */
#define NAMESPACES ((uint64_t)0x6e020000)

/* --------------------------------------------------------------------------------- arguments */

static bool action_is_valid(const struct exitbus_spawn_action *action)
{
    if (action->kind == EXITBUS_SPAWN_CHDIR)
        return action->path != NULL;
    if (action->fd < 0)
        return false;
    switch (action->kind) {
    case EXITBUS_SPAWN_OPEN:
        return action->path != NULL;
    case EXITBUS_SPAWN_DUP2:
        return action->source_fd >= 0;
    case EXITBUS_SPAWN_CLOSE:
    case EXITBUS_SPAWN_FCHDIR:
    case EXITBUS_SPAWN_CLOSE_FROM:
    case EXITBUS_SPAWN_NULL:
        return true;
    default:
        return false;
    }
}

static bool limits_are_valid(const struct exitbus_spawn_attributes *attributes)
{
    if (attributes->limit_count > 0 && !attributes->limits)
        return false;
    for (size_t i = 0; i < attributes->limit_count; i++)
        if (attributes->limits[i].resource < 0 ||
            attributes->limits[i].soft > attributes->limits[i].hard)
            return false;
    return true;
}

static bool attributes_are_valid(const struct exitbus_spawn_options *options)
{
    if (!(options->flags & EXITBUS_SPAWN_ATTRIBUTES))
        return true;
    const struct exitbus_spawn_attributes *attributes = options->attributes;
    if (!attributes || (attributes->set & ~ATTRIBUTES))
        return false;
    uint32_t set = attributes->set;
    /* Each part: it is not set, or it is valid. */
    return (!(set & EXITBUS_ATTRIBUTE_UID) || attributes->uid != (uid_t)-1) &&
           (!(set & EXITBUS_ATTRIBUTE_GID) || attributes->gid != (gid_t)-1) &&
           (!(set & EXITBUS_ATTRIBUTE_GROUPS) || attributes->group_count == 0 ||
            attributes->groups) &&
           (!(set & EXITBUS_ATTRIBUTE_UMASK) || (attributes->umask & ~(mode_t)0777) == 0) &&
           (!(set & EXITBUS_ATTRIBUTE_NICE) ||
            (attributes->nice >= -20 && attributes->nice <= 19)) &&
           (!(set & EXITBUS_ATTRIBUTE_SCHEDULER) || attributes->scheduler >= 0) &&
           (!(set & EXITBUS_ATTRIBUTE_CPUS) || (attributes->cpus && attributes->cpus_size > 0)) &&
           (!(set & EXITBUS_ATTRIBUTE_LIMITS) || limits_are_valid(attributes)) &&
           (!(set & EXITBUS_ATTRIBUTE_DEATH_SIGNAL) ||
            (attributes->death_signal > 0 && attributes->death_signal <= SIGRTMAX)) &&
           (!(set & EXITBUS_ATTRIBUTE_CGROUP) || attributes->cgroup_fd >= 0) &&
           (!(set & EXITBUS_ATTRIBUTE_NAMESPACES) || (attributes->namespaces & ~NAMESPACES) == 0) &&
           (!(set & EXITBUS_ATTRIBUTE_ROOT) || attributes->root) &&
           (!(set & EXITBUS_ATTRIBUTE_TERMINAL) ||
            (attributes->terminal_fd >= 0 && (options->flags & EXITBUS_SPAWN_SETSID))) &&
           (!(set & EXITBUS_ATTRIBUTE_FOREGROUND) || attributes->terminal_fd >= 0) &&
           (!(set & EXITBUS_ATTRIBUTE_PROGRAM_FD) ||
            (attributes->program_fd >= 0 && !(options->flags & EXITBUS_SPAWN_SHELL))) &&
           (!(set & EXITBUS_ATTRIBUTE_PIDFD) || attributes->pidfd);
}

static int check_options(const struct exitbus_spawn_options *options,
                         struct exitbus_spawn_report *report)
{
    const uint32_t either_mask = EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_INHERIT_SIGMASK;
    if (!options->argv || !options->argv[0] || (options->flags & ~SPAWN_FLAGS) ||
        (options->action_count > 0 && !options->actions) ||
        (options->flags & either_mask) == either_mask ||
        ((options->flags & EXITBUS_SPAWN_SIGMASK) && !options->signal_mask) ||
        ((options->flags & EXITBUS_SPAWN_SIGDEFAULT) && !options->signal_default) ||
        !attributes_are_valid(options))
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
    if (failed->step != EXITBUS_SPAWN_STEP_ACTION && failed->step != EXITBUS_SPAWN_STEP_LIMIT)
        options->report->index = 0;
}

static int spawn_checked(struct exitbus *bus, const struct exitbus_spawn_options *options,
                         const struct spawn_results *results)
{
    struct exitbus_spawn_report report = {.step = EXITBUS_SPAWN_STEP_ARGUMENTS};
    int result = check_options(options, &report);
    if (result == 0 && (options->flags & EXITBUS_SPAWN_DIRECT) && !results->process)
        result = -EINVAL; /* the thread that waits needs a handle */
    if (result == 0)
        result = check_usable(bus);
    if (result == 0) {
        int cancelling = cancel_disable();
        result = spawn(bus, options, results, &report);
        cancel_restore(cancelling);
    }
    fill_report(options, &report, result);
    return result;
}

int exitbus_spawn(struct exitbus *bus, const struct exitbus_spawn_options *options, pid_t *pid,
                  struct exitbus_subscription **subscription)
{
    CHECK_ARGUMENTS(bus && options && pid);
    return spawn_checked(bus, options, &(struct spawn_results){pid, subscription, NULL});
}

int exitbus_process_spawn(struct exitbus *bus, const struct exitbus_spawn_options *options,
                          struct exitbus_process **process)
{
    CHECK_ARGUMENTS(bus && options && process);
    return spawn_checked(bus, options, &(struct spawn_results){NULL, NULL, process});
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
    {EXITBUS_SPAWN_STEP_TERMINAL, ENOTTY, "the descriptor is of no terminal, or of another one"},
    {EXITBUS_SPAWN_STEP_TERMINAL, EPERM, "the terminal belongs to another session"},
    {EXITBUS_SPAWN_STEP_CGROUP, ENOENT, "the cgroup was removed, or is none"},
    {EXITBUS_SPAWN_STEP_CGROUP, EBUSY, "the cgroup has controllers for its own cgroups"},
    {EXITBUS_SPAWN_STEP_CGROUP, EOPNOTSUPP, "the cgroup is threaded: it takes no process"},
    {EXITBUS_SPAWN_STEP_CGROUP, EACCES, "processes may not be put into the cgroup"},
    {EXITBUS_SPAWN_STEP_NAMESPACES, EPERM, "new namespaces take privileges"},
    {EXITBUS_SPAWN_STEP_NAMESPACES, ENOSPC, "there are too many namespaces"},
    {EXITBUS_SPAWN_STEP_ROOT, EPERM, "a new root takes privileges"},
    {EXITBUS_SPAWN_STEP_ROOT, ENOENT, "the new root does not exist"},
    {EXITBUS_SPAWN_STEP_LIMIT, EPERM, "a hard limit may not be raised"},
    {EXITBUS_SPAWN_STEP_LIMIT, EINVAL, "there is no such limit"},
    {EXITBUS_SPAWN_STEP_NICE, EACCES, "priority may not be raised"},
    {EXITBUS_SPAWN_STEP_SCHEDULER, EPERM, "the scheduling class takes privileges"},
    {EXITBUS_SPAWN_STEP_SCHEDULER, EINVAL, "no such scheduling class, or no such priority in it"},
    {EXITBUS_SPAWN_STEP_CPUS, EINVAL, "none of the CPUs may be used by this process"},
    {EXITBUS_SPAWN_STEP_GROUPS, EPERM, "supplementary groups may not be set"},
    {EXITBUS_SPAWN_STEP_GID, EPERM, "the group id may not be set"},
    {EXITBUS_SPAWN_STEP_UID, EPERM, "the user id may not be set"},
    {EXITBUS_SPAWN_STEP_UID, EAGAIN, "the user has too many processes"},
    {EXITBUS_SPAWN_STEP_DEATH_SIGNAL, ESRCH, "the parent had ended before"},
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
    case EXITBUS_SPAWN_STEP_TERMINAL:
        return "the child could not take the terminal";
    case EXITBUS_SPAWN_STEP_CGROUP:
        return "the child could not enter the cgroup";
    case EXITBUS_SPAWN_STEP_NAMESPACES:
        return "the child's namespaces could not be made";
    case EXITBUS_SPAWN_STEP_ROOT:
        return "the child could not change its root";
    case EXITBUS_SPAWN_STEP_LIMIT:
        return "a limit could not be set";
    case EXITBUS_SPAWN_STEP_NICE:
        return "the child's priority could not be set";
    case EXITBUS_SPAWN_STEP_SCHEDULER:
        return "the child's scheduling class could not be set";
    case EXITBUS_SPAWN_STEP_CPUS:
        return "the child's CPUs could not be set";
    case EXITBUS_SPAWN_STEP_GROUPS:
        return "the child's groups could not be set";
    case EXITBUS_SPAWN_STEP_GID:
        return "the child's group id could not be set";
    case EXITBUS_SPAWN_STEP_UID:
        return "the child's user id could not be set";
    case EXITBUS_SPAWN_STEP_NO_NEW_PRIVS:
        return "the child could not give up new privileges";
    case EXITBUS_SPAWN_STEP_DEATH_SIGNAL:
        return "the child's death signal could not be set";
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
