/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sections and grace periods: see epoch.h.
 *
 * Why it holds. A thread enters: it makes its number odd, passes the light barrier, and reads
 * pointers. Whoever begins a grace period has made memory unreachable (or has learned from an
 * acquire load that others have), passes the heavy barrier, and reads the numbers. One of the two
 * sees the other: either the section reads pointers that do not lead to that memory any more, or
 * its odd number is noted. In the second case the memory is reused only after an acquire load has
 * read a later number of that thread, which it stored with release at the end of the section or
 * later. And an even number that begin reads was stored likewise at the end of the section before.
 *
 * A thread stopped inside a section keeps grace periods from ending, and nothing else: nobody
 * waits but the worker, whose work that is.
 *
 * Records. They lie in chunks that are never freed, so they may be read at any time; a thread that
 * ends leaves its record to the next. Only those below `span` are looked at. A claimer covers its
 * record by a read-modify-write of `span` before its first section; a thread that lowers `span`
 * first reads that the last record is free, and fails if a claimer has covered one meanwhile.
 *
 * A thread may use the library once more when our own destructor has run for it: then it is a
 * stranger, since no destructor might run again (glibc has four rounds of them). One that first
 * does so in the last round leaves a record that nobody gives back: when records run short, those
 * whose threads are gone are taken over.
 *
 * Strangers. Each notes which of two counts it is in. Waiting means, twice: let the next ones count
 * in the other, and wait until the first is empty. So it ends, however many come and go; and each
 * count was empty at some time since it began. A polled grace period begins only if both are empty.
 *
 * A forked child finds records and chunks wiped (fork_guard.h), and begins with chunks of its own.
 * The thread that forked still names its old one, which is not usable, and so gets a new one.
 */
#include "memory/epoch.h"
#include "base/fork_guard.h"
#include "base/sys.h"

#include <errno.h>
#include <pthread.h>

/* Of the first chunk: a page. Each further one doubles what there is. */
#ifndef RECORDS_FIRST
#define RECORDS_FIRST 64u
#endif
#define CHUNKS 20

struct epoch_record epoch_no_record = {.number = EPOCH_NO_NUMBER};
struct epoch_record epoch_shared_record = {.number = EPOCH_NO_NUMBER};
_Thread_local struct epoch_record *epoch_own = &epoch_no_record;

static _Atomic(struct epoch_record *) chunks[CHUNKS];
/* The low half: one more than the highest number in use. The high half counts changes. */
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

/* NULL: there is none. */
static struct epoch_record *chunk_at(unsigned chunk)
{
    /* Acquire; pairs with the CAS in chunk_add(). */
    return load_acquire(&chunks[chunk]);
}

/* Make a chunk, if another thread has not. False: no memory. */
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
        /* Release; pairs with span_lower(), and with epoch_span(). The values before it are read-
         * modify-writes, too, so who reads this one acquires them all. */
    } while (!cas_weak_release(&span, &old, wanted));
}

static uint32_t owner_thread(uint64_t owner)
{
    return (uint32_t)owner;
}

/* Leave out the free records at the end. */
static void span_lower(void)
{
    /* Acquire; pairs with span_cover(): if it has covered a record, that has an owner. */
    uint64_t old = load_acquire(&span);
    while ((uint32_t)old > 0 && !owner_thread(load_acquire(&record_at((uint32_t)old - 1)->owner))) {
        uint64_t wanted = ((old >> 32) + 1) << 32 | ((uint32_t)old - 1);
        if (cas_release_else_acquire(&span, &old, wanted))
            old = wanted;
    }
}

/* By its owner; or of a thread that is gone, by the thread that has taken it over. */
static void record_free(struct epoch_record *record)
{
    uint64_t owner = load_relaxed(&record->owner);
    /* Release; pairs with the acquire in record_take(). */
    store_release(&record->owner, owner >> 32 << 32);
}

/* Each owner has a count of its own: a thread's number may come again meanwhile. */
static bool record_take(struct epoch_record *record, uint64_t from, uint32_t thread)
{
    uint64_t owner = ((from >> 32) + 1) << 32 | thread;
    return cas_acquire(&record->owner, &from, owner);
}

/* A thread that ended in the middle of a section (by force, from a signal handler) has left it. */
static void record_leave_section(struct epoch_record *record)
{
    uint64_t sections = load_acquire(&record->sections);
    record->depth = 0;
    if (sections % 2 == 1)
        store_release(&record->sections, sections + 1);
}

/* By key, at the end of the thread, which may come back from another destructor. */
static void leave_record(void *record)
{
    epoch_ending = true;
    epoch_own = &epoch_shared_record;
    if (!((struct epoch_record *)record)->usable)
        return; /* the parent's */
    record_leave_section(record);
    record_free(record);
    span_lower();
}

/* Take over the records of threads that are gone. One of them for the caller, or NULL. */
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

/* NULL: no memory. */
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
static _Atomic uint32_t shared_current; /* which of them */
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
    fence_seq_cst(); /* in place of barrier_light, as in epoch_enter */
}

void epoch_leave_shared(void)
{
    if (epoch_own != &epoch_shared_record || --own_shared.depth > 0)
        return; /* the former: it was entered before a fork */
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
    /* A fork may have come in the middle of the very first begin, which leaves a wiped chunk. */
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
    /* Acquire; pairs with the release in epoch_leave(). */
    return load_acquire(&record->sections);
}

/* The first record, from `number` on, that is inside a section, and its count; or NULL. */
static const struct epoch_record *next_inside(uint32_t *number, uint64_t *sections)
{
    uint32_t count = epoch_span();
    for (unsigned chunk = 0; chunk < CHUNKS && *number < count; chunk++) {
        const struct epoch_record *records = chunk_at(chunk);
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
    /* Unreachable before the look at the numbers; pairs with epoch_enter. */
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

/* Longer and longer, so that a short section is not waited for long. */
static void nap(unsigned *naps)
{
    int64_t us = 50LL << (*naps < 8 ? *naps : 8);
    ++*naps;
    sys_nap((us < 10000 ? us : 10000) * 1000);
}

void epoch_wait(void)
{
    unsigned naps = 0;
    /* Unreachable before the look at the numbers; pairs with epoch_enter. */
    barrier_heavy();
    const struct epoch_record *record;
    uint32_t number = 0;
    uint64_t sections;
    while ((record = next_inside(&number, &sections)))
        while (sections_of(record) == sections)
            nap(&naps);
    for (unsigned twice = 0; twice < 2; twice++) {
        uint32_t which = load_relaxed(&shared_current);
        store_relaxed(&shared_current, 1 - which);
        while (shared_inside(which))
            nap(&naps);
    }
}
