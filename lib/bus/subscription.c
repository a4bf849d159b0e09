/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subscriptions: see subscription.h.
 *
 * Start. A subscription must get every event whose publish begins after subscribe has returned, all
 * helpers of an event must agree on whether it is for this subscription, and late helpers must not
 * hand it an event from before its time. So its first seq is decided once: the node is inserted,
 * then the order word is read by a read-modify-write, then `start` goes from 0 to the seq above it
 * by CAS. A publisher or helper that meets a node with start 0 does the last two steps itself; it
 * must not take the event in its hands for a measure, since that may be long past. The
 * read-modify-write makes every turn opened later see the node.
 *
 * One-shot. The event that it takes is decided by a CAS of `only_event`, likewise once for all
 * helpers. The receiver that takes it closes the queue with the same CAS, and takes the node out of
 * the registry; so does a publisher that meets it there with another event.
 *
 * Lifetime. `references` counts the handle and the threads that sleep; the last one sends the block
 * to a grace period, after which it is freed. A thread inside a read-side section may look at the
 * subscription without a reference, and take one if there is any left.
 */
#include "bus/subscription.h"
#include "base/fork_guard.h"
#include "base/sys.h"
#include "queue/append.h"

#include <errno.h>

#define NS_PER_S 1000000000LL

_Static_assert(sizeof(struct exitbus_subscription) == 4 * CACHE_LINE, "one line for each purpose");

#define ROUND_TO_LINE(size) (((size) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)

const size_t hub_block_sizes[HUB_CLASSES] = {
    [SEGMENT_CLASS_4] = SEGMENT_BYTES(4),
    [SEGMENT_CLASS_16] = SEGMENT_BYTES(16),
    [SEGMENT_CLASS_126] = SEGMENT_BYTES(126),
    [SUBSCRIPTION_CLASS] = sizeof(struct exitbus_subscription),
    [SUBSCRIPTION_IDS_CLASS] =
        ROUND_TO_LINE(sizeof(struct exitbus_subscription) + sizeof(struct topic_ids)),
    [WATCH_CLASS] = WATCH_BYTES,
};

void hub_release(struct hub *hub)
{
    /* Release, and acquire for the last: its owner frees what the others have used. */
    if (fetch_sub_acq_rel(&hub->references, 1) == 1)
        hub->last_reference(hub);
}

static bool has_ids(const struct exitbus_subscription *sub)
{
    return sub->kind == EXITBUS_TOPIC_CONTAINER || sub->kind == EXITBUS_TOPIC_EXEC;
}

static registry_list *list_of(const struct exitbus_subscription *sub)
{
    return registry_find(&sub->hub->registry, (enum exitbus_topic_kind)sub->kind, sub->pid,
                         has_ids(sub) ? sub->ids->hash : 0);
}

static struct exitbus_subscription *of_node(struct registry_node *node)
{
    return container_of(node, struct exitbus_subscription, node);
}

/* --------------------------------------------------------------------------------- deliver */

static uint64_t decide_start(struct exitbus_subscription *sub)
{
    uint64_t start = order_latest(&sub->hub->order) + 1 + mutant(START_LATE);
    probe(PROBE_SUBSCRIBE_ORDER_READ);
    uint64_t undecided = 0;
    /*
     * Release, and acquire where another was faster: subscribe returns knowing the access to the
     * order that decided, so what is published from then on is above it.
     */
    if (cas_release_else_acquire(&sub->start, &undecided, start))
        return start;
    return undecided;
}

static void remove_from_registry(struct exitbus_subscription *sub)
{
    registry_remove(list_of(sub), &sub->node);
    probe(PROBE_UNSUBSCRIBE_REMOVED);
}

/* True if a one-shot subscription takes event seq. */
static bool one_shot_takes(struct exitbus_subscription *sub, uint64_t seq)
{
    /* Relaxed: only the number itself matters; what is below `seq` is known by the order word. */
    uint64_t event = load_relaxed(&sub->only_event);
    if (mutant(ONE_SHOT_TWICE))
        return true;
    if (event == 0 && cas_relaxed(&sub->only_event, &event, seq))
        return true;
    if (event == seq)
        return true;
    if (event < seq)
        remove_from_registry(sub); /* it has had its event */
    return false;
}

