/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Read-side sections of the library, and grace periods for them. A section costs two stores of the
 * thread's own, registers with nobody, and can't fail. A grace period can be polled, by the thread
 * that retires or takes memory (retire.c), or waited for, by the worker (reclaim.c); G4, G6.
 *
 * Each thread has a record with a count of entries and exits, odd while it is inside a section. A
 * grace period notes the odd ones, and is over when each of them has changed.
 *
 * A thread that can't have a record (no memory, no key that would tell of its end, or it is in its
 * last destructors) is a stranger: strangers count themselves in and out of one of two numbers.
 * Uses: platform, barrier, fork_guard.
 */
#ifndef EXITBUS_EPOCH_H
#define EXITBUS_EPOCH_H

#include "base/atomic.h"
#include "base/barrier.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>

struct epoch_record {
    _Alignas(CACHE_LINE) _Atomic uint64_t sections; /* odd: inside one; written by the owner */
    uint32_t depth;                                 /* nesting; the owner's alone */
    uint32_t usable; /* 1; in a forked child 0: wiped. Written before it has an owner */
    uint32_t number; /* from 0; written before it has an owner */
    /* Low half: the thread, as the kernel numbers it; 0: free. High half: counts owners. */
    _Atomic uint64_t owner;
};

/* This thread's record; one that is not usable before its first section, and a stranger's. */
extern _Thread_local struct epoch_record *epoch_own __attribute__((tls_model("initial-exec")));
extern struct epoch_record epoch_no_record, epoch_shared_record;
/* Our destructor has run for this thread. */
extern _Thread_local bool epoch_ending __attribute__((tls_model("initial-exec")));

/*
 * Begin in this process, under fork_guard_begin(); in a forked child (`forked`) all threads but the
 * caller's are gone, and so are their records. 0 or -ENOMEM.
 */
int epoch_begin(bool forked);

/* Give this thread a record now. 0; -ENOMEM: it is a stranger. */
int epoch_prepare(void);

/* What enter and leave do for a thread without a usable record. */
void epoch_enter_first(void);
void epoch_leave_shared(void);

#define EPOCH_NO_NUMBER UINT32_MAX

/*
 * A number that no other thread has at this time; EPOCH_NO_NUMBER for strangers. A thread's
 * successor in it knows what the thread has written. Inside a section.
 */
static inline uint32_t epoch_number(void)
{
    return epoch_own->number;
}

static inline void epoch_enter(void)
{
    struct epoch_record *own = epoch_own;
    if (unlikely(!own->usable)) {
        epoch_enter_first();
        return;
    }
    if (unlikely(own->depth++ > 0))
        return;
    uint64_t sections = load_relaxed(&own->sections);
    /* Release: who reads this number, and not the one before, knows of the section before, too. */
    store_release(&own->sections, sections + 1);
    /* The number before anything that the section reads; pairs with the heavy one in begin. */
    barrier_light();
}

static inline void epoch_leave(void)
{
    struct epoch_record *own = epoch_own;
    if (unlikely(!own->usable)) {
        epoch_leave_shared();
        return;
    }
    if (unlikely(--own->depth > 0))
        return;
    uint64_t sections = load_relaxed(&own->sections);
    /* Release; pairs with sections_of(): what the section has touched, it has touched. */
    store_release(&own->sections, sections + 1);
}

/* Is this thread inside a section? */
bool epoch_inside(void);

/* One more than the highest number in use. */
uint32_t epoch_span(void);

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
 * Note which threads are inside a section now. What was made unreachable before this call is not
 * touched any more once epoch_grace_over() has said so. False: it can't be told (too many, or
 * strangers, inside; membarrier has just been refused). The caller's own section, if it is inside
 * one, counts like any other. One membarrier, and a look at each thread.
 */
bool epoch_grace_begin(struct epoch_grace *grace);

/* Non-blocking; a few loads. */
bool epoch_grace_over(struct epoch_grace *grace);

/*
 * Wait until every section that is open now has ended, by naps. Context: one thread at a time;
 * blocks for as long as a thread is stopped inside.
 */
void epoch_wait(void);

#endif
