/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Receiving: try, and sleep while there is nothing. subscription.h says what the functions promise;
 * queue/event_count.c and queue/event_fd.c argue why no wake-up is lost.
 *
 * A receive that may wait never says -ENOMEM. While some event lacks memory it naps, and after each
 * nap one of those that nap tries to finish that event: no thread may come to do so, and nothing
 * tells that there is memory. They are announced meanwhile, so an event that comes ends the nap.
 * Then they take what is theirs, and do not try before the nap would have ended. A try finds other
 * events of the turn in their queues, and wakes those that wait for more: if each of these tried as
 * well, they would wake one another without end. A thread that tries just then may have passed the
 * queue before the announcement, so an event may wait for the end of a nap.
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
    /* The look at the event before the look for sleepers and for a descriptor, which
     * one_shot_taken() repeats; pairs with the fences in wakeup_announce() and wakeup_fd(). */
    fence_seq_cst();
    uint32_t sleepers = load_relaxed(&sub->wake_receiver.sleepers);
    if (unlikely(sleepers > (counted ? 1 : 0) || wakeup_fd_used(&sub->wake_receiver)))
        wakeup_notify(&sub->wake_publisher, &sub->wake_receiver);
}

/*
 * Finish a receive of a one-shot subscription, which has closed its queue. Behind the fence in
 * one_shot_wake() this finds the descriptor; or the thread that makes it has its fence behind that
 * one, finds the event or the close when it looks, and leaves the descriptor readable.
 */
static void one_shot_taken(struct exitbus_subscription *sub)
{
    if (unlikely(wakeup_fd_used(&sub->wake_receiver)))
        wakeup_notify_fd_closed(&sub->wake_publisher, &sub->wake_receiver);
    subscription_unlink(sub); /* last, because a publisher may do it as well */
    fetch_add_relaxed(&sub->core->delivered, 1);
}

/*
 * Receive the event of a sticky subscription, and leave it. The first receiver wakes the others,
 * counts the event, and unlinks the node. If it is stopped before, the next receiver wakes them,
 * and a publisher unlinks the node. Returns 1, -EAGAIN or -ESHUTDOWN.
 */
static ssize_t read_sticky(struct exitbus_subscription *sub, struct exitbus_event *event,
                           bool counted)
{
    ssize_t count = queue_read(&sub->head, event);
    if (count <= 0)
        return count;
    if (!queue_seen(&sub->head))
        one_shot_wake(sub, counted);
    int first = queue_see(&sub->head);
    if (first == 1) {
        fetch_add_relaxed(&sub->core->delivered, 1);
        subscription_unlink(sub);
    }
    return first < 0 ? first : 1;
}

/* Take what is there. Returns how many, -EAGAIN or -ESHUTDOWN. Context: in a section. */
static ssize_t take(struct exitbus_subscription *sub, struct exitbus_event *events, size_t capacity,
                    bool counted)
{
    if (likely(!queue_one_shot(&sub->head))) /* sub->flags lies on the publishers' line */
        /* A cursor has no tail, and needs none to take. */
        return queue_take(&sub->tail, &sub->head, &sub->core->memory, events, capacity);
    /* destroy does not meet a one-shot that a publisher has taken out of the registry. */
    if (load_acquire(&sub->core->closed))
        queue_close(&sub->head);
    if (queue_sticky(&sub->head))
        return read_sticky(sub, events, counted);
    if (queue_empty(&sub->head))
        return -EAGAIN;
    one_shot_wake(sub, counted);
    ssize_t count = queue_take(&sub->tail, &sub->head, &sub->core->memory, events, capacity);
    if (count > 0)
        one_shot_taken(sub);
    return count;
}

/*
 * Behind a take: make the descriptor unreadable, if nothing is left. Returns false if it found
 * nothing, and events have come in between.
 */
static bool clear_descriptor(struct exitbus_subscription *sub, ssize_t count)
{
    if (likely(!wakeup_fd_clearable(&sub->wake_receiver)))
        return true;
    bool none = count == -EAGAIN;
    if (!none && (count < 0 || !queue_empty(&sub->head)))
        return true;
    return wakeup_fd_clear(&sub->wake_publisher, &sub->wake_receiver, something_to_receive, sub) ||
           !none;
}