/* The hub is given, since the subscription's own pointer to it lies on the receivers' line. */
static inline int deliver_one(struct hub *hub, struct exitbus_subscription *sub, uint64_t seq,
                              const struct record *record)
{
    /*
     * Relaxed: an event from `start` on was ordered after the decider's read-modify-write of the
     * order word, which whoever delivers it has therefore acquired; from an event below it nothing
     * follows here.
     */
    uint64_t start = load_relaxed(&sub->start);
    if (unlikely(start == 0) && mutant(START_FROM_EVENT))
        start = cas_acq_rel_else_acquire(&sub->start, &start, seq) ? seq : start;
    if (unlikely(start == 0))
        start = decide_start(sub);
    if (seq < start) {
        if (unlikely(seq == ORDER_TELL))
            wakeup_notify(&sub->watch, &sub->wakeup);
        return 0;
    }
    if (unlikely(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT) && !one_shot_takes(sub, seq))
        return 0;
    if (mutant(WAKE_CHECK_FIRST))
        wakeup_notify(&sub->watch, &sub->wakeup);
    probe(PROBE_DELIVER_BEFORE_APPEND);
    int result = queue_append(&sub->tail, &hub->memory, seq, record);
    probe(PROBE_DELIVER_BEFORE_WAKE);
    if (likely(result == 0) && !mutant(WAKE_CHECK_FIRST))
        wakeup_notify(&sub->watch, &sub->wakeup);
    return result;
}

static int deliver_list(struct hub *hub, const registry_list *list, uint64_t seq,
                        const struct record *record)
{
    int result = 0;
    struct registry_node *next;
    for (struct registry_node *node = registry_first(list); node; node = next) {
        next = registry_next(node);
        if (next) /* while this one is written */
            queue_prefetch(&of_node(next)->tail);
        int delivered = deliver_one(hub, of_node(node), seq, record);
        if (unlikely(delivered < 0))
            result = delivered;
    }
    return result;
}

static int deliver_pid(struct hub *hub, pid_t pid, uint64_t seq, const struct record *record)
{
    int result = 0;
    registry_list *list = registry_find(&hub->registry, EXITBUS_TOPIC_PID, pid, 0);
    for (struct registry_node *node = registry_first(list); node; node = registry_next(node)) {
        struct exitbus_subscription *sub = of_node(node);
        if (sub->kind != EXITBUS_TOPIC_PID || (sub->pid != pid && !mutant(TOPIC_BY_BUCKET)))
            continue;
        queue_prefetch_all(&sub->tail); /* it may be one of very many, and in no cache */
        int delivered = deliver_one(hub, sub, seq, record);
        if (unlikely(delivered < 0))
            result = delivered;
    }
    return result;
}

static int deliver_ids(struct hub *hub, enum exitbus_topic_kind kind, uint64_t hash,
                       const struct record_key *key, uint64_t seq, const struct record *record)
{
    int result = 0;
    registry_list *list = registry_find(&hub->registry, kind, 0, hash);
    for (struct registry_node *node = registry_first(list); node; node = registry_next(node)) {
        struct exitbus_subscription *sub = of_node(node);
        if (sub->kind != kind || sub->ids->hash != hash)
            continue;
        if (kind == EXITBUS_TOPIC_CONTAINER ? !topic_matches_container(sub->ids, key)
                                            : !topic_matches_exec(sub->ids, key))
            continue;
        int delivered = deliver_one(hub, sub, seq, record);
        if (unlikely(delivered < 0))
            result = delivered;
    }
    return result;
}

static bool any(const _Atomic bool *announced)
{
    return load_relaxed(announced);
}

