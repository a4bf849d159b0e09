/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What spawn needs of reapers: a child handed over in one transaction, which holds no lock while
 * the child comes into being. Uses: bus.
 */
#ifndef EXITBUS_REAPER_H
#define EXITBUS_REAPER_H

#include "bus/bus.h"

struct child_watch; /* one child that a reaper looks after */

/*
 * Begin: find the reaper that is to collect the child, or start one, and reserve a watch with it.
 * Until commit or abort the bus stays, and somebody collects its children. May block for a start or
 * a stop that is in progress, not for another spawn.
 * Errors: as exitbus_reaper_start(); -EXDEV, -ESHUTDOWN.
 */
int reaper_spawn_begin(struct exitbus *bus, struct child_watch **watch);

/*
 * Say which child it is, before that can exit: one atomic store, legal in a child that shares the
 * caller's memory.
 */
void reaper_spawn_reserve(struct child_watch *watch, pid_t pid);

/*
 * The child runs; `pidfd` is taken over. -1: none could be had, since another waiter has reaped the
 * child; then its exit is published without a status, unless it is out. Never blocks.
 */
void reaper_spawn_commit(struct exitbus *bus, struct child_watch *watch, int pidfd);

/* There is no child, whether or not its pid was said. Never blocks. */
void reaper_spawn_abort(struct exitbus *bus, struct child_watch *watch);

/* The last step of a bus: what reaper_spawn_begin() or exitbus_reaper_start() have left with it. */
void reaper_bus_free(struct exitbus *bus);

#endif
