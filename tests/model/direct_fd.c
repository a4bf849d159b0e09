/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A direct handle: one thread waits for a moment, one at the descriptor, and the process ends. The
 * exit is collected once, and the descriptor is readable then.
 */
#include "direct_test.h"

static void *poll_it(void *nothing)
{
    struct pollfd polled = {.fd = process_fd(process), .events = POLLIN};
    assert(polled.fd >= 0);
    poll(&polled, 1, -1);
    check_end(0); /* what is readable has an answer */
    return nothing;
}

int main(void)
{
    return run(poll_it);
}
