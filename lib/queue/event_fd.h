/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The eventfd of a subscription, for event loops. Receivers use it through wakeup.h. The protocol:
 * event_fd.c.
 */
#ifndef EXITBUS_EVENT_FD_H
#define EXITBUS_EVENT_FD_H

#include "queue/wakeup.h"

/*
 * Make the descriptor readable, if there is one and it need be. `closing`: the caller has closed
 * the queue; otherwise it is a publisher. Its append, or the close, lies behind a full fence, which
 * pairs with the one in wakeup_fd_clear(). Returns false if the write failed: the
 * next thread must try again. Context: lock-free; at most one write, which is retried a few times
 * if it fails.
 */
bool event_fd_signal(struct wake_publisher *publisher, struct wake_receiver *receiver,
                     bool closing);

#endif
