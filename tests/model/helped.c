/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The order alone: a publisher of a batch that is helped finds all of it delivered on return. */
#include "order_test.h"

static void *helper(void *nothing)
{
    assert(put(3) == 0);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    order_new();
    pthread_create(&thread, NULL, helper, NULL);
    assert(put_batch(1, 2) == 0);
    pthread_join(thread, NULL);
    order_end(3);
    return 0;
}
