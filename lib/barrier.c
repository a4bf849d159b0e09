/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The asymmetric store-load barrier: see barrier.h. */
#include "barrier.h"
#include "sys.h"

bool barrier_asymmetric;

void barrier_init(void)
{
    barrier_asymmetric = sys_membarrier_register() == 0 && sys_membarrier() == 0;
}

bool barrier_try(void)
{
    atomic_thread_fence(memory_order_seq_cst);
    return !barrier_asymmetric || sys_membarrier() >= 0;
}

void barrier_heavy(void)
{
    /* Once registered it can only fail by injection; the light side relies on it. */
    while (!barrier_try())
        ck_pr_stall();
}
