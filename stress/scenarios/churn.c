/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Subscribers that come and go, and threads that share a subscription. */
#define URCU_API_MAP
#include <urcu-bp.h>

#include "../checks/share.h"
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "scenarios.h"

#include <errno.h>
#include <string.h>

#define CHURNERS 3
#define MEMBERS 3
#define SHORT_NS 200000
#define ROUNDS_MAX 60
/* Events that a closing subscription may yet receive before it stops asking for more. */
#define ENOUGH 100000

static _Thread_local struct subject_event events[BATCH];

/* ------------------------------------------------------------------- one thread, all its own */

static ssize_t receive_somehow(void *subscription, unsigned mode)
{
    size_t capacity = 1 + random_below(&self->random, BATCH);
    switch (mode) {
    case 0: /* try */
        return call_receive(subscription, events, capacity, 0);
    case 1: /* one at a time, timed */
        return call_receive(subscription, events, 1, SHORT_NS);
    case 2: /* by descriptor */
        if (world->subject->fd) {
            int ready = call_poll(subscription, 1);
            if (ready < 0 && ready != -EINTR)
                return ready;
            return call_receive(subscription, events, capacity, 0);
        }
        return call_receive(subscription, events, capacity, 0);
    default: /* batch, timed */
        return call_receive(subscription, events, capacity, SHORT_NS);
    }
}

static bool is_failure(ssize_t got, const struct plenty *before)
{
    return got < 0 && got != -EAGAIN && got != -ETIMEDOUT && !is_scarcity(got, before);
}

/* Receive until nothing that had been published is missing. */
static void receive_all(void *subscription, struct stream *stream)
{
    uint64_t done[PRODUCERS_MAX];
    stream_snapshot(done);
    for (unsigned i = 0; i < ENOUGH / BATCH && !stream_complete(stream, done);) {
        struct plenty before = plenty_now();
        ssize_t got = call_receive(subscription, events, BATCH, 0);
        if (is_scarcity(got, &before))
            continue;
        if (got <= 0) {
            stream_end(stream, done);
            return;
        }
        stream_check(stream, events, (size_t)got);
        i++;
    }
    verdict_checked(NO_LOSS, 1);
}

/* Then the handle stays valid for who has a reference, and closed. */
static void unsubscribe_somehow(void *subscription)
{
    bool inside = random_below(&self->random, 2) && verdict_claimed(ANY_CONTEXT);
    bool referenced = world->subject->ref && world->subject->unref;
    if (referenced)
        subject_ref(subscription);
    if (inside)
        rcu_read_lock();
    int result = call_unsubscribe(subscription);
    if (inside)
        rcu_read_unlock();
    if (result < 0)
        verdict_violated(ANY_CONTEXT, "unsubscribe: %s", strerror(-result));
    verdict_checked(ANY_CONTEXT, 1);
    if (!referenced)
        return;
    int64_t timeout = random_below(&self->random, 2) ? 0 : -1;
    if (!can(SUBJECT_WAITS))
        timeout = 0;
    ssize_t got = call_receive(subscription, events, BATCH, timeout);
    if (got != -ESHUTDOWN)
        verdict_violated(NONE_AFTER_UNSUBSCRIBE,
                         "a receive after unsubscribe says %zd%s%s, not -ESHUTDOWN", got,
                         got < 0 ? ": " : "", got < 0 ? strerror((int)-got) : " events");
    verdict_checked(NONE_AFTER_UNSUBSCRIBE, 1);
    subject_unref(subscription);
}

bool churn_once(void)
{
    struct subject_topic topic = synthetic_topic(&self->random);
    struct stream stream;
    stream_prepare(&stream, &topic);
    void *subscription = subscribe_surely(&topic, 0);
    if (!subscription)
        return false;
    stream_begin(&stream);
    unsigned mode = random_below(&self->random, 4);
    unsigned rounds = random_below(&self->random, ROUNDS_MAX);
    for (unsigned i = 0; i < rounds; i++) {
        struct plenty before = plenty_now();
        ssize_t got = receive_somehow(subscription, mode);
        if (got > 0)
            stream_check(&stream, events, (size_t)got);
        else if (is_failure(got, &before))
            verdict_violated(CLEAN_FAILURE, "receive: %s", strerror((int)-got));
    }
    if (random_below(&self->random, 2))
        receive_all(subscription, &stream);
    unsubscribe_somehow(subscription);
    return true;
}

static void *churn_body(void *number)
{
    while (!flag(&world->stop_churn) && churn_once())
        continue;
    return number;
}

/* ------------------------------------------------- several threads, closed by somebody else */

