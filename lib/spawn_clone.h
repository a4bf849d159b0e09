/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clone for exitbus_spawn: a child in the caller's memory, on a stack of its own, while the calling
 * thread is suspended, and without an exit signal (see spawn.c). Uses: platform.
 */
#ifndef EXITBUS_SPAWN_CLONE_H
#define EXITBUS_SPAWN_CLONE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Run main(argument), which must not return, in such a child whose signal handlers are all reset to
 * their defaults; what is ignored stays so. Its pid, and a pidfd for it if `pidfd` is not NULL; or
 * a negative errno: -ENOSYS where the kernel, or what stands before it, does not do that. Before
 * main runs, *pid is the child's pid as the caller has it, also if it is made in another pid
 * namespace.
 */
pid_t spawn_clone(int (*main)(void *), void *argument, char *stack, size_t stack_bytes, pid_t *pid,
                  int *pidfd);

#endif
