/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The checker of a subscription that several threads receive from: each event goes to one of them
 * (G1), each sees rising numbers (FIFO, G2), and what they have taken together has no gap.
 */
#ifndef STRESS_SHARE_H
#define STRESS_SHARE_H

#include "../engine/world.h"

struct share {
    uint64_t seq;
    uint64_t events;
    uint64_t latest_begin_ns;
    uint64_t first[PRODUCERS_MAX];
    uint64_t latest[PRODUCERS_MAX];
    uint64_t counts[PRODUCERS_MAX];
};

/* What one thread has received. */
void share_check(struct share *share, const struct subject_topic *topic,
                 const struct subject_event *events, size_t count);

/* All of them together, when none receives any more. */
void share_judge(const struct share *shares, size_t count, const struct subject_topic *topic);

#endif
