/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Notices a forked child (G9) at the cost of a few loads a call, and lets it begin anew.
 *
 * Each process in which the library is used has a generation: a number that none of its ancestors
 * had. It lies in a page that the kernel hands to a forked child as zeros (MADV_WIPEONFORK), and
 * every bus and subscription remembers the one it was made in. So an object is of this process if
 * and only if the two are equal. The child's first create or prepare begins a generation of its own
 * there: its objects work, and its parent's stay stale.
 *
 * Nothing runs in the parent's fork. Where the kernel does not know MADV_WIPEONFORK (gVisor), a
 * handler of pthread_atfork() zeroes the memory in the child; a child made by clone(2) itself is
 * not noticed there. A child made with CLONE_VM, such as exitbus_spawn's before its exec, shares
 * the page and passes for the parent, as it must. Uses: platform, sys.
 */
#ifndef EXITBUS_FORK_GUARD_H
#define EXITBUS_FORK_GUARD_H

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>
#include <stddef.h>

struct fork_guard {
    _Atomic uint32_t generation; /* 0: not begun in this process */
    _Atomic uint32_t lock;       /* 0: free, 1: taken, 2: taken, and a thread may sleep */
};

/* NULL before the first fork_guard_begin(); then constant, in children, too. */
extern _Atomic(struct fork_guard *) fork_guard;

/*
 * Begin a generation, if this process has none: begin(forked) is called once, by one thread;
 * `forked` if an ancestor had a generation. 0; -ENOMEM; or begin's error, and the next call tries
 * anew. Context: may block.
 */
int fork_guard_begin(int (*begin)(bool forked));

/* What fork_guard_begin() calls begin under. Only after it has returned 0. Context: may block. */
void fork_guard_lock(void);
void fork_guard_unlock(void);

/* Memory that a forked child finds zeroed. NULL: none. Context: lock-free, but for the first. */
void *fork_guard_map(size_t size);
void fork_guard_unmap(void *address, size_t size);

/* This process's generation; 0 if it has none. Only where a bus has been made, here or before. */
static inline uint32_t fork_guard_generation(void)
{
    const struct fork_guard *guard = load_relaxed(&fork_guard);
    return load_relaxed(&guard->generation);
}

/* Was an object of that generation inherited from another process? */
static inline bool fork_guard_stale(uint32_t generation)
{
    return unlikely(fork_guard_generation() != generation);
}

/* True in a process that was forked off after a generation had begun, and has none of its own. */
static inline bool fork_guard_in_child(void)
{
    /* Acquire; pairs with the CAS in guard_map(). */
    const struct fork_guard *guard = load_acquire(&fork_guard);
    return guard && load_relaxed(&guard->generation) == 0;
}

#endif
