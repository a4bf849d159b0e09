/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Receiving: try, and sleep while there is nothing. subscription.h says what the functions promise;
 * queue/event_count.c and queue/event_fd.c argue why no wake-up is lost.
 *
 * A receive that may wait never says -ENOMEM. While some event lacks memory it naps, and tries to
 * finish that event after each nap: no thread may come to do so, and nothing tells that there is
 * memory. It is announced meanwhile, so an event that comes ends the nap.
 */
#include "base/sys.h"
#include "bus/subscription.h"

#include <errno.h>

#define NS_PER_S 1000000000LL

/* Returns whether there is an event, or a stalled turn that a receive can try to finish. */
static bool something_to_receive(const void *context)
{
    const struct exitbus_subscription *sub = context;
    /* Behind the announcement of its own state, and before the look: channel.c, 5. */
    if (subscription_has_cursor(sub))
        channel_announce(sub->channel);
    return !queue_empty(&sub->head) || order_stalled(&sub->core->order);
}

/*
 * Wake the other receivers of a one-shot that has its event, before one of them takes it: the
 * publisher may be stopped before it wakes them, and the receiver behind its take. They find the
 * event, or the queue closed. `counted`: the caller is one of the sleepers that are counted.
 */
static void one_shot_wake(struct exitbus_subscription *sub, bool counted)
{
    /* The look at the event before the look for sleepers; pairs with wakeup_announce(). */
    fence_seq_cst();
    uint32_t sleepers = load_relaxed(&sub->wake_receiver.sleepers);
    if (unlikely(sleepers > (counted ? 1 : 0) || wakeup_fd_used(&sub->wake_receiver)))
        wakeup_notify(&sub->wake_publisher, &sub->wake_receiver);
}

/* Finish a receive of a one-shot subscription, which has closed its queue. */
static void one_shot_taken(struct exitbus_subscription *sub)
{
    fence_seq_cst(); /* the close before the look; pairs with the fence in wakeup_fd() */
    if (unlikely(wakeup_fd_used(&sub->wake_receiver)))
        wakeup_notify_fd_closed(&sub->wake_publisher, &sub->wake_receiver);
    subscription_unlink(sub); /* last, because a publisher may do it as well */
    fetch_add_relaxed(&sub->core->delivered, 1);
}

/* Take what is there. Returns how many, -EAGAIN or -ESHUTDOWN. Context: in a section. */
static ssize_t take(struct exitbus_subscription *sub, struct exitbus_event *events, size_t capacity,
                    bool one_shot, bool counted)
{
    if (one_shot) {
        if (queue_empty(&sub->head))
            return -EAGAIN;
        one_shot_wake(sub, counted);
    }
    /* A cursor has no tail, and needs none to take. */
    return queue_take(&sub->tail, &sub->head, &sub->core->memory, events, capacity);
}

/* Try once. Returns how many, -EAGAIN, -ENOMEM or -ESHUTDOWN. Context: in a section. */
static ssize_t try_receive(struct exitbus_subscription *sub, struct exitbus_event *events,
                           size_t capacity, bool counted)
{
    bool one_shot = queue_one_shot(&sub->head); /* sub->flags lies on the publishers' line */
    bool rearmed = false;
    for (;;) {
        /* destroy does not meet a one-shot that a publisher has taken out of the registry. */
        if (one_shot && load_acquire(&sub->core->closed))
            queue_close(&sub->head);
        bool stalled = order_stalled(&sub->core->order); /* first: others may finish it */
        ssize_t count = take(sub, events, capacity, one_shot, counted);
        if (unlikely(stalled && count == -EAGAIN)) {
            int finished = order_finish_stalled(&sub->core->order);
            count = take(sub, events, capacity, one_shot, counted);
            if (count == -EAGAIN && finished < 0) {
                if (rearmed || !wakeup_fd_clearable(&sub->wake_receiver))
                    return finished;
                /* The next publish makes an edge, as it does after -EAGAIN. */
                wakeup_fd_rearm(&sub->wake_publisher);
                if (subscription_has_cursor(sub))
                    channel_announce(sub->channel);
                rearmed = true;
                continue;
            }
        }
        if (one_shot && count > 0)
            one_shot_taken(sub);
        if (likely(!wakeup_fd_clearable(&sub->wake_receiver)))
            return count;
        bool none = count == -EAGAIN;
        if ((none || (count > 0 && queue_empty(&sub->head))) &&
            !wakeup_fd_clear(&sub->wake_publisher, &sub->wake_receiver, something_to_receive,
                             sub) &&
            none)
            continue; /* events have come in between */
        return count;
    }
}

