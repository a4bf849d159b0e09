/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What was checked and found: see verdict.h. */
#include "verdict.h"
#include "../engine/dump.h"
#include "../engine/shared.h"
#include "../engine/text.h"
#include "../engine/worker.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

const char *const guarantee_ids[GUARANTEES] = {"G1",  "G2",  "G3",  "G4",   "G5",   "G6",
                                               "G7",  "G8",  "G9",  "FIFO", "REST", "LOOP",
                                               "G10", "G11", "G12", "G14"};
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
    "per producer",
    "idle at rest",
    "event loops are told once",
    "start before exit",
    "members before leader",
    "what can never match says so",
    "no stranger",
};

const char *const verdict_names[VERDICTS] = {"PASS", "FAIL", "INCONCLUSIVE", "CRASH", "HANG"};

/*
 * What comes up all the time is wanted a thousand times, within the first second of any run. What
 * a scenario of its own checks is wanted a few times, and what is checked at the end once.
 */
static const uint64_t wanted[GUARANTEES] = {
    [NO_LOSS] = 1000,
    [STRICT_FIFO] = 1000,
    [NONE_AFTER_UNSUBSCRIBE] = 20,
    [NEVER_BLOCKS] = 100,
    [ANY_CONTEXT] = 20,
    [DEFERRED_FREEING] = 1,
    [BOUNDED_MEMORY] = 1,
    [CLEAN_FAILURE] = 20,
    [FORK_SAFE] = 2,
    [PRODUCER_FIFO] = 1000,
    [LOOPS_TOLD_ONCE] = 100,
    [START_FIRST] = 20,
    [LEADER_LAST] = 5,
    [WAITS_END] = 20,
    [SIGNALS_HIT] = 10,
#ifndef __SANITIZE_THREAD__ /* which wakes sleeping threads itself, so nothing is checked */
    [REST] = 2,
#endif
};

static struct tallies {
    struct {
        _Alignas(64) _Atomic uint64_t checks;
        _Atomic uint64_t violations;
    } of[GUARANTEES];
    struct violation kept[VIOLATIONS_KEPT];
    _Atomic bool whole[VIOLATIONS_KEPT]; /* kept[i] has been written */
} * tallies;

void verdict_init(void)
{
    tallies = shared_alloc(sizeof *tallies);
}

bool verdict_claimed(enum guarantee guarantee)
{
    return world->claims & 1u << guarantee;
}

uint64_t verdict_wanted(enum guarantee guarantee)
{
    return wanted[guarantee];
}

bool verdict_too_few(enum guarantee guarantee)
{
    return verdict_claimed(guarantee) && verdict_checks(guarantee) < wanted[guarantee];
}

void verdict_checked(enum guarantee guarantee, uint64_t checks)
{
    atomic_fetch_add_explicit(&tallies->of[guarantee].checks, checks, memory_order_relaxed);
}

void verdict_violated(enum guarantee guarantee, const char *format, ...)
{
    uint64_t number = atomic_fetch_add(&tallies->of[guarantee].violations, 1);
    if (number >= VIOLATIONS_KEPT_EACH)
        return;
    if (verdict_claimed(guarantee))
        dump_take();
    size_t index = (size_t)guarantee * VIOLATIONS_KEPT_EACH + number;
    struct violation *violation = &tallies->kept[index];
    violation->guarantee = guarantee;
    violation->time_ns = now_ns();
    violation->time_s = (double)(violation->time_ns - world->begin_ns) / 1e9;
    snprintf(violation->thread, sizeof violation->thread, "%s", self ? self->name : "main");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(violation->text, sizeof violation->text, format, arguments);
    va_end(arguments);
    text_clean(violation->text);
    atomic_store_explicit(&tallies->whole[index], true, memory_order_release);
    if (verdict_claimed(guarantee))
        fprintf(stderr, "\nVIOLATION of %s %s, by %s after %.3f s: %s\n", guarantee_ids[guarantee],
                guarantee_names[guarantee], violation->thread, violation->time_s, violation->text);
}

uint64_t verdict_checks(enum guarantee guarantee)
{
    uint64_t checks = atomic_load(&tallies->of[guarantee].checks);
    uint64_t violations = verdict_violations(guarantee);
    return checks > violations ? checks : violations; /* a hang is noticed without a check */
}

uint64_t verdict_violations(enum guarantee guarantee)
{
    return atomic_load(&tallies->of[guarantee].violations);
}

const struct violation *verdict_first(enum guarantee guarantee)
{
    size_t index = (size_t)guarantee * VIOLATIONS_KEPT_EACH;
    return atomic_load_explicit(&tallies->whole[index], memory_order_acquire)
               ? &tallies->kept[index]
               : NULL;
}

size_t verdict_kept(const struct violation *violations[VIOLATIONS_KEPT])
{
    size_t count = 0;
    for (size_t i = 0; i < VIOLATIONS_KEPT; i++)
        if (atomic_load_explicit(&tallies->whole[i], memory_order_acquire))
            violations[count++] = &tallies->kept[i];
    return count;
}

bool verdict_good(void)
{
    for (int g = 0; g < GUARANTEES; g++)
        if (verdict_claimed((enum guarantee)g) && verdict_violations((enum guarantee)g) > 0)
            return false;
    return true;
}
