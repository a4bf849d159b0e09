/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tools/forward/child.h"

#include <stddef.h>

static int start_command(struct child *child, char **argv)
{
    struct exitbus_spawn_report report;
    struct exitbus_spawn_options options = {
        .argv = argv, .flags = EXITBUS_SPAWN_SEARCH_PATH, .report = &report};
    int result = exitbus_process_spawn(child->bus, &options, &child->process);
    if (result < 0)
        child->why = exitbus_spawn_strerror(&report);
    return result;
}

static void release(struct child *child)
{
    exitbus_process_unref(child->process);
    exitbus_reaper_stop(child->reaper);
    exitbus_forward_stop(child->forward);
    exitbus_destroy(child->bus);
}

int child_start(struct child *child, char **argv, const struct exitbus_forward_options *options)
{
    struct exitbus_reaper_options reaper = {
        .mode = EXITBUS_REAPER_ALL, .flags = EXITBUS_REAPER_SUBREAPER | EXITBUS_REAPER_DETAILS};
    *child = (struct child){.why = "the bus"};
    int result = exitbus_create(&child->bus, NULL);
    if (result < 0)
        return result;
    child->why = "the spool";
    result = exitbus_forward_start(child->bus, options, &child->forward);
    if (result == 0) {
        child->why = "the reaper";
        result = exitbus_reaper_start(child->bus, &reaper, &child->reaper);
    }
    if (result == 0)
        result = start_command(child, argv);
    if (result < 0)
        release(child);
    return result;
}

int child_fd(const struct child *child)
{
    return exitbus_process_fd(child->process);
}

void child_signal(const struct child *child, int signal)
{
    exitbus_process_signal(child->process, signal, 0);
}

int child_finish(struct child *child, int *exit_code)
{
    struct exitbus_event event = {.exit_code = -1};
    exitbus_process_wait(child->process, &event, -1);
    *exit_code = event.exit_code;
    exitbus_reaper_stop(child->reaper);
    int result = exitbus_forward_stop(child->forward);
    child->reaper = NULL;
    child->forward = NULL;
    release(child);
    return result;
}