/*
 * Try once in a section of its own, or settle first. Context: by a thread that is counted as a
 * sleeper.
 */
static ssize_t try_receive_section(struct exitbus_subscription *sub, struct exitbus_event *events,
                                   size_t capacity, bool settle)
{
    reclaim_enter();
    if (settle) /* one that fails has left a note, which try_receive() finds */
        order_settle(&sub->core->order);
    ssize_t count = try_receive(sub, events, capacity, true);
    reclaim_leave();
    return count;
}

/*
 * Lengths of naps: doubled from the first to the second. Publishers and other receivers try as
 * well, and receivers that wait for something else nap likewise: so the first is long.
 */
#define NAP_FIRST_NS 100000000
#define NAP_MAX_NS 1000000000

static int64_t deadline_after(int64_t timeout_ns)
{
    if (timeout_ns <= 0) /* for ever, or no wait at all */
        return INT64_MAX;
    int64_t now = sys_clock_ns(CLOCK_MONOTONIC);
    return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

/* Count a thread in, or out (-1), of those that may sleep. */
static void sleepers_add(struct exitbus_subscription *sub, uint32_t change)
{
    fetch_add_relaxed(&sub->wake_receiver.sleepers, change);
    if (subscription_has_cursor(sub))
        fetch_add_relaxed(&sub->channel->sleepers, change);
}

/* Returns whether there is nothing to return yet. */
static bool must_wait(ssize_t count)
{
    return count == -EAGAIN || count == -ENOMEM;
}

/* Returns when to try again: at the deadline, or after a nap while an event lacks memory. */
static int64_t wait_until(ssize_t count, int64_t *nap_ns, int64_t deadline_ns)
{
    if (likely(count != -ENOMEM)) {
        *nap_ns = NAP_FIRST_NS;
        return deadline_ns;
    }
    int64_t nap_end_ns = deadline_after(*nap_ns);
    *nap_ns = *nap_ns < NAP_MAX_NS / 2 ? *nap_ns * 2 : NAP_MAX_NS;
    return nap_end_ns < deadline_ns ? nap_end_ns : deadline_ns;
}

/* Sleep in `epoch`. Returns whether the deadline has passed; INT64_MAX: there is none. */
static bool sleep_until(_Atomic uint32_t *futex, uint32_t epoch, uint32_t bits, int64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = deadline_ns / NS_PER_S,
                                .tv_nsec = deadline_ns % NS_PER_S};
    const struct timespec *until = deadline_ns == INT64_MAX ? NULL : &deadline;
    return wakeup_sleep(futex, epoch, bits, until) == -ETIMEDOUT;
}

/* Sleep until there is something, or until the deadline. Context: blocks; with a reference. */
static ssize_t receive_sleeping(struct exitbus_subscription *sub, struct exitbus_event *events,
                                size_t capacity, int64_t deadline_ns)
{
    _Atomic uint32_t *futex = subscription_epoch(sub);
    uint32_t bits = subscription_wake_bits(sub);
    int64_t nap_ns = NAP_FIRST_NS;
    ssize_t count;
    sleepers_add(sub, 1);
    for (;;) {
        uint32_t epoch = wakeup_announce(subscription_wake_publisher(sub), futex);
        count = try_receive_section(sub, events, capacity, true);
        if (!must_wait(count))
            break;
        int64_t until_ns = wait_until(count, &nap_ns, deadline_ns);
        bool timed_out = sleep_until(futex, epoch, bits, until_ns) && until_ns == deadline_ns;
        /* Before the next announcement: the publisher that woke us may still be in its turn. */
        count = try_receive_section(sub, events, capacity, false);
        if (must_wait(count) && timed_out)
            count = -ETIMEDOUT;
        if (!must_wait(count))
            break;
    }
    sleepers_add(sub, (uint32_t)-1);
    return count;
}

