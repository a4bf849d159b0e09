/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Notices a forked child (G9) at the cost of a few loads a call, and lets it begin anew.
 *
 * How it works
 *   - Each process in which the library is used has a generation: a number that none of its
 *     ancestors had.
 *   - It lies in a page that the kernel hands to a forked child as zeros (MADV_WIPEONFORK). Every
 *     bus has the generation that it was made in. So a bus is of this process if and only if the
 *     two are equal.
 *   - The memory of a bus may be wiped by a fork as well (memory.c), so that fork has no page of it
 *     to share. There the generation of the bus reads 0 in the child, and no live generation is 0.
 *   - The child's first create or prepare begins a generation of its own in that page. Its own
 *     objects work, and its parent's stay stale.
 *   - Nothing runs in the parent's fork.
 *
 * Limits
 *   - Where the kernel does not know MADV_WIPEONFORK (gVisor), a handler of pthread_atfork() zeroes
 *     the memory in the child. A child made by clone(2) itself is not noticed there.
 *   - A child made with CLONE_VM, such as exitbus_spawn's before its exec, shares the page, and so
 *     passes for the parent. It must.
 */
#ifndef EXITBUS_FORK_GUARD_H
#define EXITBUS_FORK_GUARD_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>
#include <stddef.h>

struct fork_guard {
    _Atomic uint32_t generation; /* 0: not begun in this process; with the lock */
    _Atomic uint32_t lock;       /* 0: free, 1: taken, 2: taken, and a thread may sleep */
};

/* NULL before the first fork_guard_begin(); then constant, in children as well. */
extern _Atomic(struct fork_guard *) fork_guard;

/*
 * Begin a generation, if this process has none: one thread calls begin(forked) once. `forked` says
 * that an ancestor had a generation.
 * Returns 0; -ENOMEM; or begin's error, after which the next call tries again. Context: may block.
 */
int fork_guard_begin(int (*begin)(bool forked));

/*
 * The lock that begin() is called with. Context: may block; only after fork_guard_begin() has
 * returned 0.
 */
void fork_guard_lock(void);
void fork_guard_unlock(void);

/*
 * Map memory that a forked child finds as zeros. Returns NULL if there is none. Context: lock-free,
 * except for the first call.
 */
void *fork_guard_map(size_t size);
void fork_guard_unmap(void *address, size_t size);

/* Set in what fork_guard_generation() returns: so it is not what a bus reads that was wiped. */
#define FORK_GUARD_LIVE ((uint32_t)1 << 31)

/*
 * Returns this process's generation. It is no bus's if the process has none. Context: a bus was
 * made, here or in an ancestor.
 */
static inline uint32_t fork_guard_generation(void)
{
    const struct fork_guard *guard = load_relaxed(&fork_guard);
    return load_relaxed(&guard->generation) | FORK_GUARD_LIVE;
}

/* Returns whether a bus of that generation was inherited from another process. */
static inline bool fork_guard_stale(uint32_t generation)
{
    return unlikely(fork_guard_generation() != generation);
}

/* Returns true in a process that was forked off a generation and has begun none of its own. */
static inline bool fork_guard_in_child(void)
{
    const struct fork_guard *guard = load_relaxed(&fork_guard);
    return guard && load_relaxed(&guard->generation) == 0;
}

#endif
