/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The order alone: a slot is filled with other events, and another number of them, while a receiver
 * that looks for what lacked memory may still be helping with what was in it before. Who asks for
 * the latest event is known of in every later turn.
 */
#include "order_test.h"

static void *owner(void *nothing)
{
    assert(put_batch(3, 2) == 0);
    assert(put(5) == 0);
    assert(put(6) == 0);
    return nothing;
}

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
    assert(put(2) == 0); /* finishes the first; its note stays until somebody looks */
    pthread_create(&threads[0], NULL, owner, NULL);
    pthread_create(&threads[1], NULL, receiver, NULL);
    atomic_store_explicit(&asked, 1, memory_order_relaxed);
    uint64_t latest = order_latest(&order);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    order_end(6);
    for (uint64_t seq = latest + 1; seq <= 6; seq++)
        assert(atomic_load_explicit(&known[seq], memory_order_relaxed) == 1);
    return 0;
}
