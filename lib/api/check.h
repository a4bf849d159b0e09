/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The two checks that each public call begins with. They return from the function that they stand
 * in, with the error.
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

/* Of a bus's core: was it made by this process? */
#define CHECK_GENERATION(core)                                                                     \
    do {                                                                                           \
        if (unlikely(fork_guard_stale((core)->generation)))                                        \
            return -ESTALE;                                                                        \
    } while (0)

#endif
