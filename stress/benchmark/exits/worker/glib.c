/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* GLib: g_spawn_async and a child watch on the default main context. */
#include "peer.h"

#include <glib.h>

static int start(void)
{
    return 0;
}

static void on_exit_of(GPid pid, gint status, gpointer awaited)
{
    (void)status;
    if (awaited)
        pids_push(pid);
}

static pid_t spawn(char *const argv[], bool awaited)
{
    /* With descriptors left open GLib takes its fast path, posix_spawn. */
    const GSpawnFlags flags = G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_LEAVE_DESCRIPTORS_OPEN;
    GPid pid;
    if (!g_spawn_async(NULL, (gchar **)(void *)argv, NULL, flags, NULL, NULL, &pid, NULL))
        return -1;
    g_child_watch_add(pid, on_exit_of, GINT_TO_POINTER(awaited));
    return pid;
}

static pid_t await(void)
{
    pid_t pid;
    while ((pid = pids_pop()) == 0)
        g_main_context_iteration(NULL, TRUE);
    return pid;
}

const struct exit_peer peer_glib = {"glib", "g_spawn_async; g_child_watch_add", start, spawn,
                                    await};
