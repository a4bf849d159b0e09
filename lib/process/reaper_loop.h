/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One pass of a reaper: collect what has exited, publish it, reap it (G4, G8). Uses: watch.
 */
#ifndef EXITBUS_REAPER_LOOP_H
#define EXITBUS_REAPER_LOOP_H

#include "process/watch.h"

#include <sys/epoll.h>

struct reaper_loop {
    struct watch_set *set;
    int wait_fd;    /* the set's epoll descriptor, as it was at the start */
    int signal_fd;  /* eventfd: a handler has run for SIGCHLD; -1 unless the mode is ALL */
    int pending_fd; /* signalfd: SIGCHLD is pending; -1 unless ALL has a thread */
    bool all;       /* collect children that nobody watches, too */
    bool polled;    /* by the host: do not rely on SIGCHLD */
};

#define REAPER_EVENTS 64

/* What epoll has named, and no pass has handled yet. */
struct reaper_events {
    struct epoll_event list[REAPER_EVENTS];
    int count;
};

/*
 * Wait until there is something, for ever. 0 or -errno. What was named and is not handled is lost:
 * then `rescan` must be set.
 */
int reaper_loop_wait(const struct reaper_loop *loop, struct reaper_events *events);

/*
 * Judge what a wait has returned. 0: go on. -errno: the descriptor is not ours any more, or the
 * kernel has refused many times in a row. In the pass, or where no pass can be in progress.
 */
int reaper_loop_refused(const struct reaper_loop *loop, int result);

/*
 * Handle what was named, and what else is there. Never blocks. Returns how many exits were
 * published; or -errno, after which nothing more can be collected: the descriptors are not ours any
 * more, or the kernel refuses to reap.
 */
int reaper_loop_pass(const struct reaper_loop *loop, struct reaper_events *events);

#endif
