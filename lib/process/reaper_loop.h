/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One pass of a reaper over its set: collect what has exited, publish it, reap it (G4, G8). */
#ifndef EXITBUS_REAPER_LOOP_H
#define EXITBUS_REAPER_LOOP_H

#include "process/watch.h"

#include <sys/epoll.h>

/* What a reaper waits at. Written only by its start and its stop. */
struct reaper_loop {
    struct watch_set *set;
    int wait_fd;    /* the set's epoll descriptor, as it was at the start */
    int signal_fd;  /* eventfd: SIGCHLD was handled, or a signalfd; -1 unless the mode is ALL */
    int pending_fd; /* signalfd: SIGCHLD is pending; -1 unless ALL has a thread */
    bool all;       /* collect children without a watch, too */
    bool polled;    /* the host makes the passes: do not rely on SIGCHLD */
    bool orphans;   /* of the children without a watch, only those that this process has adopted */
    struct journal *journal; /* that exits are written to; NULL: none */
    bool details;            /* events of zombies have details */
    bool signalfd;           /* signal_fd is a signalfd: the host leaves SIGCHLD to the reaper */
};

#define REAPER_EVENTS 64

/* What epoll has named, and no pass has handled yet. */
struct reaper_events {
    struct epoll_event list[REAPER_EVENTS];
    int count;
};

/*
 * Wait without limit until there is something. What it names must be handled, or `rescan` be set.
 * Returns 0 or -errno. Context: blocks; outside the gate.
 */
int reaper_loop_wait(const struct reaper_loop *loop, struct reaper_events *events);

/*
 * Judge the result of a wait. Returns 0 to go on; -errno if the descriptor is not ours any more, or
 * if the kernel has refused many times in a row. Context: in a pass, or while none can be made.
 */
int reaper_loop_refused(const struct reaper_loop *loop, int result);

/*
 * Handle what was named, and what else there is.
 * Returns how many exits were published; or -errno, after which nothing more can be collected: the
 * descriptors are not ours any more, or the kernel refuses to reap. Context: never blocks.
 */
int reaper_loop_pass(const struct reaper_loop *loop, struct reaper_events *events);

#endif
