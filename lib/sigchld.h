/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SIGCHLD for the one ALL reaper of a process: a handler that adds a token to an eventfd and then
 * calls the handler found there. Uses: fork_guard, sys. Calls must be serialised by the caller.
 */
#ifndef EXITBUS_SIGCHLD_H
#define EXITBUS_SIGCHLD_H

/* 0, or -ENOTSUP if the kernel would throw exit statuses away (SIG_IGN, SA_NOCLDWAIT). */
int sigchld_check(void);

/* Install; every SIGCHLD adds to `eventfd`. 0, or as sigchld_check(). */
int sigchld_install(int eventfd);

/*
 * Put the former handler back, unless somebody has put theirs over ours: then ours stays in their
 * chain and just passes the signal on. When this returns no handler touches the eventfd any more.
 */
void sigchld_remove(void);

/* In a forked child: the eventfd is the parent's. A handler of ours that is installed stays. */
void sigchld_forget_parent(void);

#endif
