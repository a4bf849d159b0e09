/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Consumers so slow that events pile up, and subscriptions by the thousand. */
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SLOTHS 2
#define SLOTH_EVENTS ((uint64_t)1 << 23) /* issued, of which each receives some */
/* Up to 2^20 events pile up: now more, now fewer. */
#define GLUT_BITS_MIN 13
#define GLUT_BITS_MAX 20
#define FANOUT_MAX 1000
#define FANOUT_EVENTS 40

/* Receive and check what there is, or what comes until the stream has all of `done`. */
static void take(void *subscription, struct stream *stream, const uint64_t *done)
{
    static _Thread_local struct subject_event events[BATCH];
    for (;;) {
        ssize_t got = call_receive(subscription, events, BATCH, 0);
        if (got > 0)
            stream_check(stream, events, (size_t)got);
        else if (got != -ENOMEM)
            return;
        if (stream_complete(stream, done) && !flag(&world->drained))
            return; /* what comes meanwhile may be left */
    }
}

/* Receive and check all there is. */
static void drain(void *subscription, struct stream *stream)
{
    uint64_t done[PRODUCERS_MAX];
    stream_snapshot(done);
    take(subscription, stream, done);
    stream_end(stream, done);
}

/* ------------------------------------------------------------------------------------ backlog */

/*
 * Subscribes to one pid, receives nothing for most of a minute or until the end, and then finds
 * everything there. Were it always until the end, what is pending would grow with the run.
 */
static void *sloth_body(void *number)
{
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_PID,
                                  .pid = SYNTHETIC_PID + (int32_t)(uintptr_t)number};
    if (!knows_topic(topic.kind))
        topic.kind = SUBJECT_TOPIC_ALL;
    struct stream stream;
    stream_prepare(&stream, &topic);
    void *subscription = subscribe_surely(&topic, 0);
    if (!subscription)
        return NULL;
    stream_begin(&stream);
    uint64_t enough = atomic_load(&world->issued) + SLOTH_EVENTS, taken = 0;
    while (!flag(&world->drained)) {
        nap(10000000, &world->drained);
        if (flag(&world->drained) || atomic_load(&world->issued) < enough)
            continue;
        uint64_t done[PRODUCERS_MAX];
        stream_snapshot(done);
        take(subscription, &stream, done);
        taken = stream.events;
        enough += SLOTH_EVENTS;
    }
    ssize_t backlog = world->subject->pending ? world->subject->pending(subscription) : -1;
    drain(subscription, &stream);
    if (backlog >= 0 && stream.events - taken != (uint64_t)backlog)
        verdict_violated(NO_LOSS, "%zd events were pending, %" PRIu64 " came", backlog,
                         stream.events - taken);
    verdict_checked(NEVER_BLOCKS, stream.events);
    call_unsubscribe(subscription);
    return NULL;
}

/* Lets up to a million events pile up, then takes them all. */
static void *glut_body(void *number)
{
    (void)number;
    struct subject_topic everything = {.kind = SUBJECT_TOPIC_ALL};
    while (!flag(&world->stop_churn)) {
        struct stream stream;
        stream_prepare(&stream, &everything);
        void *subscription = subscribe_surely(&everything, 0);
        if (!subscription)
            break;
        stream_begin(&stream);
        unsigned bits =
            GLUT_BITS_MIN + random_below(&self->random, GLUT_BITS_MAX - GLUT_BITS_MIN + 1);
        uint64_t enough = atomic_load(&world->issued) + ((uint64_t)1 << bits);
        while (!flag(&world->stop_churn) && atomic_load(&world->issued) < enough)
            nap(5000000, &world->stop_churn);
        drain(subscription, &stream);
        verdict_checked(NEVER_BLOCKS, stream.events);
        call_unsubscribe(subscription);
    }
    return NULL;
}

static void backlog_start(struct crew *residents, struct crew *visitors)
{
    crew_start(residents, "sloth", sloth_body, SLOTHS);
    crew_start(visitors, "glut", glut_body, 1);
}

const struct scenario backlog_scenario = {
    "backlog", "consumers so slow that a million events are pending: publish must not notice",
    needs_subscriptions, backlog_start, NULL};

/* ------------------------------------------------------------------------------------- fanout */

struct leaf {
    void *subscription;
    struct stream stream;
};

static void fan_out(struct publisher *publisher, struct leaf *leaves, unsigned count_)
{
    struct subject_topic topic = synthetic_own_topic(publisher->producer);
    unsigned made = 0;
    for (; made < count_; made++) {
        stream_prepare(&leaves[made].stream, &topic);
        leaves[made].subscription = subscribe_surely(&topic, 0);
        if (!leaves[made].subscription)
            break;
        stream_begin(&leaves[made].stream);
    }
    for (unsigned i = 0; i < FANOUT_EVENTS && !flag(&world->stop_churn); i++)
        publisher_send(publisher, world->subject->batch_max > 1 ? 1 + i % 3 : 1);
    for (unsigned i = 0; i < made; i++) {
        drain(leaves[i].subscription, &leaves[i].stream);
        call_unsubscribe(leaves[i].subscription);
    }
}

static void *fanout_body(void *number)
{
    (void)number;
    static const unsigned sizes[] = {1, 4, 16, 64, 256, FANOUT_MAX};
    struct publisher publisher;
    struct leaf *leaves = calloc(FANOUT_MAX, sizeof *leaves);
    if (!leaves || !publisher_claim(&publisher)) {
        free(leaves);
        return NULL;
    }
    while (!flag(&world->stop_churn)) {
        fan_out(&publisher, leaves,
                sizes[random_below(&self->random, sizeof sizes / sizeof *sizes)]);
        nap(2000000, &world->stop_churn);
    }
    free(leaves);
    return NULL;
}

static void fanout_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "fanout", fanout_body, 1);
}

const struct scenario fanout_scenario = {
    "fanout", "one event to 1, 4, 16 … 1,000 subscriptions, and publishers that meet midway",
    needs_topics_of_one_pid, fanout_start, NULL};
