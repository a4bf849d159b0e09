/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sections and grace periods: see epoch.h. The argument in full: docs/design.md, "Epochs".
 *
 * How it works:
 * - Records lie in chunks that are never freed, so a record may be read at any time. A thread that
 *   ends leaves its record to a later thread.
 * - Grace periods read the records below `span`, which is one more than the highest number in use.
 * - A thread of the shared record counts itself in one of two counts, and out of the same one.
 * - A forked child finds chunks and records wiped (fork_guard.h), and begins with chunks of its
 *   own.
 *
 * Why it is right:
 * 1. Either a section is noted by a grace period, or it can't reach the memory: its odd count is
 *    visible before it reads pointers, and the memory is unreachable before the counts are read.
 *    The light barrier here pairs with the heavy one there.
 * 2. Every access of a noted section happens before the memory is reused. The section's end stores
 *    its count with release, and the reuse follows an acquire load of that count or a later one. An
 *    even count says the same of the section before.
 * 3. No record in use lies at or above `span`. A claimer covers its record by a read-modify-write
 *    of `span` before its first section, and the CAS that lowers `span` fails if that came between.
 * 4. The wait for the shared record ends, however many threads enter: new ones enter the other
 *    count. Both counts were empty at some time since the wait began.
 * 5. A thread stopped inside a section keeps grace periods from ending, and does nothing else. Only
 *    the worker waits for one.
 *
 * It relies on: barrier.h (light and heavy barriers), fork_guard.h (wiped pages), and a pthread key
 * whose destructor runs at a thread's end.
 */
#include "memory/epoch.h"
#include "base/fork_guard.h"
#include "base/sys.h"

#include <errno.h>
#include <pthread.h>

/* Records in the first chunk: one page. Each further chunk doubles the number of records. */
#ifndef RECORDS_FIRST
#define RECORDS_FIRST 64u
#endif
#define CHUNKS 20

struct epoch_record epoch_no_record = {.number = EPOCH_NO_NUMBER};
struct epoch_record epoch_shared_record = {.number = EPOCH_NO_NUMBER};
_Thread_local struct epoch_record *epoch_own = &epoch_no_record;

static _Atomic(struct epoch_record *) chunks[CHUNKS];
/*
 * Low half: one more than the highest number in use. High half: counts changes. Written by claimers
 * and by threads that end.
 */
static _Atomic uint64_t span;
static pthread_key_t at_thread_end;
static bool has_key;
_Thread_local bool epoch_ending;

/* --------------------------------------------------------------------------- threads' records */

static uint32_t chunk_start(unsigned chunk)
{
    return chunk == 0 ? 0 : RECORDS_FIRST << (chunk - 1);
}

static uint32_t chunk_size(unsigned chunk)
{
    return chunk == 0 ? RECORDS_FIRST : chunk_start(chunk);
}

/* Returns NULL if there is no such chunk. */
static struct epoch_record *chunk_at(unsigned chunk)
{
    /* Acquire; pairs with the CAS in chunk_add(). */
    return load_acquire(&chunks[chunk]);
}

/* Make a chunk, unless another thread has made it. Returns false without memory. */
static bool chunk_add(unsigned chunk)
{
    size_t size = chunk_size(chunk) * sizeof(struct epoch_record);
    struct epoch_record *fresh = fork_guard_map(size), *none = NULL;
    if (!fresh)
        return false;
    for (uint32_t i = 0; i < chunk_size(chunk); i++) {
        fresh[i].number = chunk_start(chunk) + i;
        fresh[i].usable = 1;
    }
    if (!cas_release(&chunks[chunk], &none, fresh))
        fork_guard_unmap(fresh, size);
    return true;
}

static struct epoch_record *record_at(uint32_t number)
{
    unsigned chunk = 0;
    while (number >= chunk_start(chunk) + chunk_size(chunk))
        chunk++;
    return chunk_at(chunk) + (number - chunk_start(chunk));
}

static void span_cover(uint32_t number)
{
    uint64_t old = load_relaxed(&span), wanted;
    do {
        uint32_t count = (uint32_t)old > number ? (uint32_t)old : number + 1;
        wanted = ((old >> 32) + 1) << 32 | count;
        /* Release; pairs with span_lower() and epoch_span(). All earlier values are
         * read-modify-writes, too, so a thread that acquires this value acquires every one
         * before it. */
    } while (!cas_weak_release(&span, &old, wanted));
}

static uint32_t owner_thread(uint64_t owner)
{
    return (uint32_t)owner;
}