int hub_deliver(void *context, uint64_t seq, const struct record *record)
{
    struct hub *hub = context;
    struct registry *registry = &hub->registry;
    struct record_key key = record_key(record);
    int result = deliver_list(hub, &registry->all, seq, record);
    int next = 0;
    if (key.kind == EXITBUS_EVENT_PID) {
        next |= deliver_list(hub, &registry->any_pid, seq, record);
        if (any(&registry->pids))
            next |= deliver_pid(hub, key.pid, seq, record);
        return result | next;
    }
    next |= deliver_list(hub, &registry->any_exec, seq, record);
    if (any(&registry->containers) || any(&registry->execs)) {
        uint64_t hash = topic_hash_container(key.container_id, key.container_id_size);
        next |= deliver_ids(hub, EXITBUS_TOPIC_CONTAINER, hash, &key, seq, record);
        hash = topic_hash_exec(hash, key.exec_id, key.exec_id_size);
        next |= deliver_ids(hub, EXITBUS_TOPIC_EXEC, hash, &key, seq, record);
    }
    return result | next; /* each is 0 or -ENOMEM */
}

/* ------------------------------------------------------------------- subscribe, unsubscribe */

static void subscription_free(struct rcu_head *rcu)
{
    struct block *block = container_of(reclaim_callback_begin(rcu), struct block, reclaim);
    struct exitbus_subscription *sub = container_of(block, struct exitbus_subscription, block);
    struct hub *hub = sub->hub;
    if (mutant(CLOSE_IN_GRACE))
        queue_close(&sub->head);
    wakeup_finish(&sub->wakeup);
    queue_finish(&sub->head, &hub->memory);
    memory_give(&hub->memory, has_ids(sub) ? SUBSCRIPTION_IDS_CLASS : SUBSCRIPTION_CLASS, sub);
    memory_callback_end(&hub->memory);
    hub_release(hub);
}

static void release(struct exitbus_subscription *sub)
{
    if (fetch_sub_acq_rel(&sub->references, 1) != 1)
        return;
    if (mutant(SUBSCRIPTION_NO_GRACE)) {
        fetch_add_relaxed(&sub->hub->memory.callbacks, 1);
        subscription_free(&sub->block.reclaim.rcu);
        return;
    }
    wakeup_end(&sub->watch, &sub->wakeup);
    memory_later(&sub->hub->memory, &sub->block.reclaim, subscription_free);
}

/* A reference from inside a read-side section; false if the last one is gone. */
static bool try_retain(struct exitbus_subscription *sub)
{
    uint32_t count = load_relaxed(&sub->references);
    while (count > 0)
        if (cas_weak_relaxed(&sub->references, &count, count + 1))
            return true;
    return false;
}

int subscription_create(struct hub *hub, const struct exitbus_topic *topic, uint32_t flags,
                        struct exitbus_subscription **subscription)
{
    bool ids;
    int result = topic_check(topic, &ids);
    if (result < 0)
        return result;
    struct exitbus_subscription *sub =
        memory_take(&hub->memory, ids ? SUBSCRIPTION_IDS_CLASS : SUBSCRIPTION_CLASS);
    if (!sub)
        return -ENOMEM;
    queue_init(&sub->tail, &sub->head, &sub->first);
    if (flags & EXITBUS_SUBSCRIBE_ONE_SHOT)
        queue_set_one_shot(&sub->head);
    wakeup_init(&sub->watch, &sub->wakeup);
    atomic_init(&sub->references, 1);
    atomic_init(&sub->node.next, 0);
    sub->hub = hub;
    atomic_init(&sub->start, 0);
    atomic_init(&sub->only_event, 0);
    sub->pid = topic->kind == EXITBUS_TOPIC_PID ? topic->pid : 0;
    sub->kind = (uint8_t)topic->kind;
    sub->flags = (uint8_t)flags;
    if (ids)
        topic_copy_ids(topic, sub->ids);
    fetch_add_relaxed(&hub->references, 1);
    *subscription = sub;
    return 0;
}

void subscription_discard(struct exitbus_subscription *sub)
{
    release(sub);
}

static void close_and_wake(struct exitbus_subscription *sub)
{
    if (mutant(CLOSE_AFTER_WAKE)) {
        wakeup_closed(&sub->watch, &sub->wakeup);
        probe(PROBE_UNSUBSCRIBE_WOKEN);
    }
    if (!mutant(CLOSE_IN_GRACE))
        queue_close(&sub->head);
    probe(PROBE_UNSUBSCRIBE_CLOSED);
    if (mutant(CLOSE_AFTER_WAKE))
        return;
    wakeup_closed(&sub->watch, &sub->wakeup);
    probe(PROBE_UNSUBSCRIBE_WOKEN);
}

