/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The order alone: a turn lacks memory and is left, while another finishes it. */
#include "order_test.h"

static void *publisher(void *pid)
{
    int result = put((int)(intptr_t)pid);
    assert(result == 0 || result == -ENOMEM); /* not ordered, if it helps in vain */
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    order_new();
    atomic_init(&lacking[1], 1);
    for (intptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, publisher, (void *)(i + 1));
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    order_end(order_count(&order));
    return 0;
}