static ssize_t receive_until(struct exitbus_subscription *sub, struct exitbus_event *events,
                             size_t capacity, int64_t deadline_ns, bool wait)
{
    reclaim_enter();
    ssize_t count = try_receive(sub, events, capacity, false);
    if (likely(!must_wait(count)) || !wait) {
        reclaim_leave();
        return count;
    }
    bool retained = subscription_retain(sub);
    reclaim_leave();
    if (!retained)
        return -ESHUTDOWN;
    /* A section of the caller's own would hold up the freeing of memory for as long as we sleep. */
    count = reclaim_inside() ? -EDEADLK : receive_sleeping(sub, events, capacity, deadline_ns);
    subscription_release(sub);
    return count;
}

ssize_t subscription_receive(struct exitbus_subscription *sub, struct exitbus_event *events,
                             size_t capacity, int64_t timeout_ns)
{
    return receive_until(sub, events, capacity, deadline_after(timeout_ns), timeout_ns != 0);
}

int subscription_receive_pid(struct exitbus_subscription *sub, pid_t pid,
                             struct exitbus_event *event, uint64_t *discarded, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);
    /* A call that does not wait looks at what was there when it began, and no further. */
    size_t pending = timeout_ns == 0 ? subscription_pending(sub) : 0;
    size_t left = pending > 0 ? pending : 1;
    struct exitbus_event next;
    for (;;) {
        ssize_t count = receive_until(sub, &next, 1, deadline, timeout_ns != 0);
        if (count < 0)
            return (int)count;
        if (next.kind == EXITBUS_EVENT_PID && next.pid == pid) {
            *event = next;
            return 0;
        }
        ++*discarded;
        if (timeout_ns == 0 && --left == 0)
            return queue_closed(&sub->head) ? -ESHUTDOWN : -EAGAIN;
        /* A queue that never gets empty must not keep us beyond the timeout. */
        if (timeout_ns > 0 && sys_clock_ns(CLOCK_MONOTONIC) >= deadline)
            return -ETIMEDOUT;
    }
}

int subscription_fd(struct exitbus_subscription *sub)
{
    reclaim_enter();
    /* Listed first: behind the fence in wakeup_fd() every publisher sees the list. */
    int fd = subscription_has_cursor(sub) ? channel_list_descriptor(sub) : 0;
    if (fd == 0)
        fd = wakeup_fd(&sub->wake_publisher, &sub->wake_receiver);
    if (fd >= 0 && order_settle(&sub->core->order) < 0)
        fd = -ENOMEM; /* the next call finds the descriptor */
    if (fd >= 0)
        wakeup_fd_known(&sub->wake_receiver);
    if (fd >= 0 && queue_empty(&sub->head))
        wakeup_fd_clear(&sub->wake_publisher, &sub->wake_receiver, something_to_receive, sub);
    reclaim_leave();
    return fd;
}

size_t subscription_pending(struct exitbus_subscription *sub)
{
    reclaim_enter();
    size_t pending = 0;
    /* destroy does not meet a one-shot that a publisher has taken out of the registry. */
    bool gone = (sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT) && load_acquire(&sub->core->closed);
    if (!gone && !queue_closed(&sub->head)) {
        uint64_t taken = queue_taken(&sub->head); /* first, so the difference can't be negative */
        pending = (size_t)(queue_appended(subscription_tail(sub)) - taken);
    }
    reclaim_leave();
    return pending;
}