void subscription_announce(struct exitbus_subscription *sub)
{
    registry_announce(&sub->hub->registry, (enum exitbus_topic_kind)sub->kind);
}

void subscription_insert(struct exitbus_subscription *sub)
{
    registry_insert(list_of(sub), &sub->node);
    probe(PROBE_SUBSCRIBE_INSERTED);
    decide_start(sub);
    probe(PROBE_SUBSCRIBE_STARTED);
}

static void count_in(struct exitbus_subscription *sub)
{
    fetch_add_relaxed(&sub->hub->subscriptions, 1);
}

void subscription_adopt(struct exitbus_subscription *sub)
{
    count_in(sub);
    /* Insert before the look; pairs with the fence in bus.c's destroy, as in activate. */
    fence_seq_cst();
    if (unlikely(load_acquire(&sub->hub->closed))) {
        reclaim_enter();
        close_and_wake(sub);
        reclaim_leave();
    }
}

void subscription_withdraw(struct exitbus_subscription *sub)
{
    reclaim_enter();
    close_and_wake(sub);
    remove_from_registry(sub); /* also if it is not there, or half-way in */
    release(sub);
    reclaim_leave();
}

int subscription_activate(struct exitbus_subscription *sub)
{
    struct hub *hub = sub->hub;
    subscription_announce(sub);
    subscription_insert(sub);
    /* Insert before the look; pairs with the fence in bus.c's destroy. */
    fence_seq_cst();
    if (unlikely(load_acquire(&hub->closed))) {
        close_and_wake(sub);
        remove_from_registry(sub);
        return -ESHUTDOWN;
    }
    count_in(sub);
    return 0;
}

int exitbus_unsubscribe(struct exitbus_subscription *sub)
{
    if (!sub)
        return 0;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    struct hub *hub = sub->hub;
    reclaim_enter();
    close_and_wake(sub);
    remove_from_registry(sub);
    uint64_t taken = queue_taken(&sub->head);
    uint64_t appended = queue_appended(&sub->tail);
    if (!(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT)) /* which counts when it takes its event */
        fetch_add_relaxed(&hub->delivered, taken);
    fetch_add_relaxed(&hub->dropped, appended - taken);
    fetch_sub_relaxed(&hub->subscriptions, 1);
    release(sub);
    reclaim_leave();
    return 0;
}

int exitbus_subscription_ref(struct exitbus_subscription *sub)
{
    if (!sub)
        return -EINVAL;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    return try_retain(sub) ? 0 : -ESHUTDOWN;
}

int exitbus_subscription_unref(struct exitbus_subscription *sub)
{
    if (!sub)
        return 0;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    release(sub);
    return 0;
}

/* --------------------------------------------------------------------------------- receive */

/* Or something that a receive can try to finish. */
static bool something_to_receive(const void *context)
{
    const struct exitbus_subscription *sub = context;
    return !queue_empty(&sub->head) || order_stalled(&sub->hub->order);
}

/*
 * A one-shot subscription has closed itself: wake who else may wait, since its publisher may have
 * been stopped before it did. `counted`: whether the caller is one of the sleepers that are
 * counted.
 */
static void one_shot_taken(struct exitbus_subscription *sub, bool counted)
{
    barrier_light(); /* the close before the look; pairs with wakeup_announce */
    uint32_t sleepers = load_relaxed(&sub->wakeup.sleepers);
    if (unlikely(sleepers > (counted ? 1 : 0) || wakeup_fd_used(&sub->wakeup)))
        wakeup_closed(&sub->watch, &sub->wakeup);
    remove_from_registry(sub); /* after that, for a helper of the publisher may do it as well */
    fetch_add_relaxed(&sub->hub->delivered, 1);
}

