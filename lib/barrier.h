/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The store-load barrier between the two sides of "I announce, then I look" (a sleeper and a
 * publisher), made asymmetric: the publisher, who passes here once for each delivery, pays nothing
 * but a compiler barrier; the sleeper, who is about to make a system call anyway, has the kernel
 * run a full barrier on every thread of the process (membarrier, about 0.4 µs). Where the kernel
 * refuses membarrier both sides use a full fence.
 *
 * Promise: if each side stores, passes its barrier, and then loads what the other has stored, then
 * at least one of the two sees the other's store. Uses: platform, sys.
 */
#ifndef EXITBUS_BARRIER_H
#define EXITBUS_BARRIER_H

#include "platform.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Written before the first bus exists, then only read. */
extern __attribute__((visibility("hidden"))) bool barrier_asymmetric;

/* Decide which kind to use. Called before any other thread can be in the library. */
void barrier_init(void);

/* The side that passes often. */
static inline void barrier_light(void)
{
    if (likely(barrier_asymmetric))
        atomic_signal_fence(memory_order_seq_cst);
    else
        atomic_thread_fence(memory_order_seq_cst);
}

/* The side that passes seldom. */
void barrier_heavy(void);
/* The same, once; false if the kernel refuses. */
bool barrier_try(void);

#endif
