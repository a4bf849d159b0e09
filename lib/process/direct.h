/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Direct handles: the thread that waits for a process collects its exit, which saves the wake-up of
 * the reaper's thread. The reaper does it when no thread waits in that way. Why one of the two
 * does, and not both, is argued in direct.c.
 */
#ifndef EXITBUS_DIRECT_H
#define EXITBUS_DIRECT_H

#include "process/process.h"

/* The exit was left to the reaper, or there is another waiter: sleep. */
#define DIRECT_NOT 1

/*
 * Begin and end the life of a direct handle, besides process_create(). Returns false where an ALL
 * reaper runs, which would collect the child as well. Context: with a hold on the set.
 */
bool direct_reserve(struct exitbus_process *process);
void direct_abort(struct exitbus_process *process);

/* Hand over a child, which runs its program. Context: `pidfd` becomes the handle's. */
void direct_commit(struct exitbus_process *process, int pidfd);

/*
 * Wait until a time; 0: look once; INT64_MAX: for ever. Returns what process_wait() does; or
 * DIRECT_NOT. Context: blocks, unless the time is 0.
 */
int direct_wait(struct exitbus_process *process, struct exitbus_event *event, int64_t until_ns);

/* Leave the exit to the reaper, unless a thread waits. Context: any thread that has a handle. */
void direct_hand_over(struct exitbus_process *process);

/* Call `ask` while no thread collects. Returns what it does; -EAGAIN: a thread waits. */
int direct_between_waits(struct exitbus_process *process, int (*ask)(void *), void *argument);

/* Wake the waiters of a set's bus, which was closed. */
void direct_wake(struct watch_set *set);

/* Returns whether no reaper has it. */
static inline bool process_is_direct(const struct exitbus_process *process)
{
    /* Acquire; pairs with direct_hand_over(). */
    return load_acquire(&process->outcome.owner) != OWNER_REAPER;
}

#endif
