/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The checker of one subscription's stream of events: whole (G1); of each producer every matching
 * event from the first that had to come to the last, once and in order (G1, FIFO); in the total
 * order and in that of real time (G2). Needs no memory that grows with the run.
 */
#ifndef STRESS_STREAM_H
#define STRESS_STREAM_H

#include "../engine/world.h"

struct stream {
    struct subject_topic topic;
    bool first_of_all;                 /* a steady subscriber, and the first of them */
    bool counts;                       /* it has been there from the first event on */
    uint64_t seq;                      /* of the latest event */
    uint64_t place;                    /* of the latest event, where the bus has no seq */
    uint64_t events;                   /* received, real exits included */
    uint64_t received;                 /* synthetic events */
    uint64_t latest_begin_ns;          /* of the publishes of all events so far */
    uint64_t latest[PRODUCERS_MAX];    /* number of each producer's latest; 0: none yet */
    uint64_t must_have[PRODUCERS_MAX]; /* begun when subscribe had returned: later ones must come */
    uint64_t over[PRODUCERS_MAX];      /* done when subscribe was called: these must not come */
};

/* Before subscribe is called, and when it has returned. */
void stream_prepare(struct stream *stream, const struct subject_topic *topic);
void stream_begin(struct stream *stream);

/* Events as they were received. */
void stream_check(struct stream *stream, const struct subject_event *events, size_t count);

/*
 * Everything whose publish had returned by `done` (taken before the last, empty receive) must have
 * been received.
 */
void stream_snapshot(uint64_t done[PRODUCERS_MAX]);
/* True if nothing is missing yet: to be asked again after another receive. */
bool stream_complete(const struct stream *stream, const uint64_t done[PRODUCERS_MAX]);
void stream_end(const struct stream *stream, const uint64_t done[PRODUCERS_MAX]);

#endif
