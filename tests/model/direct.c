/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A direct handle: one thread waits for a moment, one without limit, and the process ends. The exit
 * is collected once, by one of them or by the reaper, and the thread that waits on gets it.
 */
#include "direct_test.h"

static void *wait_for_it(void *nothing)
{
    check_end(-1);
    return nothing;
}

int main(void)
{
    return run(wait_for_it);
}
