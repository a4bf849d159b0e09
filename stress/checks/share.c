/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The checker of a shared subscription: see share.h. */
#include "share.h"
#include "synthetic.h"
#include "verdict.h"

#include <inttypes.h>

static void check_one(struct share *share, const struct subject_topic *topic,
                      const struct subject_event *event)
{
    unsigned p = event->producer;
    if (!subject_matches(topic, event))
        verdict_violated(NO_LOSS, "event %" PRIu64 " of producer %u on a topic of kind %d",
                         event->number, p, topic->kind);
    if (event->number == share->latest[p])
        verdict_violated(NO_LOSS, "event %" PRIu64 " of producer %u twice", event->number, p);
    else if (event->number < share->latest[p])
        verdict_violated(PRODUCER_FIFO, "event %" PRIu64 " of producer %u after %" PRIu64,
                         event->number, p, share->latest[p]);
    if (share->counts[p]++ == 0)
        share->first[p] = event->number;
    share->latest[p] = event->number;
    if (event->begin_ns > share->latest_begin_ns)
        share->latest_begin_ns = event->begin_ns;
}

void share_check(struct share *share, const struct subject_topic *topic,
                 const struct subject_event *events, size_t count_)
{
    for (size_t i = 0; i < count_; i++) {
        const struct subject_event *event = &events[i];
        if (event->seq != 0 && event->seq <= share->seq)
            verdict_violated(STRICT_FIFO, "seq %" PRIu64 " after %" PRIu64, event->seq, share->seq);
        share->seq = event->seq;
        if (!synthetic_is(event))
            continue;
        if (synthetic_whole(event))
            check_one(share, topic, event);
        else
            verdict_violated(NO_LOSS, "event %" PRIu64 " (seq %" PRIu64 ") is torn or corrupt",
                             event->number, event->seq);
    }
    share->events += count_;
    verdict_checked(NO_LOSS, count_);
    verdict_checked(STRICT_FIFO, count_);
    count(&world->deliveries, count_);
}

/* Receivers take from the head, so what they have taken has no gap, and each has it once. */
static void judge_producer(const struct share *shares, size_t count_, unsigned p,
                           const struct subject_topic *topic)
{
    uint64_t first = UINT64_MAX, latest = 0, received = 0, due = 0;
    for (size_t i = 0; i < count_; i++) {
        if (shares[i].counts[p] == 0)
            continue;
        received += shares[i].counts[p];
        if (shares[i].first[p] < first)
            first = shares[i].first[p];
        if (shares[i].latest[p] > latest)
            latest = shares[i].latest[p];
    }
    if (received == 0)
        return;
    for (uint64_t n = first; n <= latest; n = synthetic_next(topic, p, n))
        due++;
    if (received != due)
        verdict_violated(NO_LOSS,
                         "%" PRIu64 " events of producer %u, of %" PRIu64 " from %" PRIu64
                         " to %" PRIu64 ", received by %zu threads together",
                         received, p, due, first, latest, count_);
}

void share_judge(const struct share *shares, size_t count_, const struct subject_topic *topic)
{
    for (unsigned p = 0; p < PRODUCERS_MAX; p++)
        judge_producer(shares, count_, p, topic);
    verdict_checked(NO_LOSS, 1);
}
