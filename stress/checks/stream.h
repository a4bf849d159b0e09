/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The checker of one subscription's stream of events (G1, G2): whole, in the order of seq, and of
 * each producer every matching event from the first that had to come to the last. All checkers
 * together make sure that a seq is the same event everywhere.
 */
#ifndef STRESS_STREAM_H
#define STRESS_STREAM_H

#include "../engine/world.h"

struct stream {
    struct exitbus_topic topic;
    uint64_t seq;                      /* of the latest event */
    uint64_t received;                 /* synthetic events */
    uint64_t latest[PRODUCERS_MAX];    /* number of each producer's latest; 0: none yet */
    uint64_t must_have[PRODUCERS_MAX]; /* begun when subscribe had returned: later ones must come */
};

/* Forget which event each seq was: before another bus. */
void stream_forget(void);

/* When subscribe has returned. */
void stream_begin(struct stream *stream, const struct exitbus_topic *topic);

/* Events as they were received. */
void stream_check(struct stream *stream, const struct exitbus_event *events, size_t count);

/*
 * Everything whose publish had returned by `done` (taken before the last, empty receive) must have
 * been received.
 */
void stream_snapshot(uint64_t done[PRODUCERS_MAX]);
void stream_end(const struct stream *stream, const uint64_t done[PRODUCERS_MAX]);

#endif
