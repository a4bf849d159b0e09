/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Signals around a spawn: the parent blocks them all, and decides what its child is given. */
#ifndef EXITBUS_SPAWN_SIGNALS_H
#define EXITBUS_SPAWN_SIGNALS_H

#include "process/spawn_child.h"
#include "process/spawn_process.h"

/* Block every signal of this thread. Returns 0 or -errno; *before is the mask found. */
int spawn_block_signals(uint64_t *before);
void spawn_restore_signals(uint64_t before);

/* Set the mask that the child runs its program with. */
void spawn_choose_mask(struct child *child, uint64_t callers_mask);

/*
 * Set which signals the child resets. Also decide whether the kernel may make the pidfd with the
 * child (CLONE_PIDFD): it takes the lowest number that is free. If that is a standard one, the host
 * may put its own there while the child is on its way to exec. Then the pidfd is opened later.
 */
void spawn_choose_dispositions(struct child *child, struct process *process);

#endif
