/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Texts for errors, and the version. */
#include <exitbus/exitbus.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#define TEXT(x) TEXT_(x)
#define TEXT_(x) #x

const char *exitbus_version(void)
{
    return TEXT(EXITBUS_VERSION_MAJOR) "." TEXT(EXITBUS_VERSION_MINOR) "." TEXT(
        EXITBUS_VERSION_PATCH);
}

const char *exitbus_strerror(int error)
{
    if (error < 0 && error >= -INT_MAX) /* INT_MIN has no opposite */
        error = -error;
    switch (error) {
    case 0:
        return "success";
    case EINVAL:
        return "invalid argument";
    case ESTALE:
        return "the bus belongs to the parent process: not usable after fork";
    case ESHUTDOWN:
        return "the subscription or the bus is closed";
    case EAGAIN:
        return "no event now, or a resource is short for the moment: try again";
    case ETIMEDOUT:
        return "no event within the time given";
    case ENOMEM:
        return "out of memory: nothing was done, nothing was lost";
    case EINTR:
        return "the child was killed before it had started its program";
    case EBADF:
        return "a file descriptor is not open";
    case ENOENT:
        return "no such file: the program, its interpreter, a directory, or one to be opened";
    case ETXTBSY:
        return "the program is open for writing, perhaps in a child being started: try again";
    case EMFILE:
        return "out of file descriptors in this process";
    case ENFILE:
        return "out of file descriptors in the system";
    case EBUSY:
        return "another reaper is in the way, or is being polled by another thread";
    case ENOTSUP:
        return "SIGCHLD is ignored (set it to SIG_DFL, or use an ALL reaper), or the reaper's mode "
               "does not have this";
    case ECHILD:
        return "not a child of this process, or already reaped";
    case EXDEV:
        return "the children of this process are reaped into another bus";
    case EDEADLK:
        return "would wait for itself: called inside a read-side section";
    case EPERM:
        return "not permitted; in exitbus_destroy(): the default bus can't be destroyed";
    case EOVERFLOW:
        return "the bus has used up its sequence numbers";
    default: {
        const char *text = strerrordesc_np(error);
        return text ? text : "unknown error";
    }
    }
}

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
     "no reaper runs, and no thread can be started for one: after unshare(CLONE_NEWPID) the bus needs "
     "a reaper from before, or a polled one"},
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
