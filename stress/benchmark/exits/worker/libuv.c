/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* libuv: uv_spawn, whose exit callback a loop calls. */
#include "peer.h"

#include <stdlib.h>
#include <uv.h>

static uv_loop_t *loop;

struct running {
    uv_process_t process;
    bool awaited;
};

static int start(void)
{
    loop = uv_default_loop();
    return loop ? 0 : -1;
}

static void release(uv_handle_t *handle)
{
    free(handle);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal)
{
    (void)status;
    (void)signal;
    if (((struct running *)(void *)process)->awaited)
        pids_push(uv_process_get_pid(process));
    uv_close((uv_handle_t *)process, release);
}

static pid_t spawn(char *const argv[], bool awaited)
{
    struct running *child = calloc(1, sizeof *child);
    if (!child)
        return -1;
    uv_process_options_t options = {
        .file = argv[0], .args = (char **)(void *)argv, .exit_cb = on_exit_of};
    child->awaited = awaited;
    int result = uv_spawn(loop, &child->process, &options);
    return result < 0 ? result : uv_process_get_pid(&child->process);
}

static pid_t await(void)
{
    pid_t pid;
    while ((pid = pids_pop()) == 0)
        uv_run(loop, UV_RUN_ONCE);
    return pid;
}

const struct exit_peer peer_libuv = {"libuv", "uv_spawn", start, spawn, await};
