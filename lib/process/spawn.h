/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Start a child whose exit can't be missed: see spawn.c. */
#ifndef EXITBUS_SPAWN_H
#define EXITBUS_SPAWN_H

#include "bus/bus.h"

/* What a spawn gives to its caller. NULL: not wanted; not both of the last two. */
struct spawn_results {
    pid_t *pid;
    struct exitbus_subscription **subscription;
    struct exitbus_process **process;
};

/*
 * Start a child with checked options. Sets what is wanted.
 * Returns 0; or an error of exitbus_spawn(), with no child left; then *report says which step has
 * failed, as the child or its parent has noted it. Context: cancellation is disabled. Blocks until
 * the child has exec'd.
 */
int spawn(struct exitbus *bus, const struct exitbus_spawn_options *options,
          const struct spawn_results *results, struct exitbus_spawn_report *report);

#endif