/* One try. Inside a read-side section. */
static ssize_t try_receive(struct exitbus_subscription *sub, struct exitbus_event *events,
                           size_t capacity, bool counted)
{
    bool one_shot = queue_one_shot(&sub->head); /* not from sub->flags: the publishers' line */
    struct memory *memory = &sub->hub->memory;
    bool rearmed = false;
    for (;;) {
        /* A publisher may have taken it out of the registry, so destroy did not meet it there. */
        if (one_shot && load_acquire(&sub->hub->closed))
            queue_close(&sub->head);
        bool stalled = order_stalled(&sub->hub->order); /* first: others may finish it meanwhile */
        ssize_t count = queue_take(&sub->tail, &sub->head, memory, events, capacity);
        if (unlikely(stalled && count == -EAGAIN)) {
            int finished = order_finish_stalled(&sub->hub->order);
            count = queue_take(&sub->tail, &sub->head, memory, events, capacity);
            if (count == -EAGAIN && finished < 0) {
                if (rearmed || !wakeup_fd_clearable(&sub->wakeup))
                    return finished;
                wakeup_fd_rearm(&sub->watch); /* what comes next is an edge, as after -EAGAIN */
                rearmed = true;
                continue;
            }
        }
        if (one_shot && count > 0)
            one_shot_taken(sub, counted);
        if (likely(!wakeup_fd_clearable(&sub->wakeup)))
            return count;
        bool none = count == -EAGAIN;
        if ((none || (count > 0 && queue_empty(&sub->head))) &&
            !wakeup_fd_clear(&sub->watch, &sub->wakeup, something_to_receive, sub) && none)
            continue; /* others have come in between */
        return count;
    }
}

/* By a thread that is counted as a sleeper. */
static ssize_t try_receive_section(struct exitbus_subscription *sub, struct exitbus_event *events,
                                   size_t capacity)
{
    reclaim_enter();
    ssize_t count = try_receive(sub, events, capacity, true);
    reclaim_leave();
    return count;
}