/* Lower `span` below the free records at its end. */
static void span_lower(void)
{
    /* Acquire; pairs with span_cover(). A record that it has covered has an owner by then. */
    uint64_t old = load_acquire(&span);
    while ((uint32_t)old > 0 && !owner_thread(load_acquire(&record_at((uint32_t)old - 1)->owner))) {
        uint64_t wanted = ((old >> 32) + 1) << 32 | ((uint32_t)old - 1);
        if (cas_release_else_acquire(&span, &old, wanted))
            old = wanted;
    }
}

/*
 * Free a record. Called by its owner, or by the thread that has claimed it from one that is gone.
 */
static void record_free(struct epoch_record *record)
{
    uint64_t owner = load_relaxed(&record->owner);
    /* Release; pairs with the CAS in record_take(). */
    store_release(&record->owner, owner >> 32 << 32);
}

/*
 * Make `thread` the owner, if the owner word is still `from`. The count in it tells owners apart: a
 * thread's number in the kernel may come back meanwhile.
 */
static bool record_take(struct epoch_record *record, uint64_t from, uint32_t thread)
{
    uint64_t owner = ((from >> 32) + 1) << 32 | thread;
    return cas_acquire(&record->owner, &from, owner);
}

/* End the section of a thread that ended in the middle of it: by force, from a signal handler. */
static void record_leave_section(struct epoch_record *record)
{
    uint64_t sections = load_acquire(&record->sections);
    record->depth = 0;
    if (sections % 2 == 0)
        return;
    record->kept_for = 0; /* in case it was about to change the two words */
    store_release(&record->sections, sections + 1);
}

/*
 * Leave this thread's record; the key's destructor. The thread may use the library once more, in
 * another destructor. Then it uses the shared record, because this destructor might not run again.
 */
static void leave_record(void *record)
{
    epoch_ending = true;
    epoch_own = &epoch_shared_record;
    if (!((struct epoch_record *)record)->usable)
        return; /* the record was the parent's */
    record_leave_section(record);
    record_free(record);
    span_lower();
}

/*
 * Take over the records of threads that are gone. Such a record stays when a thread first used the
 * library in its last round of destructors. Returns one of them, claimed for `thread`, or NULL.
 */
static struct epoch_record *take_over(uint32_t thread)
{
    struct epoch_record *kept = NULL;
    for (unsigned chunk = 0; chunk < CHUNKS; chunk++) {
        struct epoch_record *records = chunk_at(chunk);
        for (uint32_t i = 0; records && i < chunk_size(chunk); i++) {
            uint64_t owner = load_relaxed(&records[i].owner);
            if (!owner_thread(owner) || !sys_thread_ended(owner_thread(owner)) ||
                !record_take(&records[i], owner, thread))
                continue;
            record_leave_section(&records[i]);
            if (kept)
                record_free(&records[i]);
            else
                kept = &records[i];
        }
    }
    return kept;
}

/* Returns NULL without memory. */
static struct epoch_record *claim_record(void)
{
    uint32_t thread = sys_thread_id();
    for (unsigned chunk = 0; chunk < CHUNKS; chunk++) {
        struct epoch_record *records = chunk_at(chunk);
        if (!records) {
            struct epoch_record *left = chunk > 0 ? take_over(thread) : NULL;
            if (left)
                return left;
            if (!chunk_add(chunk))
                return NULL;
            records = chunk_at(chunk);
        }
        for (uint32_t i = 0; i < chunk_size(chunk); i++) {
            uint64_t owner = load_relaxed(&records[i].owner);
            if (!owner_thread(owner) && record_take(&records[i], owner, thread))
                return &records[i];
        }
    }
    return NULL;
}

static void register_thread(void)
{
    struct epoch_record *own = has_key && !epoch_ending ? claim_record() : NULL;
    if (own && pthread_setspecific(at_thread_end, own) != 0) {
        record_free(own);
        own = NULL;
    }
    if (own)
        span_cover(own->number);
    epoch_own = own ? own : &epoch_shared_record;
}

/* ------------------------------------------------------------------------------ shared record */

static _Atomic uint64_t shared_counts[2];
/* The count that new sections enter; written by the worker. */
static _Atomic uint32_t shared_current;
static _Thread_local struct {
    uint32_t depth, counted_in;
} own_shared __attribute__((tls_model("initial-exec")));

static bool shared_inside(unsigned which)
{
    return load_acquire(&shared_counts[which]) != 0;
}

void epoch_enter_first(void)
{
    if (epoch_own != &epoch_shared_record) {
        register_thread();
        if (epoch_own != &epoch_shared_record) {
            epoch_enter();
            return;
        }
    }
    if (own_shared.depth++ > 0)
        return;
    own_shared.counted_in = load_relaxed(&shared_current);
    fetch_add_relaxed(&shared_counts[own_shared.counted_in], 1);
    fence_seq_cst(); /* in place of barrier_light(), as in epoch_enter() */
}

