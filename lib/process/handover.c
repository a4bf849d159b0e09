/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The hand-over of a child from spawn to a reaper: see handover.h.
 *
 * Why it is right
 *  1. The hold on the set comes first and goes last. So bus, set and reaper are there in between,
 *     though no lock is held while the child comes into being.
 *  2. The subscription is linked by the child before exec. So even the exit of the fastest child
 *     finds it.
 *  3. A child killed in the middle of announce leaves nothing that abort can't undo: see
 *     subscription_link().
 */
#include "process/handover.h"
#include "process/reaper.h"

#include <errno.h>

/* Make a subscription whose pid the child fills in. */
static int make_subscription(struct exitbus *bus, struct exitbus_subscription **subscription)
{
    struct exitbus_topic topic = exitbus_topic_pid(1);
    reclaim_enter();
    int result = subscription_create(&bus->core, &topic, EXITBUS_SUBSCRIBE_ONE_SHOT, subscription);
    reclaim_leave();
    if (result == 0)
        subscription_prepare(*subscription);
    return result;
}

int handover_reserve(struct handover *handover, struct exitbus *bus, bool subscribe,
                     enum exitbus_spawn_step *step)
{
    *handover = (struct handover){.bus = bus};
    *step = EXITBUS_SPAWN_STEP_REAPER;
    int result = reaper_set_acquire(bus, &handover->set);
    if (result < 0)
        return result;
    handover->watch = child_watch_reserve(handover->set, 0, true);
    if (!handover->watch) {
        reaper_set_release(bus, handover->set);
        return -ENOMEM;
    }
    *step = EXITBUS_SPAWN_STEP_SUBSCRIPTION;
    result = subscribe ? make_subscription(bus, &handover->subscription) : 0;
    if (result < 0)
        handover_abort(handover);
    return result;
}

CHILD_CODE void handover_announce(struct handover *handover, pid_t pid)
{
    child_watch_set_pid(handover->watch, pid);
    if (handover->subscription) {
        handover->subscription->pid = pid;
        subscription_link(handover->subscription);
    }
    handover->announced = true;
}

void handover_commit(struct handover *handover, int pidfd)
{
    if (handover->subscription)
        subscription_commit(handover->subscription);
    child_watch_commit(handover->set, handover->watch, pidfd);
    reaper_set_release(handover->bus, handover->set);
}

void handover_abort(struct handover *handover)
{
    if (handover->subscription)
        subscription_abort(handover->subscription);
    child_watch_abort(handover->set, handover->watch);
    reaper_set_release(handover->bus, handover->set);
}
