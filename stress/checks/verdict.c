/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What was checked and found: see verdict.h. */
#include "verdict.h"
#include "../engine/dump.h"
#include "../engine/worker.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#define KEPT_EACH 5
#define KEPT (GUARANTEES * KEPT_EACH)

const char *const guarantee_ids[GUARANTEES] = {"G1", "G2", "G3", "G4",   "G5",  "G6",
                                               "G7", "G8", "G9", "FIFO", "REST"};
const char *const guarantee_names[GUARANTEES] = {
    "no loss",
    "strict FIFO",
    "no delivery after unsubscribe",
    "the reaper never blocks",
    "any context",
    "deferred freeing",
    "bounded by undelivered",
    "clean failure",
    "fork-safe",
    "FIFO per producer",
    "idle at rest",
};

static struct {
    _Alignas(64) _Atomic uint64_t checks;
    _Atomic uint64_t violations;
} tallies[GUARANTEES];

static struct violation kept[KEPT];
static _Atomic bool whole[KEPT]; /* kept[i] has been written */

bool verdict_claimed(enum guarantee guarantee)
{
    return world.subject && world.subject->claims & 1u << guarantee;
}

void verdict_held(enum guarantee guarantee, uint64_t checks)
{
    atomic_fetch_add_explicit(&tallies[guarantee].checks, checks, memory_order_relaxed);
}

void verdict_violated(enum guarantee guarantee, const char *format, ...)
{
    verdict_held(guarantee, 1);
    uint64_t number = atomic_fetch_add(&tallies[guarantee].violations, 1);
    if (number >= KEPT_EACH)
        return;
    if (verdict_claimed(guarantee))
        dump_take();
    size_t index = (size_t)guarantee * KEPT_EACH + number;
    struct violation *violation = &kept[index];
    violation->guarantee = guarantee;
    violation->time_ns = now_ns();
    violation->time_s = (double)(violation->time_ns - world.begin_ns) / 1e9;
    snprintf(violation->thread, sizeof violation->thread, "%s", self ? self->name : "main");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(violation->text, sizeof violation->text, format, arguments);
    va_end(arguments);
    atomic_store_explicit(&whole[index], true, memory_order_release);
    if (verdict_claimed(guarantee))
        fprintf(stderr, "\nVIOLATION of %s %s, by %s after %.3f s: %s\n", guarantee_ids[guarantee],
                guarantee_names[guarantee], violation->thread, violation->time_s, violation->text);
}

uint64_t verdict_checks(enum guarantee guarantee)
{
    return atomic_load(&tallies[guarantee].checks);
}

uint64_t verdict_violations(enum guarantee guarantee)
{
    return atomic_load(&tallies[guarantee].violations);
}

const struct violation *verdict_first(enum guarantee guarantee)
{
    size_t index = (size_t)guarantee * KEPT_EACH;
    return atomic_load_explicit(&whole[index], memory_order_acquire) ? &kept[index] : NULL;
}

size_t verdict_kept(const struct violation **violations)
{
    size_t count = 0;
    for (size_t i = 0; i < KEPT; i++)
        if (atomic_load_explicit(&whole[i], memory_order_acquire))
            violations[count++] = &kept[i];
    return count;
}

bool verdict_good(void)
{
    for (int g = 0; g < GUARANTEES; g++)
        if (verdict_claimed((enum guarantee)g) && verdict_violations((enum guarantee)g) > 0)
            return false;
    return true;
}
