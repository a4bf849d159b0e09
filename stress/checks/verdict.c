/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was checked and found: see verdict.h. */
#include "verdict.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#define PRINTED_EACH 5

const char *const guarantee_names[GUARANTEES] = {
    "G1 no loss",
    "G2 strict FIFO",
    "G3 no delivery after unsubscribe",
    "G4 the reaper never blocks",
    "G5 any context",
    "G6 deferred freeing",
    "G7 bounded by undelivered",
    "G8 clean failure",
    "G9 fork-safe",
};

static struct {
    _Alignas(64) _Atomic uint64_t checks;
    _Atomic uint64_t violations;
} tallies[GUARANTEES];

void verdict_held(enum guarantee guarantee, uint64_t checks)
{
    atomic_fetch_add_explicit(&tallies[guarantee].checks, checks, memory_order_relaxed);
}

void verdict_violated(enum guarantee guarantee, const char *format, ...)
{
    verdict_held(guarantee, 1);
    if (atomic_fetch_add(&tallies[guarantee].violations, 1) >= PRINTED_EACH)
        return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nVIOLATION of %s: %s\n", guarantee_names[guarantee], text);
}

uint64_t verdict_checks(enum guarantee guarantee)
{
    return atomic_load(&tallies[guarantee].checks);
}

uint64_t verdict_violations(enum guarantee guarantee)
{
    return atomic_load(&tallies[guarantee].violations);
}

bool verdict_good(void)
{
    for (int g = 0; g < GUARANTEES; g++)
        if (verdict_violations((enum guarantee)g) > 0)
            return false;
    return true;
}
