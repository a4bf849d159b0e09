/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Polled grace periods: see epoch.h.
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
 * waits.
 *
 * Records are never freed, so they may be read at any time; a thread that ends leaves its record to
 * the next. A thread for which there is none (no memory, no key that would tell of its end) counts
 * itself in and out of a number that all of its kind share; while it is not zero no grace period
 * can begin here, and everybody goes by liburcu.
 */
#include "epoch.h"

#include <pthread.h>
#include <sys/mman.h>

/* Enough for most programs; more are mapped by the page. */
#ifndef RECORDS_FIRST
#define RECORDS_FIRST 32
#endif
#ifndef RECORDS_BYTES
#define RECORDS_BYTES 4096
#endif

_Thread_local struct epoch_record *epoch_own;
struct epoch_record epoch_stranger = {.number = EPOCH_NO_NUMBER};

static struct epoch_record first_records[RECORDS_FIRST];
static _Atomic(struct epoch_record *) records;
static _Atomic uint32_t numbers; /* given out */
static pthread_key_t at_thread_end;
static bool has_key;

/* --------------------------------------------------------------------------- threads' records */

static void list_records(struct epoch_record *fresh, size_t count)
{
    uint32_t number = atomic_fetch_add_explicit(&numbers, (uint32_t)count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++) {
        fresh[i].number = number + (uint32_t)i;
        fresh[i].next = &fresh[i + 1]; /* the last one's is set below */
    }
    struct epoch_record *top = atomic_load_explicit(&records, memory_order_relaxed);
    do
        fresh[count - 1].next = top;
    /* Release: pairs with the acquire of whoever walks the list. */
    while (!atomic_compare_exchange_weak_explicit(&records, &top, fresh, memory_order_release,
                                                  memory_order_relaxed));
}

/*
 * By key, at the end of the thread, which may come back from another destructor and register anew.
 * A thread that ended in the middle of a section (by force, from a signal handler) has left it.
 */
static void leave_record(void *record)
{
    struct epoch_record *own = record;
    epoch_own = NULL;
    uint64_t sections = atomic_load_explicit(&own->sections, memory_order_relaxed);
    own->depth = 0;
    if (sections % 2 == 1)
        atomic_store_explicit(&own->sections, sections + 1, memory_order_release);
    /* Release: pairs with the acquire in claim, for `depth`. */
    atomic_store_explicit(&own->claimed, 0, memory_order_release);
}

static void make_key(void)
{
    has_key = pthread_key_create(&at_thread_end, leave_record) == 0;
    list_records(first_records, RECORDS_FIRST);
}

void epoch_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
}

static struct epoch_record *claim_record(void)
{
    struct epoch_record *record = atomic_load_explicit(&records, memory_order_acquire);
    for (; record; record = record->next) {
        uint32_t nobody = 0;
        if (atomic_load_explicit(&record->claimed, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_strong_explicit(&record->claimed, &nobody, 1,
                                                    memory_order_acquire, memory_order_relaxed))
            return record;
    }
    struct epoch_record *fresh =
        mmap(NULL, RECORDS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return NULL;
    atomic_init(&fresh->claimed, 1);
    list_records(fresh, RECORDS_BYTES / sizeof *fresh);
    return fresh;
}

struct epoch_record *epoch_register(void)
{
    epoch_init();
    struct epoch_record *own = has_key ? claim_record() : NULL;
    if (own && pthread_setspecific(at_thread_end, own) != 0) {
        atomic_store_explicit(&own->claimed, 0, memory_order_release);
        own = NULL;
    }
    epoch_own = own ? own : &epoch_stranger;
    return epoch_own;
}

void epoch_stranger_enter(void)
{
    atomic_fetch_add_explicit(&epoch_stranger.sections, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* in place of barrier_light, as in epoch_enter */
}

void epoch_stranger_leave(void)
{
    /* Release: pairs with the acquire in sections_of. */
    atomic_fetch_sub_explicit(&epoch_stranger.sections, 1, memory_order_release);
}

/* ----------------------------------------------------------------------------- grace periods */

static uint64_t sections_of(const struct epoch_record *record)
{
    /* Pairs with the release in epoch_leave. */
    return atomic_load_explicit(&record->sections, memory_order_acquire);
}

bool epoch_grace_begin(struct epoch_grace *grace)
{
    grace->count = 0;
    /* Unreachable before the look at the numbers; pairs with epoch_enter. */
    if (!barrier_try() || sections_of(&epoch_stranger) != 0)
        return false;
    const struct epoch_record *record = atomic_load_explicit(&records, memory_order_acquire);
    for (; record; record = record->next) {
        uint64_t sections = sections_of(record);
        if (sections % 2 == 0 || mutant(EPOCH_NOBODY_NOTED))
            continue;
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