struct party {
    void *subscription;
    bool quiet;            /* no signals, which would wake what the bus has left asleep */
    _Atomic unsigned left; /* members that have ended */
    struct subject_topic topic;
    _Atomic uint64_t unsubscribed_ns; /* when unsubscribe had returned; 0: not yet */
    _Atomic uint64_t received;
    _Atomic bool over;
    struct share shares[MEMBERS];
    _Atomic unsigned next;
};

/*
 * By one clock: no receive that began after unsubscribe had returned takes anything, nor does any
 * take an event whose publish began after that.
 */
static void check_closed(struct party *party, uint64_t began_ns, ssize_t got,
                         uint64_t latest_begin_ns)
{
    uint64_t closed_ns = atomic_load(&party->unsubscribed_ns);
    if (closed_ns == 0 || got <= 0)
        return;
    if (began_ns > closed_ns)
        verdict_violated(NONE_AFTER_UNSUBSCRIBE,
                         "a receive that began %.1f us after unsubscribe took %zd events",
                         (double)(began_ns - closed_ns) / 1000, got);
    if (latest_begin_ns > closed_ns)
        verdict_violated(NONE_AFTER_UNSUBSCRIBE,
                         "an event published %.1f us after unsubscribe was received",
                         (double)(latest_begin_ns - closed_ns) / 1000);
}

static void *member_body(void *argument)
{
    struct party *party = argument;
    struct share *share = &party->shares[atomic_fetch_add(&party->next, 1)];
    if (party->quiet)
        worker_block_signals();
    for (;;) {
        uint64_t began_ns = now_ns();
        bool over = flag(&party->over);
        /* With no end to the timeout: only an event or the closing wakes it. */
        ssize_t got =
            call_receive(party->subscription, events, 1 + random_below(&self->random, BATCH),
                         can(SUBJECT_WAITS) ? -1 : SHORT_NS);
        if (got == -ESHUTDOWN)
            break;
        if (got == -ETIMEDOUT || got == -EAGAIN || got == -ENOMEM) {
            if (!over)
                continue;
            verdict_violated(NONE_AFTER_UNSUBSCRIBE, "a receive on a closed subscription says: %s",
                             strerror((int)-got));
            break;
        }
        share_check(share, &party->topic, events, (size_t)got);
        check_closed(party, began_ns, got, share->latest_begin_ns);
        count(&party->received, (uint64_t)got);
    }
    verdict_checked(NONE_AFTER_UNSUBSCRIBE, 1);
    subject_unref(party->subscription);
    atomic_fetch_add(&party->left, 1);
    return NULL;
}

/* False: the members will not end, and the party must stay. */
static bool party_end(struct party *party, struct worker *const *members, unsigned count_)
{
    call_unsubscribe(party->subscription);
    atomic_store(&party->unsubscribed_ns, now_ns());
    atomic_store(&party->over, true);
    uint64_t until = now_ns() + (uint64_t)patience_ns();
    while (atomic_load(&party->left) < count_ && now_ns() < until)
        nap(50000, NULL);
    if (atomic_load(&party->left) < count_) {
        verdict_violated(NONE_AFTER_UNSUBSCRIBE, "%u receivers sleep on, %u s after unsubscribe",
                         count_ - atomic_load(&party->left), world->options.patience);
        return false;
    }
    for (unsigned i = 0; i < count_; i++)
        worker_join(members[i]);
    share_judge(party->shares, MEMBERS, &party->topic);
    verdict_checked(ANY_CONTEXT, 1);
    return true;
}

static void *shared_body(void *number)
{
    static struct party parties[2];
    struct party *party = &parties[(uintptr_t)number];
    while (!flag(&world->stop_churn)) {
        *party = (struct party){.topic = synthetic_topic(&self->random),
                                .quiet = random_below(&self->random, 2)};
        party->subscription = subscribe_surely(&party->topic, 0);
        if (!party->subscription)
            break;
        struct worker *members[MEMBERS];
        unsigned started = 0;
        for (unsigned i = 0; i < MEMBERS; i++) {
            subject_ref(party->subscription);
            members[started] = worker_start("member", i, member_body, party);
            if (members[started])
                started++;
            else
                subject_unref(party->subscription);
        }
        /* Close it while they receive, once they have had some, or sleep for want of any. */
        uint64_t enough = random_below(&self->random, 20000);
        for (int i = 0; i < 20 && atomic_load(&party->received) < enough; i++)
            nap(1000000, &world->stop_churn);
        if (!party_end(party, members, started))
            break;
    }
    return NULL;
}

static void start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "churn", churn_body, CHURNERS);
    if (can(SUBJECT_SHARED) && world->subject->ref && world->subject->unref)
        crew_start(visitors, "shared", shared_body, 2);
}

const struct scenario churn_scenario = {
    "churn", "subscribe and unsubscribe storms, and receivers that share what another closes",
    needs_subscriptions, start, NULL};
