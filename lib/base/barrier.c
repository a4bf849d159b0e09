/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The asymmetric store-load barrier: see barrier.h. */
#include "base/barrier.h"
#include "base/sys.h"

_Atomic bool barrier_asymmetric;

/*
 * CLOCK_MONOTONIC time in ns from which every light side has seen that the switch is cleared.
 * 0: it was not cleared since barrier_init(). UNKNOWN: a thread is clearing it. By heavy sides.
 */
#define UNKNOWN INT64_MAX
static _Atomic int64_t settled_at;

void barrier_init(void)
{
    bool asymmetric = sys_membarrier_register() == 0 && sys_membarrier() == 0;
    store_relaxed(&settled_at, 0);
    store_relaxed(&barrier_asymmetric, asymmetric);
}

/*
 * Switch both sides to fences. The time begins behind the switch. A thread that is stopped in here
 * delays no other: the next one does all of it as well.
 */
static void switch_to_fences(void)
{
    int64_t before = 0;
    cas_seq_cst_else_seq_cst(&settled_at, &before, UNKNOWN);
    store_seq_cst(&barrier_asymmetric, false);
    before = UNKNOWN;
    cas_seq_cst_else_seq_cst(&settled_at, &before,
                             sys_clock_ns(CLOCK_MONOTONIC) + BARRIER_SETTLE_NS);
}

/* Returns for how many ns fences are not enough yet; 0 or less: they are enough. */
static int64_t unsettled_ns(void)
{
    if (load_seq_cst(&settled_at) == UNKNOWN)
        switch_to_fences();
    int64_t at = load_seq_cst(&settled_at);
    return at == 0 ? 0 : at - sys_clock_ns(CLOCK_MONOTONIC);
}

/* Try the heavy side once. Returns 0 or less: done; else after how many ns to try again. */
static int64_t attempt(void)
{
    fence_seq_cst();
    /* Sequentially consistent; pairs with switch_to_fences(), which writes settled_at first. */
    if (load_seq_cst(&barrier_asymmetric)) {
        if (sys_membarrier() >= 0)
            return 0;
        switch_to_fences();
    }
    int64_t missing = unsettled_ns();
    if (missing <= 0)
        fence_seq_cst();
    return missing;
}

bool barrier_try(void)
{
    return attempt() <= 0;
}

void barrier_heavy(void)
{
    int64_t missing;
    while ((missing = attempt()) > 0) /* ends by the clock, even if every sleep fails */
        sys_nap(missing);
}