/* Try once. Returns how many, -EAGAIN, -ENOMEM or -ESHUTDOWN. Context: as take(). */
static ssize_t try_receive(struct exitbus_subscription *sub, struct exitbus_event *events,
                           size_t capacity)
{
    bool rearmed = false;
    for (;;) {
        bool stalled = order_stalled(&sub->core->order); /* first: others may finish it */
        ssize_t count = take(sub, events, capacity, false);
        if (unlikely(stalled && count == -EAGAIN)) {
            if (rearmed)
                return -ENOMEM; /* another try would signal the descriptor */
            int finished = order_finish_stalled(&sub->core->order);
            count = take(sub, events, capacity, false);
            if (count == -EAGAIN && finished < 0) {
                if (!wakeup_fd_clearable(&sub->wake_receiver))
                    return finished;
                /* The next publish makes an edge, as it does after -EAGAIN. */
                wakeup_fd_rearm(&sub->wake_publisher);
                if (subscription_has_cursor(sub))
                    channel_announce(sub->channel);
                rearmed = true;
                continue;
            }
        }
        if (clear_descriptor(sub, count))
            return count;
    }
}

/* Length of a nap. Publishers try to finish the event as well. */
#define NAP_NS 200000000

/* Returns whether this thread is to try now. *next_ns is when to ask again. */
static bool retry_due(struct bus_core *core, int64_t *next_ns)
{
    int64_t now = sys_clock_ns(CLOCK_MONOTONIC);
    /* Relaxed, as is the CAS: nothing but the time is handed over. */
    int64_t due = load_relaxed(&core->retry_ns);
    /* A time so far ahead is of a clock that was set back since, or was read wrong. */
    bool is_due = now >= due || due - now > 2 * NAP_NS;
    bool claimed = is_due && cas_relaxed(&core->retry_ns, &due, now + NAP_NS);
    *next_ns = claimed ? now + NAP_NS : due;
    return claimed;
}

/* Take for a call that may wait. Returns as take(). Context: in a section. */
static ssize_t take_first(struct exitbus_subscription *sub, struct exitbus_event *events,
                          size_t capacity, bool counted)
{
    ssize_t count = take(sub, events, capacity, counted);
    if (count > 0)
        clear_descriptor(sub, count);
    return count;
}

/* The same in a section of its own. Context: by a thread that is counted as a sleeper. */
static ssize_t look(struct exitbus_subscription *sub, struct exitbus_event *events, size_t capacity)
{
    reclaim_enter();
    ssize_t count = take_first(sub, events, capacity, true);
    reclaim_leave();
    return count;
}

/*
 * Settle, before the look behind an announcement. *until_ns becomes the end of the nap, if an event
 * lacks memory and it is the earlier one.
 */
static void settle(struct bus_core *core, int64_t *until_ns)
{
    reclaim_enter();
    bool stalled = order_settle_unless_stalled(&core->order) < 0;
    int64_t next_ns;
    if (unlikely(stalled)) {
        if (retry_due(core, &next_ns))
            stalled = order_finish_stalled(&core->order) < 0;
        if (stalled && next_ns < *until_ns)
            *until_ns = next_ns;
    }
    reclaim_leave();
}

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

/* Sleep in `epoch` until a time; INT64_MAX: for ever. Returns whether the kernel says it is up. */
static bool sleep_until(_Atomic uint32_t *futex, uint32_t epoch, uint32_t bits, int64_t until_ns)
{
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    return wakeup_sleep(futex, epoch, bits, until_ns == INT64_MAX ? NULL : &until) == -ETIMEDOUT;
}

/* Returns whether the deadline has passed; INT64_MAX: there is none. */
static bool too_late(int64_t deadline_ns)
{
    return deadline_ns != INT64_MAX && sys_clock_ns(CLOCK_MONOTONIC) >= deadline_ns;
}

/* At the end of a timed wait: an event loop that waits so must not find the descriptor readable. */
static void clear_after(struct exitbus_subscription *sub)
{
    reclaim_enter();
    clear_descriptor(sub, -EAGAIN);
    reclaim_leave();
}

