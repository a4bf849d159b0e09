/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Waking the receivers of a subscription, in whichever way they wait: see wakeup.h. */
#include "queue/wakeup.h"
#include "queue/event_count.h"
#include "queue/event_fd.h"

void wakeup_init(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    atomic_init(&publisher->fd_state, WAKEUP_FD_NONE);
    atomic_init(&publisher->slept_epoch, 0);
    atomic_init(&publisher->woken_epoch, 1);
    atomic_init(&receiver->epoch, 1);
    atomic_init(&receiver->sleepers, 0);
    atomic_init(&receiver->fd, -1);
}

void wakeup_notify_slow(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    if (event_count_may_sleep(publisher))
        event_count_wake(publisher, receiver);
    if (load_relaxed(&publisher->fd_state) != WAKEUP_FD_NONE)
        event_fd_signal(publisher, receiver, false);
}

void wakeup_notify_closed(struct wake_publisher *publisher, struct wake_receiver *receiver)
{
    barrier_light(); /* the close before the look; pairs with each barrier_heavy */
    if (event_count_may_sleep(publisher))
        event_count_wake(publisher, receiver);
    if (load_relaxed(&publisher->fd_state) != WAKEUP_FD_NONE)
        event_fd_signal(publisher, receiver, true);
}
