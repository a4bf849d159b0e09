/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The order alone: a helper of a single event is late, and meets the slot's first batch there. */
#include "order_test.h"

static void *helper(void *nothing)
{
    assert(put(4) == 0);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    order_new();
    pthread_create(&thread, NULL, helper, NULL);
    assert(put(1) == 0);
    assert(put_batch(2, 2) == 0);
    pthread_join(thread, NULL);
    order_end(4);
    return 0;
}
