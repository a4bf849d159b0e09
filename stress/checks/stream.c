/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The checker of one subscription's stream: see stream.h. */
#include "stream.h"
#include "agreement.h"
#include "synthetic.h"
#include "verdict.h"

#include <inttypes.h>
#include <string.h>

static uint64_t progress(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_acquire);
}

void stream_prepare(struct stream *stream, const struct subject_topic *topic)
{
    memset(stream, 0, sizeof *stream);
    stream->topic = *topic;
    stream_snapshot(stream->over);
}

void stream_begin(struct stream *stream)
{
    for (unsigned p = 0; p < PRODUCERS_MAX; p++)
        stream->must_have[p] = progress(&world->producers[p].begun);
}

static void check_gap(const struct stream *stream, const struct subject_event *event,
                      uint64_t before)
{
    unsigned producer = event->producer;
    /* The first may be any up to the first that had to come; then there are no gaps. */
    uint64_t expected =
        synthetic_next(&stream->topic, producer, before > 0 ? before : stream->must_have[producer]);
    if (before > 0 ? event->number != expected : event->number > expected)
        verdict_violated(NO_LOSS,
                         "event %" PRIu64 " of producer %u is missing: got %" PRIu64
                         " after %" PRIu64 ", on a topic of kind %d",
                         expected, producer, event->number, before, stream->topic.kind);
}

static void check_number(struct stream *stream, const struct subject_event *event)
{
    unsigned producer = event->producer;
    uint64_t number = event->number, before = stream->latest[producer];
    if (!subject_matches(&stream->topic, event))
        verdict_violated(NO_LOSS, "event %" PRIu64 " of producer %u on a topic of kind %d", number,
                         producer, stream->topic.kind);
    else if (number <= stream->over[producer])
        verdict_violated(NO_LOSS,
                         "event %" PRIu64 " of producer %u, which was over (%" PRIu64
                         ") before the subscription began",
                         number, producer, stream->over[producer]);
    else if (number == before)
        verdict_violated(NO_LOSS, "event %" PRIu64 " of producer %u twice", number, producer);
    else if (number < before)
        verdict_violated(PRODUCER_FIFO, "event %" PRIu64 " of producer %u after %" PRIu64, number,
                         producer, before);
    else
        check_gap(stream, event, before);
    if (number > before)
        stream->latest[producer] = number;
}

/* The order that the bus itself tells. */
static void check_seq(struct stream *stream, const struct subject_event *event)
{
    if (event->seq <= stream->seq)
        verdict_violated(STRICT_FIFO, "seq %" PRIu64 " after %" PRIu64, event->seq, stream->seq);
    else if (stream->counts && event->seq != stream->seq + 1)
        verdict_violated(NO_LOSS, "seq %" PRIu64 " after %" PRIu64 " on a topic of everything",
                         event->seq, stream->seq);
    stream->seq = event->seq;
    agreement_check(event->seq, event);
}

/* The order without such numbers: by counting, for who receives everything. */
static void check_place(struct stream *stream, const struct subject_event *event)
{
    if (stream->counts) {
        agreement_check(stream->events, event);
        if (stream->first_of_all && synthetic_is(event) && event->producer < PRODUCERS_MAX)
            agreement_set_place(event, stream->events);
    } else if (synthetic_is(event) && event->producer < PRODUCERS_MAX) {
        uint64_t place = agreement_place(event);
        if (place != 0 && place < stream->place)
            verdict_violated(STRICT_FIFO,
                             "event %" PRIu64 " of producer %u is at place %" PRIu64
                             " elsewhere, but came here after that at %" PRIu64,
                             event->number, event->producer, place, stream->place);
        if (place != 0)
            stream->place = place;
    }
}

static void check_real_time(struct stream *stream, const struct subject_event *event)
{
    uint64_t end_ns = agreement_end_ns(event);
    if (end_ns < stream->latest_begin_ns)
        verdict_violated(STRICT_FIFO,
                         "event %" PRIu64 " of producer %u came after one whose publish began "
                         "%" PRIu64 " ns after its own had returned",
                         event->number, event->producer, stream->latest_begin_ns - end_ns);
    if (event->begin_ns > stream->latest_begin_ns)
        stream->latest_begin_ns = event->begin_ns;
}

void stream_check(struct stream *stream, const struct subject_event *events, size_t count_)
{
    uint64_t synthetic = 0;
    for (size_t i = 0; i < count_; i++) {
        const struct subject_event *event = &events[i];
        stream->events++;
        if (event->seq != 0)
            check_seq(stream, event);
        else
            check_place(stream, event);
        if (!synthetic_is(event))
            continue;
        synthetic++;
        if (!synthetic_whole(event)) {
            verdict_violated(NO_LOSS, "event %" PRIu64 " (seq %" PRIu64 ") is torn or corrupt",
                             event->number, event->seq);
            continue;
        }
        check_number(stream, event);
        check_real_time(stream, event);
    }
    stream->received += synthetic;
    verdict_checked(NO_LOSS, synthetic);
    verdict_checked(STRICT_FIFO, count_);
    verdict_checked(PRODUCER_FIFO, synthetic);
    count(&world->deliveries, count_);
}

void stream_snapshot(uint64_t done[PRODUCERS_MAX])
{
    for (unsigned p = 0; p < PRODUCERS_MAX; p++)
        done[p] = progress(&world->producers[p].done);
}

/* The first event of a producer that is missing; 0: none. */
static uint64_t missing(const struct stream *stream, unsigned producer, uint64_t done)
{
    uint64_t from =
        stream->latest[producer] > 0 ? stream->latest[producer] : stream->must_have[producer];
    if (from >= done)
        return 0;
    uint64_t next = synthetic_next(&stream->topic, producer, from);
    return next <= done ? next : 0;
}

bool stream_complete(const struct stream *stream, const uint64_t done[PRODUCERS_MAX])
{
    for (unsigned p = 0; p < PRODUCERS_MAX; p++)
        if (missing(stream, p, done[p]))
            return false;
    return true;
}

void stream_end(const struct stream *stream, const uint64_t done[PRODUCERS_MAX])
{
    for (unsigned p = 0; p < PRODUCERS_MAX; p++) {
        uint64_t number = missing(stream, p, done[p]);
        if (number)
            verdict_violated(NO_LOSS,
                             "event %" PRIu64 " of producer %u never came (it had %" PRIu64
                             ", published up to %" PRIu64 ")",
                             number, p, stream->latest[p], done[p]);
    }
    verdict_checked(NO_LOSS, 1);
}
