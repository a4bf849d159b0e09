/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A command that is run here: its exit, and those of all that it leaves, go to the spool. */
#ifndef TOOLS_FORWARD_CHILD_H
#define TOOLS_FORWARD_CHILD_H

#include <exitbus/forward.h>

struct child {
    struct exitbus *bus;
    struct exitbus_forward *forward;
    struct exitbus_reaper *reaper;
    struct exitbus_process *process;
    const char *why; /* of a failure: the step */
};

/* Returns 0 or -errno. */
int child_start(struct child *child, char **argv, const struct exitbus_forward_options *options);
/* Readable when the command has exited. */
int child_fd(const struct child *child);
void child_signal(const struct child *child, int signal);
/* Wait for the command, and write all to the spool. Returns 0, or why records were dropped. */
int child_finish(struct child *child, int *exit_code);

#endif
