/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The checker of one subscription's stream: see stream.h. */
#include "stream.h"
#include "synthetic.h"
#include "verdict.h"

#include <inttypes.h>
#include <string.h>

/*
 * Which event each of the latest seqs was, as told by whoever received it first: the seq's upper
 * bits and a hash of the event in one word. Two receivers that are further apart than the table is
 * long are not compared.
 */
#define AGREED_SIZE ((uint64_t)1 << 20)
#define AGREED_HASH (((uint64_t)1 << 32) - 1)
static _Atomic uint64_t agreed[AGREED_SIZE];

void stream_forget(void)
{
    memset((void *)agreed, 0, sizeof agreed); /* and so it is resident before the run, not after */
}

static void check_agreement(const struct exitbus_event *event)
{
    _Atomic uint64_t *entry = &agreed[event->seq % AGREED_SIZE];
    uint64_t mine = (event->seq / AGREED_SIZE + 1) << 32 |
                    (mix(event->max_rss_kib ^ (uint64_t)event->pid << 40) & AGREED_HASH);
    uint64_t theirs = atomic_load_explicit(entry, memory_order_relaxed);
    if (theirs >> 32 < mine >> 32) {
        if (atomic_compare_exchange_strong_explicit(entry, &theirs, mine, memory_order_relaxed,
                                                    memory_order_relaxed))
            return;
    }
    if (theirs >> 32 == mine >> 32 && theirs != mine)
        verdict_violated(G2, "seq %" PRIu64 " is one event here and another elsewhere", event->seq);
}

static uint64_t progress(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_acquire);
}

void stream_begin(struct stream *stream, const struct exitbus_topic *topic)
{
    memset(stream, 0, sizeof *stream);
    stream->topic = *topic;
    for (unsigned p = 0; p < world.options.producers; p++)
        stream->must_have[p] = progress(&world.producers[p].begun);
}

static void check_number(struct stream *stream, const struct exitbus_event *event)
{
    unsigned producer = synthetic_producer(event);
    uint64_t number = synthetic_number(event);
    uint64_t before = stream->latest[producer];
    if (!synthetic_matches(&stream->topic, producer, number)) {
        verdict_violated(G1, "event %" PRIu64 " of producer %u on a topic of kind %d", number,
                         producer, (int)stream->topic.kind);
    } else if (before > 0 && number <= before) {
        verdict_violated(number == before ? G1 : G2,
                         "event %" PRIu64 " of producer %u after %" PRIu64, number, producer,
                         before);
    } else {
        /* The first may be any up to the first that had to come; then there are no gaps. */
        uint64_t expected = synthetic_next(&stream->topic, producer,
                                           before > 0 ? before : stream->must_have[producer]);
        if (before > 0 ? number != expected : number > expected)
            verdict_violated(
                G1, "event %" PRIu64 " of producer %u lost: got %" PRIu64 " after %" PRIu64,
                expected, producer, number, before);
    }
    stream->latest[producer] = number;
}

void stream_check(struct stream *stream, const struct exitbus_event *events, size_t count_)
{
    uint64_t synthetic = 0;
    for (size_t i = 0; i < count_; i++) {
        const struct exitbus_event *event = &events[i];
        if (event->seq <= stream->seq)
            verdict_violated(G2, "seq %" PRIu64 " after %" PRIu64, event->seq, stream->seq);
        stream->seq = event->seq;
        check_agreement(event);
        if (!synthetic_is(event))
            continue;
        synthetic++;
        if (synthetic_whole(event))
            check_number(stream, event);
        else
            verdict_violated(G1, "seq %" PRIu64 " is torn or corrupt", event->seq);
    }
    stream->received += synthetic;
    verdict_held(G1, synthetic);
    verdict_held(G2, count_);
    count(&world.deliveries, count_);
}

void stream_snapshot(uint64_t done[PRODUCERS_MAX])
{
    for (unsigned p = 0; p < world.options.producers; p++)
        done[p] = progress(&world.producers[p].done);
}

void stream_end(const struct stream *stream, const uint64_t done[PRODUCERS_MAX])
{
    for (unsigned p = 0; p < world.options.producers; p++) {
        uint64_t from = stream->latest[p] > 0 ? stream->latest[p] : stream->must_have[p];
        uint64_t missing = synthetic_next(&stream->topic, p, from);
        if (missing <= done[p])
            verdict_violated(G1,
                             "event %" PRIu64 " of producer %u never came (it had %" PRIu64
                             ", published up to %" PRIu64 ")",
                             missing, p, stream->latest[p], done[p]);
    }
    verdict_held(G1, world.options.producers);
}