static int64_t deadline_after(int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return INT64_MAX;
    int64_t now = sys_clock_ns(CLOCK_MONOTONIC);
    return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

/* Sleep until there is something. The caller's thread holds a reference. */
static ssize_t receive_sleeping(struct exitbus_subscription *sub, struct exitbus_event *events,
                                size_t capacity, int64_t deadline_ns)
{
    struct timespec deadline = {.tv_sec = deadline_ns / NS_PER_S,
                                .tv_nsec = deadline_ns % NS_PER_S};
    const struct timespec *until = deadline_ns == INT64_MAX ? NULL : &deadline;
    ssize_t count;
    fetch_add_relaxed(&sub->wakeup.sleepers, 1);
    for (;;) {
        if (mutant(WAKE_EPOCH_LATE) &&
            (count = try_receive_section(sub, events, capacity)) != -EAGAIN)
            break;
        uint32_t epoch = wakeup_announce(&sub->watch, &sub->wakeup);
        count = mutant(WAKE_EPOCH_LATE) ? -EAGAIN : try_receive_section(sub, events, capacity);
        if (count != -EAGAIN)
            break;
        bool timed_out = wakeup_sleep(&sub->wakeup, epoch, until) == -ETIMEDOUT;
        /* Before the next announcement, which interrupts the core of whoever has woken us. */
        count = try_receive_section(sub, events, capacity);
        if (count == -EAGAIN && timed_out)
            count = -ETIMEDOUT;
        if (count != -EAGAIN)
            break;
    }
    fetch_sub_relaxed(&sub->wakeup.sleepers, 1);
    return count;
}

static ssize_t receive(struct exitbus_subscription *sub, struct exitbus_event *events,
                       size_t capacity, int64_t deadline_ns, bool wait)
{
    reclaim_enter();
    ssize_t count = try_receive(sub, events, capacity, false);
    if (likely(count != -EAGAIN) || !wait) {
        reclaim_leave();
        return count;
    }
    bool retained = try_retain(sub);
    reclaim_leave();
    if (!retained)
        return -ESHUTDOWN;
    count = receive_sleeping(sub, events, capacity, deadline_ns);
    if (!mutant(SUBSCRIPTION_LEAKS))
        release(sub);
    return count;
}

ssize_t exitbus_receive_batch(struct exitbus_subscription *sub, struct exitbus_event *events,
                              size_t capacity, int64_t timeout_ns)
{
    if (!sub || !events || capacity == 0)
        return -EINVAL;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    int64_t deadline = timeout_ns > 0 ? deadline_after(timeout_ns) : INT64_MAX;
    return receive(sub, events, capacity, deadline, timeout_ns != 0);
}

int exitbus_receive(struct exitbus_subscription *sub, struct exitbus_event *event,
                    int64_t timeout_ns)
{
    ssize_t count = exitbus_receive_batch(sub, event, 1, timeout_ns);
    return count < 0 ? (int)count : 0;
}

int exitbus_wait_pid(struct exitbus_subscription *sub, pid_t pid, int64_t timeout_ns,
                     struct exitbus_event *event)
{
    if (!sub || !event || pid <= 0)
        return -EINVAL;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    int64_t deadline = deadline_after(timeout_ns);
    struct exitbus_event next;
    for (;;) {
        ssize_t count = receive(sub, &next, 1, deadline, timeout_ns != 0);
        if (count < 0)
            return (int)count;
        if (next.kind == EXITBUS_EVENT_PID && next.pid == pid) {
            *event = next;
            return 0;
        }
        /* A queue that is never empty must not keep us beyond the timeout. */
        if (timeout_ns > 0 && sys_clock_ns(CLOCK_MONOTONIC) >= deadline)
            return -ETIMEDOUT;
    }
}

int exitbus_subscription_fd(struct exitbus_subscription *sub)
{
    if (!sub)
        return -EINVAL;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    reclaim_enter();
    int fd = wakeup_fd(&sub->watch, &sub->wakeup);
    if (fd >= 0 && queue_empty(&sub->head))
        wakeup_fd_clear(&sub->watch, &sub->wakeup, something_to_receive, sub);
    reclaim_leave();
    return fd;
}

ssize_t exitbus_pending(struct exitbus_subscription *sub)
{
    if (!sub)
        return -EINVAL;
    if (fork_guard_stale(sub->hub->generation))
        return -ESTALE;
    reclaim_enter();
    ssize_t pending = 0;
    /* A one-shot that a publisher has taken out of the registry is not met by destroy. */
    bool gone = (sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT) && load_acquire(&sub->hub->closed);
    if (!gone && !queue_closed(&sub->head)) {
        uint64_t taken = queue_taken(&sub->head); /* first: so the difference can't be negative */
        pending = (ssize_t)(queue_appended(&sub->tail) - taken);
    }
    reclaim_leave();
    return pending;
}

/* ------------------------------------------------------------------------- all subscriptions */

static void for_each(struct hub *hub, void (*visit)(struct exitbus_subscription *, void *),
                     void *context)
{
    struct registry *registry = &hub->registry;
    const registry_list *broad[] = {&registry->all, &registry->any_pid, &registry->any_exec};
    for (size_t i = 0; i < sizeof broad / sizeof broad[0]; i++)
        for (struct registry_node *node = registry_first(broad[i]); node;
             node = registry_next(node))
            visit(of_node(node), context);
    if (!any(&registry->pids) && !any(&registry->containers) && !any(&registry->execs))
        return;
    for (size_t i = 0; i < REGISTRY_BUCKETS; i++)
        for (struct registry_node *node = registry_first(&registry->directory[i]); node;
             node = registry_next(node))
            visit(of_node(node), context);
}

static void visit_close(struct exitbus_subscription *sub, void *context)
{
    (void)context;
    close_and_wake(sub);
}

void hub_close_subscriptions(struct hub *hub)
{
    for_each(hub, visit_close, NULL);
}

static void visit_sum(struct exitbus_subscription *sub, void *context)
{
    struct exitbus_stats *stats = context;
    if (!(sub->flags & EXITBUS_SUBSCRIBE_ONE_SHOT))
        stats->delivered += queue_taken(&sub->head);
    stats->sleeping_receivers += load_relaxed(&sub->wakeup.sleepers);
}

void hub_sum(struct hub *hub, struct exitbus_stats *stats)
{
    for_each(hub, visit_sum, stats);
}
