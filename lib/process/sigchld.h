/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * SIGCHLD for the one ALL reaper of a process: a handler that adds a token to an eventfd, and then
 * calls the handler that it found. Calls are serial, by reaper.c's lock.
 */
#ifndef EXITBUS_SIGCHLD_H
#define EXITBUS_SIGCHLD_H

#include <stdbool.h>

/* Returns 0, or -ENOTSUP if the kernel throws exit statuses away (SIG_IGN, SA_NOCLDWAIT). */
int sigchld_check(void);

/*
 * Install the handler; every SIGCHLD adds to `eventfd`. The handler found there is called by it.
 * SIG_IGN and SA_NOCLDWAIT are suspended. Returns 0, or -errno: the kernel refuses sigaction().
 */
int sigchld_install(int eventfd);

/*
 * Put the former action back. If a handler of the host's lies over ours, ours stays in its chain,
 * and only passes the signal on.
 * Returns true if no handler uses the eventfd any more; false if a thread was stopped while it did,
 * so the descriptor must stay open.
 */
bool sigchld_remove(void);

/* Forget the parent's eventfd, in a forked child. A handler of ours that is installed stays. */
void sigchld_forget_parent(void);

#endif
