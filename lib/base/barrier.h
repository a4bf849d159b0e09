/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The store-load barrier between the two sides of "I announce, then I look" (a sleeper and a
 * publisher), made asymmetric: the publisher, who passes here once for each delivery, pays nothing
 * but a compiler barrier; the sleeper, who is about to make a system call anyway, has the kernel
 * run a full barrier on every thread of the process (membarrier, about 0.4 µs). Where the kernel
 * refuses membarrier both sides use a full fence.
 *
 * Promise: if each side stores, passes its barrier, and then loads what the other has stored, then
 * at least one of the two sees the other's store.
 *
 * Membarrier may be refused later, too: a process can shut itself in (seccomp) when it has used the
 * library for long. The heavy side that finds out switches both sides to full fences, for good. A
 * light side that had looked at the switch before may still have its store in the processor's store
 * buffer, where nothing but time helps: each heavy barrier of the first BARRIER_SETTLE_NS waits for
 * the end of that time before its own fence. A store buffer drains within a microsecond, and a
 * thread that is preempted or stopped meanwhile passes a full barrier in the kernel; so after it
 * the store is visible, and the promise holds. Uses: platform, sys.
 */
#ifndef EXITBUS_BARRIER_H
#define EXITBUS_BARRIER_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>

#define BARRIER_SETTLE_NS 10000000

/* The light side may do without a fence. Set before the first bus exists; cleared once. */
extern __attribute__((visibility("hidden"))) _Atomic bool barrier_asymmetric;

/* Decide which kind to use. Called before any thread is in the library. */
void barrier_init(void);

/* The side that passes often. */
static inline void barrier_light(void)
{
    if (likely(load_relaxed(&barrier_asymmetric)))
        compiler_fence();
    else
        fence_seq_cst();
}

/* The side that passes seldom. Context: sleeps for 10 ms at most, if membarrier has just been
 * refused; else non-blocking. */
void barrier_heavy(void);
/* The same, but never sleeps; false: not possible at the moment. */
bool barrier_try(void);

#endif
