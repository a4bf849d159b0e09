/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The library's own threads. Each blocks all signals, runs under SCHED_OTHER, and may run wherever
 * the first thread of the process may. It does not matter which thread of the host has made it.
 */
#ifndef EXITBUS_THREAD_H
#define EXITBUS_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/*
 * Start a thread, which calls thread_begin() first of all. If `thread` is NULL it is detached.
 * Returns 0; -EAGAIN: there are no threads to be had; or -EINVAL: not in this process, after
 * unshare(CLONE_NEWPID).
 */
int thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/*
 * Prepare the calling thread; `name` has at most 15 bytes. What can't be set stays as it is.
 * Context: in the new thread.
 */
void thread_begin(const char *name);

#endif
