/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Read-side sections of the library, and grace periods for them (G4, G6).
 *
 * - Each thread has a record with a count of its entries and exits. The count is odd while the
 *   thread is inside a section. A section costs two stores to the thread's own record; it registers
 *   nothing and can't fail.
 * - A grace period notes the records whose counts are odd. It is over when each of these counts has
 *   changed.
 * - The thread that retires or allocates memory polls a grace period (retire.c). The worker waits
 *   for one (reclaim.c).
 * - A thread that can't have a record uses the shared record, which has two counts of the threads
 *   inside. That is so without memory, without a key that reports the thread's end, and in the
 *   thread's last destructors.
 *
 * Why that is right: epoch.c, and docs/design.md, "Epochs".
 */
#ifndef EXITBUS_EPOCH_H
#define EXITBUS_EPOCH_H

#include "base/atomic.h"
#include "base/barrier.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <stdbool.h>

struct epoch_record {
    /* Counts entries and exits, odd while inside; written by the owner. */
    _Alignas(CACHE_LINE) _Atomic uint64_t sections;
    uint32_t depth;  /* nesting; owner only */
    uint32_t usable; /* 1; 0 in a forked child, by the wipe; constant before it has an owner */
    uint32_t number; /* from 0 up; constant before it has an owner */
    /* Low half: the owner's thread id in the kernel, 0 while the record is free. High half:
     * counts owners. Written by claimers and by the owner. */
    _Atomic uint64_t owner;
    /* What the bus with this id keeps by thread number: order.c. 0: nothing. Owner only. */
    uint64_t kept_for;
    void *kept;
    /* By the thread in epoch_wait(): a count that it waits for, and the next such record. */
    uint64_t noted;
    struct epoch_record *noted_next;
};

/*
 * This thread's record: epoch_no_record before its first section, epoch_shared_record if it can't
 * have one of its own. Neither of these is usable.
 */
extern _Thread_local struct epoch_record *epoch_own __attribute__((tls_model("initial-exec")));
extern struct epoch_record epoch_no_record, epoch_shared_record;
/* Set when the library's destructor has run for this thread. */
extern _Thread_local bool epoch_ending __attribute__((tls_model("initial-exec")));

/*
 * Prepare epochs in this process. In a forked child (`forked`), forget the records of the parent's
 * threads: only the calling thread exists there. Returns 0 or -ENOMEM. Context: inside
 * fork_guard_begin().
 */
int epoch_begin(bool forked);

/* Give this thread a record now. Returns 0, or -ENOMEM: the thread uses the shared record. */
int epoch_prepare(void);

/* Enter and leave for a thread without a usable record. */
void epoch_enter_first(void);
void epoch_leave_shared(void);

#define EPOCH_NO_NUMBER UINT32_MAX

/*
 * Returns a number that no other thread has at this time, or EPOCH_NO_NUMBER for a thread of the
 * shared record. What a thread has written is visible to the next thread with its number. Context:
 * inside a section.
 */
static inline uint32_t epoch_number(void)
{
    return epoch_own->number;
}

/*
 * Returns what this thread's record keeps for a bus, or NULL. The record keeps it for one bus at a
 * time, and hands it on with its number. Context: inside a section.
 */
static inline void *epoch_kept(uint64_t bus)
{
    const struct epoch_record *own = epoch_own;
    return own->kept_for == bus ? own->kept : NULL;
}

static inline void epoch_keep(uint64_t bus, void *kept)
{
    struct epoch_record *own = epoch_own;
    if (own->usable) {
        own->kept = kept;
        own->kept_for = bus;
    }
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
    /* Release; pairs with sections_of(). A thread that reads this count, and not the one before,
     * sees the end of the section before as well. */
    store_release(&own->sections, sections + 1);
    /* The count becomes visible before this section reads anything; pairs with the heavy barrier
     * in epoch_grace_begin() and epoch_wait(). */
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
    /* Release; pairs with sections_of(). All accesses of the section happen before this. */
    store_release(&own->sections, sections + 1);
}

/* Returns whether this thread is inside a section. */
bool epoch_inside(void);

/* Returns one more than the highest number in use. */
uint32_t epoch_span(void);

/* With more threads than that inside at once there is no polled grace period. */
#define EPOCH_INSIDE_MAX 30

struct epoch_grace {
    uint32_t count;
    struct {
        const struct epoch_record *record;
        uint64_t sections;
    } inside[EPOCH_INSIDE_MAX];
};

/*
 * Note which threads are inside a section now. Once epoch_grace_over() has returned true, no thread
 * touches what was made unreachable before this call. The caller's own section counts like any
 * other. Returns false if no grace period could begin: too many threads are inside, a thread of the
 * shared record is inside, or membarrier has just been refused. Cost: one membarrier, and one load
 * for each record in use.
 */
bool epoch_grace_begin(struct epoch_grace *grace);

/* Returns whether the grace period is over. Context: never blocks; a few loads. */
bool epoch_grace_over(struct epoch_grace *grace);

/*
 * Wait, by naps, until every section that is open now has ended. Context: one thread at a time;
 * blocks for as long as a thread is stopped inside a section.
 */
void epoch_wait(void);

#endif
