/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Waking the receivers of a subscription, in whichever way they wait: see wakeup.h. */
#include "queue/wakeup.h"
#include "queue/event_count.h"
#include "queue/event_fd.h"

void wakeup_init(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    atomic_init(&publisher->fd_state, WAKEUP_FD_NONE);
    event_count_init(publisher, &receiver->epoch);
    atomic_init(&receiver->sleepers, 0);
    atomic_init(&receiver->fd, -1);
}

/* A write that fails is tried again by the next thread, since the state says that it must. */
static void signal_descriptor(struct wake_publisher *publisher, struct wake_receiver *receiver,
                              bool closing)
{
    fence_seq_cst();
    (void)event_fd_signal(publisher, receiver, closing);
}

void wakeup_notify_slow(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    if (wakeup_may_sleep(publisher))
        event_count_wake(publisher, &receiver->epoch);
    if (load_relaxed(&publisher->fd_state) != WAKEUP_FD_NONE)
        signal_descriptor(publisher, receiver, false);
}

void wakeup_notify_closed(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    /* The close is visible before the loads below; pairs with the fence in wakeup_announce(). */
    fence_seq_cst();
    if (wakeup_may_sleep(publisher))
        event_count_wake(publisher, &receiver->epoch);
    wakeup_notify_fd_closed(publisher, receiver);
}

void wakeup_notify_fd_closed(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    if (load_relaxed(&publisher->fd_state) != WAKEUP_FD_NONE)
        signal_descriptor(publisher, receiver, true);
}
