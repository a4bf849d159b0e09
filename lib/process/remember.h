/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits that are remembered while an exec is reserved: its process may be gone before the exec is
 * bound. Each is a handle that has ended, with the inode of its pidfd, so that a pid that came
 * twice is told apart.
 */
#ifndef EXITBUS_REMEMBER_H
#define EXITBUS_REMEMBER_H

#include <exitbus/exitbus.h>
#include <stdbool.h>

struct watch_set;

/*
 * Make a handle for an exit that is about to be published, if an exec is reserved that it may be
 * of: the thread that binds may come too late for the child itself. `pidfd`: one of the child's, or
 * negative. *process is NULL if there is no need. Returns false if there is no memory.
 * Context: in a pass.
 */
bool remember_prepare(struct watch_set *set, pid_t pid, int pidfd,
                      struct exitbus_process **process);

/* Remember the exit; NULL: it was not published. `process` may be NULL. Context: in a pass. */
void remember_exit(struct watch_set *set, struct exitbus_process *process,
                   const struct exitbus_event *event);

/*
 * Take out the handle of a process; `pid` is 0 if it is not known, `pidfd` negative if there is
 * none. Returns 0, -ECHILD, or -errno. Context: waits for the end of a pass.
 */
int remember_take(struct exitbus *bus, struct watch_set *set, pid_t pid, int pidfd,
                  struct exitbus_process **process);

/* Put it back. Context: as remember_take(). */
void remember_again(struct exitbus *bus, struct watch_set *set, struct exitbus_process *process);

/* Forget exits that no reserved exec can be bound to any more. Context: in a pass. */
void remember_forget(struct watch_set *set);

/* Forget all. Context: no pass can be made. */
void remember_drop(struct watch_set *set);

#endif
