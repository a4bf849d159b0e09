/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* systemd's event loop: it starts no children, so they are made by vfork. */
#include "peer.h"

#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

static sd_event *loop;

static int start(void)
{
    /* It wants SIGCHLD blocked. The children inherit that, and don't mind. */
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    return sd_event_new(&loop);
}

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *awaited)
{
    if (awaited)
        pids_push(info->si_pid);
    sd_event_source_unref(source);
    return 0;
}

static pid_t spawn(char *const argv[], bool awaited)
{
    sd_event_source *source;
    pid_t pid = spawn_by_vfork(argv);
    if (pid < 0)
        return pid;
    int result =
        sd_event_add_child(loop, &source, pid, WEXITED, on_exit_of, awaited ? &loop : NULL);
    return result < 0 ? result : pid;
}

static pid_t await(void)
{
    pid_t pid;
    while ((pid = pids_pop()) == 0)
        if (sd_event_run(loop, UINT64_MAX) < 0)
            return -1;
    return pid;
}

const struct exit_peer peer_sd_event = {"sd-event", "vfork and exec; sd_event_add_child", start,
                                        spawn, await};
