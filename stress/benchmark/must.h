/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A call of exitbus that cannot fail in a measurement. */
#ifndef BENCH_MUST_H
#define BENCH_MUST_H

#include <exitbus/exitbus.h>

#include "bench.h"

static inline void must(int result, const char *what)
{
    if (result < 0)
        bench_die("%s: %s", what, exitbus_strerror(result));
}

#endif
