/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An asymmetric store-load barrier, for two sides that each store and then look: a thread that
 * enters a section, which passes at each call, and a grace period.
 *
 * Promise: each side stores, passes its barrier, and loads what the other side has stored. Then at
 * least one of the two sees the other's store.
 *
 * How it works
 *   - The section's side is light: a barrier for the compiler only.
 *   - The grace period's side is heavy: membarrier(2) makes every thread of the process run a full
 *     barrier, in about 0.4 µs. Many blocks share a grace period.
 *   - Where the kernel refuses membarrier, both sides are full fences.
 *
 * Why it is right when membarrier is refused later (a process may confine itself by seccomp)
 *  1. The heavy side that is refused switches both sides to fences, for good.
 *  2. A light side that looked at the switch before may still have its store in a store buffer.
 *     Each heavy barrier of the first BARRIER_SETTLE_NS waits for the end of that time, then
 *     fences.
 *  3. A store buffer drains within a microsecond, and a thread that is preempted or stopped passes
 *     a full barrier in the kernel. So the store is visible after that time.
 */
#ifndef EXITBUS_BARRIER_H
#define EXITBUS_BARRIER_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>

#define BARRIER_SETTLE_NS 10000000

/* The light side needs no fence. Set before the first bus exists; cleared once, by a heavy side. */
extern __attribute__((visibility("hidden"))) _Atomic bool barrier_asymmetric;

/* Decide which kind to use. Context: before any thread is in the library. */
void barrier_init(void);

/* The side that passes often. Context: never blocks. */
static inline void barrier_light(void)
{
    if (likely(load_relaxed(&barrier_asymmetric)))
        compiler_fence();
    else
        fence_seq_cst();
}

/*
 * The side that passes seldom. Context: sleeps for 10 ms at most, if membarrier has just been
 * refused; else never blocks.
 */
void barrier_heavy(void);
/* The same, but never sleeps. Returns false if it is not possible at the moment. */
bool barrier_try(void);

#endif
