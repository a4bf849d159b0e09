/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child in the caller's memory, on a stack of its own, and without an exit signal, while the
 * calling thread is suspended (CLONE_VM, CLONE_VFORK).
 */
#ifndef EXITBUS_SPAWN_CLONE_H
#define EXITBUS_SPAWN_CLONE_H

#include "process/spawn_child.h"
#include "process/spawn_process.h"

/*
 * Run child_main(child) in such a child, until it has exec'd or ended. Returns 0 with the pid of a
 * child that has exec'd and was announced, and its pidfd, which is negative if none could be had;
 * or -errno, with no child left. Then *copied says whether memory is not shared here, so that a
 * fork must do. Context: signals are blocked.
 */
int spawn_cloned(struct child *child, char *stack, struct process *process, bool *copied);

#endif
