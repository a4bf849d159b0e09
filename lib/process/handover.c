/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The hand-over of a child from spawn to a reaper: see handover.h.
 *
 * Why it is right
 *  1. The hold on the set begins first and ends last. So bus, set and reaper exist in between,
 *     though no lock is held while the child is made.
 *  2. The subscription is linked by the child before exec. So even the exit of the fastest child
 *     finds it.
 *  3. A child killed in the middle of announce leaves nothing that abort can't undo: see
 *     subscription_link().
 */
#include "process/handover.h"
#include "process/direct.h"
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

/* Reserve the watch of a child that will exist, in a handle if one is wanted. */
static struct child_watch *reserve_watch(struct handover *handover, enum handover_wants wants)
{
    if (wants < HANDOVER_PROCESS)
        return child_watch_reserve(handover->set, 0, WATCH_SPAWNED);
    bool direct = wants == HANDOVER_DIRECT;
    handover->process = process_create(handover->bus, direct ? handover->set : NULL);
    if (!handover->process)
        return NULL;
    struct child_watch *watch = &handover->process->watch;
    handover->direct = direct && direct_reserve(handover->process);
    if (handover->direct)
        return watch;
    child_watch_enter(handover->set, watch, 0, WATCH_SPAWNED | WATCH_IN_HANDLE);
    return watch;
}

int handover_reserve(struct handover *handover, struct exitbus *bus, enum handover_wants wants,
                     enum exitbus_spawn_step *step)
{
    *handover = (struct handover){.bus = bus};
    *step = EXITBUS_SPAWN_STEP_REAPER;
    int result = reaper_set_acquire(bus, &handover->set);
    if (result < 0)
        return result;
    handover->watch = reserve_watch(handover, wants);
    if (!handover->watch) {
        reaper_set_release(bus, handover->set);
        return -ENOMEM;
    }
    *step = EXITBUS_SPAWN_STEP_SUBSCRIPTION;
    result = wants == HANDOVER_SUBSCRIPTION ? make_subscription(bus, &handover->subscription) : 0;
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
    if (handover->direct)
        direct_commit(handover->process, pidfd);
    else
        child_watch_commit(handover->set, handover->watch, pidfd);
    reaper_set_release(handover->bus, handover->set);
}

void handover_abort(struct handover *handover)
{
    if (handover->subscription)
        subscription_abort(handover->subscription);
    if (handover->direct)
        direct_abort(handover->process);
    else
        child_watch_abort(handover->set, handover->watch);
    if (handover->process)
        process_release(handover->process);
    reaper_set_release(handover->bus, handover->set);
}