/* Sleep until there is something, or until the deadline. Context: blocks; with a reference. */
static ssize_t receive_sleeping(struct exitbus_subscription *sub, struct exitbus_event *events,
                                size_t capacity, int64_t deadline_ns)
{
    _Atomic uint32_t *futex = subscription_epoch(sub);
    uint32_t bits = subscription_wake_bits(sub);
    ssize_t count;
    sleepers_add(sub, 1);
    for (;;) {
        int64_t until_ns = deadline_ns;
        uint32_t epoch = wakeup_announce(subscription_wake_publisher(sub), futex);
        settle(sub->core, &until_ns);
        count = look(sub, events, capacity);
        if (count != -EAGAIN)
            break;
        /* The kernel's word counts besides the clock, in case the two do not agree. */
        bool over = sleep_until(futex, epoch, bits, until_ns) && until_ns == deadline_ns;
        /* Before the next announcement: the publisher that woke us may still be in its turn. */
        count = look(sub, events, capacity);
        if (count == -EAGAIN && (over || too_late(deadline_ns))) {
            clear_after(sub);
            count = -ETIMEDOUT;
        }
        if (count != -EAGAIN)
            break;
    }
    sleepers_add(sub, (uint32_t)-1);
    return count;
}

/* A section of the caller's own would hold up the freeing of memory for as long as we sleep. */
static ssize_t receive_inside(struct exitbus_subscription *sub, struct exitbus_event *events,
                              size_t capacity)
{
    reclaim_enter();
    ssize_t count = try_receive(sub, events, capacity);
    reclaim_leave();
    return count == -EAGAIN || count == -ENOMEM ? -EDEADLK : count;
}

static ssize_t receive_until(struct exitbus_subscription *sub, struct exitbus_event *events,
                             size_t capacity, int64_t deadline_ns, bool wait)
{
    reclaim_enter();
    ssize_t count =
        wait ? take_first(sub, events, capacity, false) : try_receive(sub, events, capacity);
    if (likely(count != -EAGAIN) || !wait) {
        reclaim_leave();
        return count;
    }
    bool retained = subscription_retain(sub);
    reclaim_leave();
    if (!retained)
        return -ESHUTDOWN;
    count = reclaim_inside() ? receive_inside(sub, events, capacity)
                             : receive_sleeping(sub, events, capacity, deadline_ns);
    subscription_release(sub);
    return count;
}

ssize_t subscription_receive(struct exitbus_subscription *sub, struct exitbus_event *events,
                             size_t capacity, int64_t timeout_ns)
{
    return receive_until(sub, events, capacity, deadline_after(timeout_ns), timeout_ns != 0);
}

/* Context: with a reference, if the call may wait. */
static int receive_pid(struct exitbus_subscription *sub, pid_t pid, struct exitbus_event *event,
                       uint64_t *discarded, int64_t timeout_ns)
{
    int64_t deadline = deadline_after(timeout_ns);
    /* A call that does not wait looks at what was there when it began, and no further. A turn that
     * lacks memory was there, too: a receive that finds nothing else tries to finish it. */
    bool late = timeout_ns == 0 && order_stalled(&sub->core->order);
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
        if (queue_sticky(&sub->head)) /* no other will come */
            return -ESRCH;
        ++*discarded;
        if (timeout_ns == 0 && --left == 0) {
            if (queue_closed(&sub->head))
                return -ESHUTDOWN;
            if (!late)
                return -EAGAIN;
            late = false;
            left = EXITBUS_BATCH_MAX; /* a turn has no more */
        }
        /* A queue that never gets empty must not keep us beyond the timeout. */
        if (timeout_ns > 0 && too_late(deadline))
            return -ETIMEDOUT;
    }
}

int subscription_receive_pid(struct exitbus_subscription *sub, pid_t pid,
                             struct exitbus_event *event, uint64_t *discarded, int64_t timeout_ns)
{
    if (timeout_ns == 0)
        return receive_pid(sub, pid, event, discarded, 0);
    /* Between two waits, too: the caller's own may be given up while this waits. */
    reclaim_enter();
    bool retained = subscription_retain(sub);
    reclaim_leave();
    if (!retained)
        return -ESHUTDOWN;
    int result = receive_pid(sub, pid, event, discarded, timeout_ns);
    subscription_release(sub);
    return result;
}

int subscription_fd(struct exitbus_subscription *sub)
{
    reclaim_enter();
    /* Listed first: behind the fence in wakeup_fd() every publisher sees the list. */
    int fd = subscription_has_cursor(sub) ? channel_list_descriptor(sub) : 0;
    if (fd == 0)
        fd = wakeup_fd(&sub->wake_publisher, &sub->wake_receiver);
    if (fd >= 0 && !wakeup_fd_clearable(&sub->wake_receiver)) {
        if (order_settle(&sub->core->order) == 0)
            wakeup_fd_known(&sub->wake_receiver);
        else
            fd = -ENOMEM; /* the next call finds the descriptor */
    }
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
