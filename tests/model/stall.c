/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The order alone: one turn lacks memory, and then the next. Late notes of the first never wipe out
 * that of the second: whoever looks when there is memory again finds it.
 */
#include "order_test.h"

/* Helps with the first turn, in vain, and may note that late. */
static void *late(void *nothing)
{
    int result = put(3);
    assert(result == 0 || result == -ENOMEM);
    return nothing;
}

static void *second(void *nothing)
{
    look();
    int result = put(2);
    assert(result == 0 || result == -ENOMEM);
    return nothing;
}

static void *receiver(void *nothing)
{
    look();
    return nothing;
}

int main(void)
{
    pthread_t threads[3];
    order_new();
    atomic_init(&lacking[1], 2);
    atomic_init(&lacking[2], 1);
    assert(put(1) == 0);
    pthread_create(&threads[0], NULL, late, NULL);
    pthread_create(&threads[1], NULL, second, NULL);
    pthread_create(&threads[2], NULL, receiver, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < EVENTS_MAX && order_stalled(&order); i++)
        look();
    order_end(order_count(&order));
    return 0;
}
