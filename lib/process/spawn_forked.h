/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child in a copy of the caller's memory, made by a plain fork: for emulators (valgrind, qemu's
 * user mode), which don't share memory with a clone.
 */
#ifndef EXITBUS_SPAWN_FORKED_H
#define EXITBUS_SPAWN_FORKED_H

#include "process/spawn_child.h"
#include "process/spawn_process.h"

/*
 * Run child_main(child) in such a child, until it has exec'd or ended.
 * Returns 0 with the pid and the pidfd of a child that has exec'd and was announced; or -errno,
 * with no child left. Context: signals are blocked.
 */
int spawn_forked(struct child *child, char *stack, struct process *process);

#endif
