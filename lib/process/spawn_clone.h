/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * clone for exitbus_spawn: a child in the caller's memory, on a stack of its own, while the calling
 * thread is suspended, and without an exit signal (see spawn.c). Uses: spawn_child, sys.
 */
#ifndef EXITBUS_SPAWN_CLONE_H
#define EXITBUS_SPAWN_CLONE_H

#include "process/spawn_child.h"

/* Frames of the child. A program that is bound lazily may look up symbols here. */
#define CHILD_STACK ((size_t)24 * 1024)

/* A child, as its parent has it. */
struct process {
    bool pidfd_by_clone; /* if the kernel can; else it is to be opened when the child runs */
    pid_t pid;
    int pidfd; /* negative: none yet */
};

/*
 * Run child_main(child) in such a child. Sets child->pid, where the clone can name it, and
 * child->handlers_reset before it runs. Returns 0 or a negative errno.
 */
int spawn_clone(struct child *child, char *stack, struct process *made);

#endif
