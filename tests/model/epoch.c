/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Polled grace periods (lib/memory/epoch.h): one thread reads and writes, in sections, what another
 * makes unreachable, and uses anew as soon as the grace period is over.
 */
#include "memory/epoch.h"

#include <assert.h>
#include <pthread.h>

#ifndef SHARED_RECORD /* whether the visitor has no record of its own */
#define SHARED_RECORD 0
#endif
#ifndef ENDS /* whether its thread ends in the middle of a section */
#define ENDS 0
#endif

enum { OLD = 1, NEW = 2, SECTIONS = 2, LOOKS = 3 };

struct block {
    _Atomic int state;
    int uses; /* plain: whoever writes must know of who wrote before */
};

static struct block block;
static _Atomic(struct block *) place;
static bool reused;

/* Thread-local variables are one for all in the model: who is meant is said before each call. */
static struct epoch_record *register_thread(void)
{
    epoch_own = &epoch_no_record;
    epoch_ending = false;
    epoch_prepare();
    return epoch_own;
}

static void enter(struct epoch_record *own)
{
    epoch_own = own;
    epoch_enter();
}

static void leave(struct epoch_record *own)
{
    epoch_own = own;
    epoch_leave();
}

static void *visit(void *own)
{
    if (ENDS) {
        own = register_thread();
    }
    for (int i = 0; i < SECTIONS; i++) {
        enter(own);
        struct block *found = atomic_load_explicit(&place, memory_order_acquire);
        if (found) {
            assert(atomic_load_explicit(&found->state, memory_order_relaxed) == OLD);
            atomic_store_explicit(&found->state, OLD, memory_order_relaxed); /* a late helper */
            found->uses++;
        }
        if (!ENDS || i + 1 < SECTIONS)
            leave(own);
    }
    return NULL;
}

static void *retire(void *own)
{
    struct epoch_grace grace;
    enter(own); /* a receiver is inside one itself when it retires */
    struct block *found = atomic_exchange_explicit(&place, NULL, memory_order_acq_rel);
    bool begun = epoch_grace_begin(&grace);
    assert(begun || SHARED_RECORD);
    leave(own);
    for (int i = 0; i < LOOKS && begun && !reused; i++) {
        if (epoch_grace_over(&grace)) {
            atomic_store_explicit(&found->state, NEW, memory_order_relaxed);
            found->uses++;
            reused = true;
        }
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    struct epoch_record *records[2];
    assert(epoch_begin(false) == 0);
    for (int i = 0; i < 2; i++) {
        records[i] = register_thread();
    }
    atomic_init(&block.state, OLD);
    atomic_init(&place, &block);
    pthread_create(&threads[0], NULL, visit, SHARED_RECORD ? &epoch_shared_record : records[0]);
    pthread_create(&threads[1], NULL, retire, records[1]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert(atomic_load_explicit(&block.state, memory_order_relaxed) == (reused ? NEW : OLD));
    return 0;
}
