/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Opaque pointers in the place of events, for monitors whose own event type has no room for 64
 * bytes (subject.h). Nothing tells when the last copy of one is gone, so what stands behind it is
 * of fixed size: a synthetic event follows from its producer and number, which the pointer holds;
 * all others are few.
 */
#ifndef STRESS_PACK_H
#define STRESS_PACK_H

#include "../subject.h"

void *pack(const struct subject_event *event);

/* What was never packed becomes an event that no check takes for whole. */
void unpack(const void *packed, struct subject_event *event);

/*
 * Between the run that warms up and the one that counts. If events were packed, all memory that
 * this may ever take is resident from here on, so that it does not seem to be the subject's.
 */
void pack_forget(void);

#endif
