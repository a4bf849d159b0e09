/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Notices a forked child (G9) at the cost of one load per call: a page that the kernel hands to
 * the child as zeros (MADV_WIPEONFORK). Nothing runs in the parent's fork. A child made with
 * CLONE_VM, such as exitbus_spawn's before its exec, still shares the page and passes for the
 * parent, as it must. Uses: platform.
 */
#ifndef EXITBUS_FORK_GUARD_H
#define EXITBUS_FORK_GUARD_H

#include "platform.h"

#include <stdatomic.h>
#include <stdbool.h>

extern _Atomic(const uint32_t *) fork_guard_page;

/* Map the page, once per process. 0 or -ENOMEM. */
int fork_guard_init(void);

/* True in a process that was forked off after fork_guard_init(). */
static inline bool fork_guard_in_child(void)
{
    /* Pairs with the release in fork_guard_init. */
    const uint32_t *page = atomic_load_explicit(&fork_guard_page, memory_order_acquire);
    return unlikely(page && *page == 0);
}

#endif
