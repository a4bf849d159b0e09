/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Details of an exit: see details.h. */
#include "process/details.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

/* Returns the 22nd field of /proc/PID/stat, in clock ticks; 0: there is none. */
static uint64_t start_ticks(const char *name_end)
{
    const char *field = name_end;
    for (int number = 2; field && number < 22; number++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field + 1, NULL, 10) : 0;
}

/* Returns whether it is the text of /proc/PID/stat. */
static bool parse_stat(const char *stat, struct exitbus_event_details *details)
{
    /* The name may contain anything, also parentheses, spaces and newlines. */
    const char *name = strchr(stat, '('), *end = strrchr(stat, ')');
    uint64_t ticks = end ? start_ticks(end) : 0;
    if (!name || ticks == 0)
        return false;
    size_t size = (size_t)(end - ++name);
    if (size >= sizeof details->comm)
        size = sizeof details->comm - 1;
    memset(details->comm, 0, sizeof details->comm);
    memcpy(details->comm, name, size);
    details->start_ns = ticks * (uint64_t)(NS_PER_S / sysconf(_SC_CLK_TCK));
    return true;
}

int details_of_pid(pid_t pid, struct exitbus_event_details *details)
{
    char path[32], stat[1024];
    if (!sys_proc_is_ours())
        return -ENOTSUP;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int result = sys_read_file(path, stat, sizeof stat);
    if (result > 0 && parse_stat(stat, details))
        return 0;
    return result == -EMFILE || result == -ENFILE || result == -ENOMEM ? result : -ENOTSUP;
}

uint64_t details_inode(const struct watch_set *set, int pidfd)
{
    uint64_t inode = sys_inode(pidfd);
    return inode == sys_inode(set->wake_fd) ? 0 : inode; /* which is of no file of its own */
}

void details_add(const struct watch_set *set, struct target target, int pidfd,
                 struct exitbus_event *event)
{
    struct exitbus_event_details details = {0};
    if (details_of_pid(event->pid, &details) < 0)
        return;
    int own = pidfd < 0 ? sys_pidfd_open(event->pid) : pidfd;
    if (own >= 0)
        details.inode = details_inode(set, own);
    if (pidfd < 0 && own >= 0)
        sys_close(own);
    /* It was this process's file if this process has not been reaped. */
    siginfo_t info;
    if (collect_peek(target, &info, NULL) > 0 && info.si_pid == event->pid)
        event_set_details(event, &details);
}