void epoch_leave_shared(void)
{
    if (epoch_own != &epoch_shared_record || --own_shared.depth > 0)
        return; /* not shared: the section began before a fork */
    if (!shared_inside(own_shared.counted_in))
        return; /* likewise */
    /* Release; pairs with shared_inside(). */
    fetch_sub_release(&shared_counts[own_shared.counted_in], 1);
}

bool epoch_inside(void)
{
    return (epoch_own->usable ? epoch_own->depth : own_shared.depth) > 0;
}

/* --------------------------------------------------------------------------- begin, prepare */

int epoch_begin(bool forked)
{
    /* A fork may have come in the middle of the very first call, which leaves a wiped chunk. */
    const struct epoch_record *first = chunk_at(0);
    if (forked || (first && !first->usable)) {
        for (unsigned i = 0; i < CHUNKS; i++)
            store_relaxed(&chunks[i], NULL);
        for (unsigned i = 0; i < 2; i++)
            store_relaxed(&shared_counts[i], 0);
        store_relaxed(&span, 0);
    }
    if (!has_key)
        has_key = pthread_key_create(&at_thread_end, leave_record) == 0;
    return chunk_at(0) || chunk_add(0) ? 0 : -ENOMEM;
}

int epoch_prepare(void)
{
    if (!epoch_own->usable && own_shared.depth == 0)
        register_thread();
    return epoch_own->usable || epoch_ending ? 0 : -ENOMEM;
}

/* ----------------------------------------------------------------------------- grace periods */

uint32_t epoch_span(void)
{
    /* Acquire; pairs with span_cover(). */
    return (uint32_t)load_acquire(&span);
}

static uint64_t sections_of(const struct epoch_record *record)
{
    /* Acquire; pairs with epoch_leave() and epoch_enter(). */
    return load_acquire(&record->sections);
}

/*
 * Returns the first record from `number` on that is inside a section, with its count in *sections;
 * or NULL. *number is moved behind it.
 */
static struct epoch_record *next_inside(uint32_t *number, uint64_t *sections)
{
    uint32_t count = epoch_span();
    for (unsigned chunk = 0; chunk < CHUNKS && *number < count; chunk++) {
        struct epoch_record *records = chunk_at(chunk);
        uint32_t start = chunk_start(chunk);
        for (; *number < count && *number - start < chunk_size(chunk); ++*number) {
            *sections = sections_of(&records[*number - start]);
            if (*sections % 2 == 1)
                return &records[(*number)++ - start];
        }
    }
    return NULL;
}

bool epoch_grace_begin(struct epoch_grace *grace)
{
    grace->count = 0;
    /* Memory is unreachable before the counts are read; pairs with barrier_light() in
     * epoch_enter(). */
    if (!barrier_try() || shared_inside(0) || shared_inside(1))
        return false;
    const struct epoch_record *record;
    uint32_t number = 0;
    uint64_t sections;
    while ((record = next_inside(&number, &sections))) {
        if (grace->count == EPOCH_INSIDE_MAX)
            return false;
        grace->inside[grace->count].record = record;
        grace->inside[grace->count++].sections = sections;
    }
    return true;
}

bool epoch_grace_over(struct epoch_grace *grace)
{
    for (; grace->count > 0; grace->count--)
        if (sections_of(grace->inside[grace->count - 1].record) ==
            grace->inside[grace->count - 1].sections)
            return false;
    return true;
}

/* Sleep, longer each time: a short section does not hold up the worker for long. */
static void nap(unsigned *naps)
{
    int64_t us = 50LL << (*naps < 8 ? *naps : 8);
    ++*naps;
    sys_nap((us < 10000 ? us : 10000) * 1000);
}

void epoch_wait(void)
{
    unsigned naps = 0;
    /* Memory is unreachable before the counts are read; pairs with barrier_light() in
     * epoch_enter(). */
    barrier_heavy();
    struct epoch_record *record, *noted = NULL;
    uint32_t number = 0;
    uint64_t sections;
    /* Note all before the first wait: a thread that is preempted time and again may be inside each
     * time, and then each wait for one would take as long as a wait for all. */
    while ((record = next_inside(&number, &sections))) {
        record->noted = sections;
        record->noted_next = noted;
        noted = record;
    }
    for (; noted; noted = noted->noted_next)
        while (sections_of(noted) == noted->noted)
            nap(&naps);
    for (unsigned twice = 0; twice < 2; twice++) {
        uint32_t which = load_relaxed(&shared_current);
        store_relaxed(&shared_current, 1 - which);
        while (shared_inside(which))
            nap(&naps);
    }
}
