/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The order alone: a slot was left with a turn that lacked memory. Its owner, or another, finishes
 * that, and the owner fills it anew, while others may still be helping with what was in it. */
#include "order_test.h"

static void *receiver(void *nothing)
{
    look();
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    order_new();
    atomic_init(&lacking[1], 1);
    assert(put(1) == 0);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, receiver, NULL);
    assert(put(2) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    order_end(2);
    return 0;
}
