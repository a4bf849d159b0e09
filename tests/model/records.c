/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads' records (lib/memory/epoch.h): a thread that ends leaves its record to another. Where
 * there is none left more are listed, while others walk the list.
 */
#include "memory/epoch.h"

#include <assert.h>
#include <pthread.h>

enum { USERS = 2 };

/* Thread-local variables are one for all in the model: so it is said anew whose turn it is. */
static void *use(void *nothing)
{
    epoch_own = &epoch_no_record;
    epoch_ending = false;
    epoch_prepare();
    struct epoch_record *own = epoch_own;
    epoch_own = own;
    epoch_enter();
    epoch_own = own;
    epoch_leave();
    return nothing;
}

static void *look(void *nothing)
{
    struct epoch_grace grace;
    if (epoch_grace_begin(&grace))
        epoch_grace_over(&grace);
    return nothing;
}

int main(void)
{
    pthread_t threads[USERS + 1];
    assert(epoch_begin(false) == 0);
    epoch_prepare(); /* takes the first one there is; in the model, the only one */
    for (int i = 0; i < USERS; i++)
        pthread_create(&threads[i], NULL, use, NULL);
    pthread_create(&threads[USERS], NULL, look, NULL);
    for (int i = 0; i <= USERS; i++)
        pthread_join(threads[i], NULL);
    struct epoch_grace grace;
    assert(epoch_grace_begin(&grace) && epoch_grace_over(&grace));
    return 0;
}
