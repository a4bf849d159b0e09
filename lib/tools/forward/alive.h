/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The children of this process that are alive, as /proc tells. */
#ifndef TOOLS_FORWARD_ALIVE_H
#define TOOLS_FORWARD_ALIVE_H

#include <exitbus/exitbus.h>

typedef void alive_tell(void *context, pid_t pid, const struct exitbus_event_details *details);

/* Tell each child. A kernel without /proc/PID/task/TID/children tells none. */
void alive_children(alive_tell *tell, void *context);
/* Returns 0 or -errno; -ESRCH it is a zombie, or not there. */
int alive_details(pid_t pid, struct exitbus_event_details *details);

#endif
