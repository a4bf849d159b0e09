/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The eventfd of a subscription, for event loops. The protocol and the argument stand in event_fd.c;
 * receivers use it through wakeup.h.
 */
#ifndef EXITBUS_EVENT_FD_H
#define EXITBUS_EVENT_FD_H

#include "queue/wakeup.h"

/*
 * Make the descriptor readable, if there is one and it need be. `closing`: by the thread that has
 * closed the queue; otherwise by a publisher behind its append. Lock-free; at most one system call.
 */
void event_fd_signal(struct wake_publisher *publisher, struct wake_receiver *receiver,
                     bool closing);

#endif
