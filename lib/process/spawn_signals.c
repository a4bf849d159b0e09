/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Signals around a spawn: see spawn_signals.h. They are blocked by system call, since the libc's
 * function would leave its own two unblocked.
 */
#include "process/spawn_signals.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int spawn_block_signals(uint64_t *before)
{
    const uint64_t all = ~(uint64_t)0;
    return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, before, SIGNAL_SET_BYTES) < 0 ? -errno
                                                                                        : 0;
}

void spawn_restore_signals(uint64_t before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGNAL_SET_BYTES);
}

/* Find the line of ignored signals. Returns false if it is not there in full. */
static bool parse_ignored(const char *text, uint64_t *ignored)
{
    static const char name[] = "\nSigIgn:\t";
    const char *line = strstr(text, name);
    char *end;
    if (!line)
        return false;
    line += sizeof name - 1;
    errno = 0;
    *ignored = strtoull(line, &end, 16);
    return end - line == SIGNALS / 4 && errno == 0;
}

/*
 * Read from /proc which signals this process ignores, in three system calls. No call of the kernel
 * says that of more than one signal. The child does not do this: the kernel would first have to
 * make its part of /proc, which takes longer than the rest.
 * Returns false where /proc does not say it: it is not mounted or not ours, there is no descriptor
 * to spare, or the groups in lines before fill the buffer.
 */
static bool read_ignored(char buffer[PATH_MAX], uint64_t *ignored, bool *stdio_open)
{
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0L);
    if (fd < 0)
        return false;
    *stdio_open = fd >= LOWEST_FD; /* it is the lowest that was free */
    long size = syscall(SYS_read, (int)fd, buffer, (long)PATH_MAX - 1);
    sys_close((int)fd);
    buffer[size > 0 ? size : 0] = '\0';
    return size > 0 && parse_ignored(buffer, ignored);
}

static bool stdio_is_open(void)
{
    for (int fd = 0; fd < LOWEST_FD; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return false;
    return true;
}

void spawn_choose_mask(struct child *child, uint64_t callers_mask)
{
    const struct exitbus_spawn_options *options = child->options;
    if ((options->flags & EXITBUS_SPAWN_INHERIT_SIGMASK) || mutant(SPAWN_MASK_INHERITED))
        child->signal_mask = callers_mask;
    if (options->flags & EXITBUS_SPAWN_SIGMASK)
        memcpy(&child->signal_mask, options->signal_mask, sizeof child->signal_mask);
}

void spawn_choose_dispositions(struct child *child, struct process *process)
{
    const struct exitbus_spawn_options *options = child->options;
    bool stdio_open = false;
    child->reset_ignored = options->flags & EXITBUS_SPAWN_INHERIT_IGNORED ? 0 : ~(uint64_t)0;
    if (child->reset_ignored == 0 && (options->flags & EXITBUS_SPAWN_SIGDEFAULT))
        memcpy(&child->reset_ignored, options->signal_default, sizeof child->reset_ignored);
    if (child->reset_ignored != 0)
        child->ignored_known = read_ignored(child->buffer, &child->ignored, &stdio_open);
    process->pidfd_by_clone = stdio_open || stdio_is_open();
}
