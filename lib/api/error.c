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

/* Constant texts: the result of strerror() may be changed by another thread, but for musl's. */
static const char *system_text(int error)
{
#ifdef __GLIBC__
    const char *text = strerrordesc_np(error);
    return text ? text : "unknown error";
#else
    const char *text = strerror(error); /* one text for all that are unknown */
    return text != strerror(-1) ? text : "unknown error";
#endif
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
    case ESRCH:
        return "there is no such process or group any more, or its exit can't come here";
    case ENODATA:
        return "there is none: no details in the event, or no further exit in the record";
    case EBADMSG:
        return "a part of the record is damaged, and was passed over: read on";
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
        return "another reaper is in the way, or another thread makes the same call";
    case EOWNERDEAD:
        return "the task's leader has died: nothing is reserved any more";
    case ECANCELED:
        return "the exec's start was cancelled";
    case EALREADY:
        return "the exec is bound to a process already";
    case EEXIST:
        return "the task's leader was reserved before";
    case ENOTSUP:
        return "SIGCHLD is ignored (set it to SIG_DFL, or use an ALL reaper), or the reaper's mode "
               "does not have this";
    case ECHILD:
        return "not a child of this process, or already reaped";
    case EXDEV:
        return "the children of this process are reaped into another bus";
    case EDEADLK:
        return "would have to wait, but was called inside a read-side section";
    case EPERM:
        return "not permitted; in exitbus_destroy(): the default bus can't be destroyed";
    case EOVERFLOW:
        return "the bus has used up its sequence numbers";
    default:
        return system_text(error);
    }
}
