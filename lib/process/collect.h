/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The collection of one child: look at its status without reaping, publish its exit, reap it.
 * So a pid can't be reused before its exit is published, and an exit that can't be published stays
 * a zombie in the kernel (G8).
 */
#ifndef EXITBUS_COLLECT_H
#define EXITBUS_COLLECT_H

#include "process/watch.h"

/* What one pass has to do with the children it collects. */
struct collection {
    struct watch_set *set;
    bool details;            /* that the events of zombies are to have */
    struct journal *journal; /* that exits are written to; NULL: none */
    int published;           /* exits, so far */
    int ended;               /* processes whose watches have ended, so far */
    int error;               /* negative: nothing more may be collected in this pass */
};

/* A child, as waitid(2) names it. */
struct target {
    int type;
    int id;
    int options;
};

/*
 * Look at a child without reaping it.
 * Returns 1 if it has exited, or, being traced by this process, has stopped; 0 if not; -ECHILD if
 * there is no such child; or another error of waitid().
 */
int collect_peek(struct target target, siginfo_t *info, struct rusage *usage);

/*
 * Publish the exit of a zombie, reap it, and end its watches. Completes `event`. `watch`: that by
 * which it was found, or NULL; `named`: epoll has named that watch.
 * Returns 0; above 0: look at it anew; or -errno if it can't be published now, and stays a zombie.
 */
int collect_zombie(struct collection *collection, struct target target, struct exitbus_event *event,
                   const struct child_watch *watch, bool named);

/*
 * Collect a watched process if it has exited; else arrange for the next look. Returns 0; or -errno
 * if its exit can't be published now.
 */
int collect_watched(struct collection *collection, struct child_watch *watch, bool named);

/*
 * Collect a child that has no watch in the set: publish its exit on the set's bus, and reap it.
 * Returns 0 with the event, and *reaped: is it a zombie no more? Above 0: it has not exited; or
 * -errno: it can't be published now.
 */
int collect_direct(struct watch_set *set, pid_t pid, int pidfd, struct exitbus_event *event,
                   bool *reaped);

/*
 * Collect a zombie by its pid: the pidfds of its watches say nothing of it. Returns what
 * collect_watched() does.
 */
int collect_by_pid(struct collection *collection, pid_t pid);

/* Make the event of a process that has exited. Returns false if the siginfo is of no exit. */
bool collect_event(struct exitbus_event *event, const siginfo_t *info, const struct rusage *usage);

#endif
