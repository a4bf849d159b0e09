/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Polled grace periods: the fast way back for memory that turns over all the time (the segments of
 * queues). liburcu's callbacks come 10 ms late, and meanwhile every publish writes to memory that
 * no cache has heard of; here whoever retires or takes memory looks by itself whether the sections
 * of then have ended, which takes microseconds, and never waits for it (G4, G6).
 *
 * Each thread has a record with the number of its sections, odd while it is inside one. A grace
 * period notes who is inside, and is over when each of those numbers has changed. Entered and left
 * together with liburcu's read-side section (reclaim.h). Uses: platform, barrier.
 */
#ifndef EXITBUS_EPOCH_H
#define EXITBUS_EPOCH_H

#include "barrier.h"
#include "platform.h"

#include <stdatomic.h>
#include <stdbool.h>

struct epoch_record {
    _Alignas(CACHE_LINE) _Atomic uint64_t sections; /* odd: inside one; written by its thread */
    uint32_t depth;                                 /* of nested sections; its thread's own */
    _Atomic uint32_t claimed;                       /* by a thread */
    uint32_t number;                                /* from 0; constant */
    struct epoch_record *next;                      /* in the list of all; constant */
};

/* This thread's record; NULL before its first section. */
extern _Thread_local struct epoch_record *epoch_own __attribute__((tls_model("initial-exec")));

/* Shared by the threads for which there was no record: inside is a count of all of theirs. */
extern struct epoch_record epoch_stranger;
void epoch_stranger_enter(void);
void epoch_stranger_leave(void);

/* Once per process; early, so that no thread waits for another here. Can't fail. */
void epoch_init(void);

/* Give this thread a record, or the strangers'. */
struct epoch_record *epoch_register(void);

#define EPOCH_NO_NUMBER UINT32_MAX

/*
 * A number that no other thread has at this time; EPOCH_NO_NUMBER for those without a record. A
 * thread's successor in it knows what the thread has written. Inside a section.
 */
static inline uint32_t epoch_number(void)
{
    return epoch_own->number;
}

static inline void epoch_enter(void)
{
    struct epoch_record *own = epoch_own;
    if (unlikely(!own))
        own = epoch_register();
    if (unlikely(own == &epoch_stranger)) {
        epoch_stranger_enter();
        return;
    }
    if (unlikely(own->depth++ > 0))
        return;
    uint64_t sections = atomic_load_explicit(&own->sections, memory_order_relaxed);
    /* Release: who reads this number, and not the one before, knows of the section before, too. */
    atomic_store_explicit(&own->sections, sections + 1,
                          mutant(WEAK_EPOCH_ENTER) ? memory_order_relaxed : memory_order_release);
    /* The number before anything that the section reads; pairs with the heavy one in begin. */
    if (!mutant(EPOCH_NO_BARRIER))
        barrier_light();
}

static inline void epoch_leave(void)
{
    struct epoch_record *own = epoch_own;
    if (unlikely(own == &epoch_stranger)) {
        epoch_stranger_leave();
        return;
    }
    if (unlikely(--own->depth > 0))
        return;
    uint64_t sections = atomic_load_explicit(&own->sections, memory_order_relaxed);
    /* Release: pairs with the acquire in inside(); what the section has touched, it has touched. */
    atomic_store_explicit(&own->sections, sections + 1,
                          mutant(WEAK_EPOCH) ? memory_order_relaxed : memory_order_release);
}

/* More threads than that inside at once: no polled grace period then. */
#define EPOCH_INSIDE_MAX 30

struct epoch_grace {
    uint32_t count;
    struct {
        const struct epoch_record *record;
        uint64_t sections;
    } inside[EPOCH_INSIDE_MAX];
};

/*
 * Note who is inside a section now. What was made unreachable before this call is not touched any
 * more once epoch_grace_over() has said so. False: it can't be told (too many, or strangers,
 * inside; no membarrier to be had). The caller's own section, if it is inside one, counts like any
 * other. One membarrier, and a look at each thread.
 */
bool epoch_grace_begin(struct epoch_grace *grace);

/* Non-blocking; a few loads. */
bool epoch_grace_over(struct epoch_grace *grace);

#endif
