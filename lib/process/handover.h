/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the bus prepares for a child before the child exists: a reaper that will collect it, a watch
 * in that reaper's set, and a subscription or a process handle if the caller wants one. The
 * transaction is reserve, announce (by the child itself), and then commit or abort.
 */
#ifndef EXITBUS_HANDOVER_H
#define EXITBUS_HANDOVER_H

#include "bus/bus.h"
#include "process/process.h"

/* For code that runs on the child's stack and never returns: sanitizers can't follow it. */
#define CHILD_CODE __attribute__((no_sanitize_address, no_sanitize_thread))

struct handover {
    struct exitbus *bus; /* held, like `set`, from reserve to commit or abort */
    struct watch_set *set;
    struct child_watch *watch;
    struct exitbus_subscription *subscription; /* or NULL, like the next */
    struct exitbus_process *process;
    bool direct; /* the watch is in no set */
    bool announced;
};

/* What the caller of a spawn gets, besides the pid. */
enum handover_wants {
    HANDOVER_NOTHING,
    HANDOVER_SUBSCRIPTION,
    HANDOVER_PROCESS,
    HANDOVER_DIRECT, /* a handle whose waiter collects, if that can be */
};

/*
 * Reserve all that the exit of a child will need. Nothing later fails for want of it.
 * Returns 0; or -errno, with nothing reserved. *step is the step that was begun last.
 * Context: may block for the start or the stop of a reaper, and while another spawn
 * looks for its reaper; not while another child is made.
 */
int handover_reserve(struct handover *handover, struct exitbus *bus, enum handover_wants wants,
                     enum exitbus_spawn_step *step);

/*
 * Make the child's exit visible to its reaper and its subscription, under the pid that the parent's
 * namespace has for it. Must come before exec.
 * Context: the child, in the parent's memory; or the parent. A few atomic instructions.
 */
void handover_announce(struct handover *handover, pid_t pid);

/*
 * Hand over the child, which runs its program, and its pidfd. Negative: none could be had, or
 * another waiter has reaped the child; then its exit is published without a status. Context: as
 * reaper_set_release().
 */
void handover_commit(struct handover *handover, int pidfd);

/* Take all back, whether or not it was announced: there is no child. Context: likewise. */
void handover_abort(struct handover *handover);

#endif
