/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The order alone: a slot was left with a turn that lacked memory. One finishes that and frees the
 * slot, another fills it anew, a third may still be helping with what was in it. */
#include "order_test.h"

static void *receiver(void *nothing)
{
    look();
    return nothing;
}

static void *heir(void *nothing)
{
    assert(put(2) == 0);
    return nothing;
}

int main(void)
{
    pthread_t threads[3];
    order_new();
    atomic_init(&lacking[1], 1);
    assert(put(1) == 0);
    pthread_create(&threads[0], NULL, receiver, NULL);
    pthread_create(&threads[1], NULL, heir, NULL);
    pthread_create(&threads[2], NULL, receiver, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    order_end(2);
    return 0;
}
