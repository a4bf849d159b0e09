/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The two checks that each public call begins with. A check that fails returns its error from the
 * function that it stands in.
 */
#ifndef EXITBUS_CHECK_H
#define EXITBUS_CHECK_H

#include "base/compiler.h"
#include "base/fork_guard.h"

#include <errno.h>

#define CHECK_ARGUMENTS(valid)                                                                     \
    do {                                                                                           \
        if (unlikely(!(valid)))                                                                    \
            return -EINVAL;                                                                        \
    } while (0)

/*
 * The process that made the bus of this core is this one, and not a parent. A subscription that a
 * fork has wiped has no core.
 */
#define CHECK_GENERATION(core)                                                                     \
    do {                                                                                           \
        if (unlikely(fork_guard_stale((core)->generation)))                                        \
            return -ESTALE;                                                                        \
    } while (0)
#define CHECK_SUBSCRIPTION_GENERATION(subscription)                                                \
    do {                                                                                           \
        if (unlikely(!(subscription)->core))                                                       \
            return -ESTALE;                                                                        \
        CHECK_GENERATION((subscription)->core);                                                    \
    } while (0)

#endif
