/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads of the library's own. Whichever thread of the host happens to make one, it blocks all
 * signals, runs under SCHED_OTHER, and may run wherever the process's first thread may.
 * Uses nothing of the library.
 */
#ifndef EXITBUS_THREAD_H
#define EXITBUS_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/*
 * Start one, which calls thread_begin() first of all; `thread` may be NULL: it is detached. 0,
 * -EAGAIN: there are no threads to be had; or -EINVAL: not in this process, after
 * unshare(CLONE_NEWPID).
 */
int thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* By the thread itself. What can't be set is left as it is. `name` is at most 15 bytes. */
void thread_begin(const char *name);

#endif
