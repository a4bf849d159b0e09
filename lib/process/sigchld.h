/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * SIGCHLD for the one ALL reaper of a process: a handler that adds a token to an eventfd and then
 * calls the handler found there. Uses: fork_guard, sys. Calls must be serialised by the caller.
 */
#ifndef EXITBUS_SIGCHLD_H
#define EXITBUS_SIGCHLD_H

#include <stdbool.h>

/* 0, or -ENOTSUP if the kernel throws exit statuses away (SIG_IGN, SA_NOCLDWAIT). */
int sigchld_check(void);

/*
 * Install the handler; every SIGCHLD adds to `eventfd`. What was there is called by it, or, if it
 * was SIG_IGN or had SA_NOCLDWAIT, suspended. 0, or -errno: the kernel refuses sigaction.
 */
int sigchld_install(int eventfd);

/*
 * Put the former action back, unless a handler of the host's lies over ours: then ours stays in its
 * chain and just passes the signal on. True: no handler touches the eventfd any more. False: a
 * thread was stopped while it did, so the descriptor must stay open.
 */
bool sigchld_remove(void);

/* In a forked child: the eventfd is the parent's. A handler of ours that is installed stays. */
void sigchld_forget_parent(void);

#endif
