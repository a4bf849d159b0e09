/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Subscribers that come and go, and threads that share a subscription: see scenarios.h. */
#define URCU_API_MAP
#include <urcu-bp.h>

#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#define BATCH 64
#define SHORT_NS 200000

static _Thread_local struct exitbus_event events[BATCH];

/* ------------------------------------------------------------------- one thread, all its own */

static ssize_t receive_somehow(struct exitbus_subscription *subscription, struct random *random,
                               unsigned mode)
{
    size_t capacity = 1 + random_below(random, BATCH);
    switch (mode) {
    case 0: /* try */
        return exitbus_receive_batch(subscription, events, capacity, 0);
    case 1: { /* one at a time, timed */
        int result = exitbus_receive(subscription, events, SHORT_NS);
        return result < 0 ? result : 1;
    }
    case 2: { /* by descriptor */
        struct pollfd poll_fd = {.fd = exitbus_subscription_fd(subscription), .events = POLLIN};
        poll(&poll_fd, 1, 1);
        return exitbus_receive_batch(subscription, events, capacity, 0);
    }
    default: /* batch, timed */
        return exitbus_receive_batch(subscription, events, capacity, SHORT_NS);
    }
}

static void receive_all(struct exitbus_subscription *subscription, struct stream *stream)
{
    uint64_t done[PRODUCERS_MAX];
    stream_snapshot(done);
    ssize_t got;
    /* What is published meanwhile comes too; a bound keeps it from never ending. */
    for (int i = 0; i < 100000; i++) {
        got = exitbus_receive_batch(subscription, events, BATCH, 0);
        if (got < 0)
            break;
        stream_check(stream, events, (size_t)got);
    }
    if (got == -EAGAIN)
        stream_end(stream, done);
}

static void unsubscribe_somehow(struct exitbus_subscription *subscription, struct random *random)
{
    bool inside = random_below(random, 2);
    exitbus_subscription_ref(subscription);
    if (inside)
        rcu_read_lock();
    exitbus_unsubscribe(subscription);
    if (inside)
        rcu_read_unlock();
    int result = exitbus_receive(subscription, events, random_below(random, 2) ? 0 : -1);
    if (result != -ESHUTDOWN)
        verdict_violated(G3, "a receive after unsubscribe says: %s", exitbus_strerror(result));
    exitbus_subscription_unref(subscription);
    verdict_held(G3, 1);
    verdict_held(G5, 1);
}

void *scenario_churn(void *argument)
{
    struct random random = random_for('c', (uintptr_t)argument);
    while (!flag(&world.stop_churn)) {
        struct exitbus_topic topic =
            synthetic_topic(random_below(&random, 6), random_below(&random, 1000));
        struct exitbus_subscription *subscription;
        int result = exitbus_subscribe(world.bus, topic, 0, &subscription);
        if (result < 0) {
            verdict_violated(G8, "subscribe: %s", exitbus_strerror(result));
            break;
        }
        count(&world.subscriptions, 1);
        struct stream stream;
        stream_begin(&stream, &topic);
        unsigned mode = random_below(&random, 4);
        unsigned rounds = random_below(&random, 60);
        for (unsigned i = 0; i < rounds; i++) {
            ssize_t got = receive_somehow(subscription, &random, mode);
            if (got > 0)
                stream_check(&stream, events, (size_t)got);
            else if (got != -EAGAIN && got != -ETIMEDOUT)
                verdict_violated(G8, "receive: %s", exitbus_strerror((int)got));
        }
        if (random_below(&random, 2))
            receive_all(subscription, &stream);
        unsubscribe_somehow(subscription, &random);
    }
    return NULL;
}

/* ------------------------------------------------- several threads, closed by somebody else */

struct party {
    struct exitbus_subscription *subscription;
    _Atomic bool unsubscribed;
    _Atomic uint64_t received;
};

/* Each event goes to one of them, so each sees rising seqs and no event twice. */
static void *party_member(void *argument)
{
    struct party *party = argument;
    uint64_t seq = 0;
    for (;;) {
        bool over = flag(&party->unsubscribed);
        ssize_t got = exitbus_receive_batch(party->subscription, events, BATCH, -1);
        if (got == -ESHUTDOWN)
            break;
        if (over || got < 0) {
            verdict_violated(G3, "a receive on a closed subscription says %zd", got);
            break;
        }
        for (ssize_t i = 0; i < got; i++) {
            if (events[i].seq <= seq)
                verdict_violated(G2, "seq %" PRIu64 " after %" PRIu64, events[i].seq, seq);
            seq = events[i].seq;
            if (synthetic_is(&events[i]) && !synthetic_whole(&events[i]))
                verdict_violated(G1, "seq %" PRIu64 " is torn or corrupt", seq);
        }
        count(&party->received, (uint64_t)got);
        count(&world.deliveries, (uint64_t)got);
        verdict_held(G2, (uint64_t)got);
    }
    exitbus_subscription_unref(party->subscription);
    verdict_held(G3, 1);
    return NULL;
}

void *scenario_shared(void *argument)
{
    enum { MEMBERS = 3 };
    struct random random = random_for('s', (uintptr_t)argument);
    while (!flag(&world.stop_churn)) {
        struct party party = {0};
        struct exitbus_topic topic = synthetic_topic(random_below(&random, 6), 0);
        if (exitbus_subscribe(world.bus, topic, 0, &party.subscription) < 0)
            break;
        count(&world.subscriptions, 1);
        pthread_t members[MEMBERS];
        for (int i = 0; i < MEMBERS; i++) {
            exitbus_subscription_ref(party.subscription);
            pthread_create(&members[i], NULL, party_member, &party);
        }
        /* Close it while they receive, once they have had some, or sleep for want of any. */
        uint64_t enough = random_below(&random, 20000);
        struct timespec nap = {.tv_nsec = 1000000};
        for (int i = 0; i < 20 && atomic_load(&party.received) < enough; i++)
            nanosleep(&nap, NULL);
        exitbus_unsubscribe(party.subscription);
        atomic_store_explicit(&party.unsubscribed, true, memory_order_release);
        for (int i = 0; i < MEMBERS; i++)
            pthread_join(members[i], NULL);
        verdict_held(G5, 1);
    }
    return NULL;
}
