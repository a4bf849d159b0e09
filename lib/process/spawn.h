/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Start a child whose exit can't be missed: see spawn.c. */
#ifndef EXITBUS_SPAWN_H
#define EXITBUS_SPAWN_H

#include "bus/bus.h"

/*
 * Start a child with checked options. Sets *pid, and *subscription unless that is NULL.
 * Returns 0; or an error of exitbus_spawn(), with no child left; then *report says which step has
 * failed, as the child or its parent has noted it. Context: cancellation is disabled. Blocks until
 * the child has exec'd.
 */
int spawn(struct exitbus *bus, const struct exitbus_spawn_options *options, pid_t *pid,
          struct exitbus_subscription **subscription, struct exitbus_spawn_report *report);

#endif
