/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The total order (G2), across all subscriptions and against real time, with tables of fixed size.
 *
 * Agreement: which event each place of the order was, as told by whoever received it first. The
 * place is the bus's own number, or, where it has none, the count of events that a subscriber to
 * everything has received. Subscribers to less then look up where their events were.
 * Real time: when the publish of each recent event returned. If it did before another's began, it
 * comes first.
 * Entries are overwritten by later events; who comes too late to compare does not.
 */
#ifndef STRESS_AGREEMENT_H
#define STRESS_AGREEMENT_H

#include "../subject.h"

/* Forget everything: before another bus. */
void agreement_forget(void);

/* This event was at `place`. */
void agreement_check(uint64_t place, const struct subject_event *event);

/* Where a synthetic event was for a subscriber to everything; 0: not known. */
uint64_t agreement_place(const struct subject_event *event);
void agreement_set_place(const struct subject_event *event, uint64_t place);

/* The publish of events first … first + count - 1 of a producer has returned. */
void agreement_returned(uint32_t producer, uint64_t first, uint64_t count, uint64_t end_ns);
/* When that of an event had; UINT64_MAX: not known, or not yet. */
uint64_t agreement_end_ns(const struct subject_event *event);

#endif
