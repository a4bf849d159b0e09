/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the kernel tells of a process as long as it is not reaped: when it was started, the inode of
 * its pidfds, and its name. A reaper with EXITBUS_REAPER_DETAILS adds that to its events.
 */
#ifndef EXITBUS_DETAILS_H
#define EXITBUS_DETAILS_H

#include "event/event.h"
#include "process/collect.h"

/*
 * Read the start time and the name of the process that has that pid now, and leave the rest.
 * Returns 0; -EMFILE, -ENFILE, -ENOMEM; or -ENOTSUP: /proc does not tell. Context: reads /proc.
 */
int details_of_pid(pid_t pid, struct exitbus_event_details *details);

/* Returns what tells a pidfd's process from others; 0: nothing does, as before Linux 6.9. */
uint64_t details_inode(const struct watch_set *set, int pidfd);

/*
 * Add the details of a zombie to its event. Where they can't be had, or another waiter has reaped
 * it meanwhile, the event stays as it is. `pidfd` < 0: none is there. Context: reads /proc.
 */
void details_add(const struct watch_set *set, struct target target, int pidfd,
                 struct exitbus_event *event);

#endif
