/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The process that a spawn has made: see spawn_process.h. */
#include "process/spawn_process.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/wait.h>

static int find(int type, int id, int options)
{
    siginfo_t info;
    for (int attempt = 0; attempt < SPAWN_ATTEMPTS; attempt++) {
        int result = sys_waitid(type, id, &info, WEXITED | WNOHANG | WNOWAIT | options, NULL);
        if (result >= 0 || result == -ECHILD)
            return result >= 0;
    }
    return -1;
}

int process_find(const struct process *process, int options)
{
    int found = process->pidfd >= 0 ? find(P_PIDFD, process->pidfd, options) : -1;
    return found >= 0 ? found : find(P_PID, process->pid, options);
}

bool process_reap(pid_t pid, int options)
{
    siginfo_t info;
    int result = -1;
    for (int attempt = 0; attempt < SPAWN_ATTEMPTS && result < 0 && result != -ECHILD; attempt++)
        result = sys_waitid(P_PID, pid, &info, WEXITED | options, NULL);
    return result >= 0 && info.si_code == CLD_EXITED;
}

int process_open_pidfd(pid_t pid)
{
    int pidfd = sys_pidfd_open(pid);
    if (pidfd < 0 || sys_find_child(0, pidfd) != -ECHILD)
        return pidfd;
    sys_close(pidfd);
    return -ESRCH;
}

void process_close_pidfd(struct process *process)
{
    if (process->pidfd >= 0)
        sys_close(process->pidfd);
    process->pidfd = -1;
}
