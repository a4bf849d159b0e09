/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What every part assumes of the compiler and the machine: cache lines, branch hints, internal
 * checks, and the named steps at which a test can stop a thread. Uses nothing of the library.
 */
#ifndef EXITBUS_PLATFORM_H
#define EXITBUS_PLATFORM_H

#include <ck_md.h>
#include <ck_pr.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(sizeof(void *) == 8, "exitbus packs pointers into 64-bit words");
_Static_assert(CK_MD_CACHELINE == 64, "shared structs are laid out for 64-byte lines");

#define CACHE_LINE 64

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/*
 * Fetch a cache line for writing. Compilers turn __builtin_prefetch(…, 1) into a fetch for reading
 * unless told that the processor is a recent one; where prefetchw is not known it does nothing.
 */
static inline void prefetch_for_write(const void *address)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)address));
#else
    __builtin_prefetch(address, 1);
#endif
}

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* An internal invariant. On wherever tests run; a release build does not evaluate it. */
#ifdef EXITBUS_CHECKS
#define invariant(condition)                                                                       \
    do {                                                                                           \
        if (unlikely(!(condition))) {                                                              \
            fprintf(stderr, "exitbus: %s:%d: invariant broken: %s\n", __FILE__, __LINE__,          \
                    #condition);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
#else
#define invariant(condition) ((void)sizeof(!(condition)))
#endif

/* A deliberate defect, in the one build that is made for it: see mutants.h. */
#ifdef EXITBUS_MUTANT
#include "mutants.h"
#define mutant(name) (EXITBUS_MUTANT == MUTANT_##name)
#else
#define mutant(name) 0
#endif

/*
 * The places between two effects on shared memory. In a build with EXITBUS_TEST_HOOKS a test can
 * set a function that is called at each of them and stops the thread, fails it, or yields.
 */
enum test_step {
    STEP_PUBLISH_SLOT_CLAIMED,
    STEP_PUBLISH_SLOT_FILLED,
    STEP_PUBLISH_ORDERED,
    STEP_DELIVER_BEFORE_APPEND,
    STEP_APPEND_PAYLOAD_WRITTEN,
    STEP_APPEND_TAG_WRITTEN,
    STEP_APPEND_HINT_WRITTEN,
    STEP_APPEND_SEGMENT_LINKED,
    STEP_APPEND_TAIL_MOVED,
    STEP_DELIVER_BEFORE_WAKE,
    STEP_WAKE_EPOCH_MOVED,
    STEP_WAKE_DONE,
    STEP_FD_STATE_READ,
    STEP_FD_ANNOUNCED,
    STEP_FD_WRITTEN,
    STEP_ORDER_STALLED,
    STEP_ORDER_UNSTALLING,
    STEP_PUBLISH_DISTRIBUTED,
    STEP_PUBLISH_DONE,
    STEP_SUBSCRIBE_INSERTED,
    STEP_SUBSCRIBE_ORDER_READ,
    STEP_SUBSCRIBE_STARTED,
    STEP_RECEIVE_FOUND_NONE,
    STEP_RECEIVE_COPIED,
    STEP_RECEIVE_TAKEN,
    STEP_RECEIVE_HEAD_MOVED,
    STEP_RECEIVE_BEFORE_SLEEP,
    STEP_RECEIVE_WOKEN,
    STEP_FD_BEFORE_CLEARING,
    STEP_FD_CLEARING,
    STEP_FD_ARMED,
    STEP_FD_TAKEN,
    STEP_UNSUBSCRIBE_CLOSED,
    STEP_UNSUBSCRIBE_WOKEN,
    STEP_UNSUBSCRIBE_REMOVED,
    STEP_REGISTRY_MARKED,
    STEP_REGISTRY_UNLINKING,
    STEP_REAPER_PEEKED,
    STEP_REAPER_PUBLISHED,
    STEP_REAPER_REAPED,
    STEP_WATCH_POLLED,
    STEP_TRIM_DECIDING,
    STEP_COUNT
};

#ifdef EXITBUS_TEST_HOOKS
extern void (*exitbus_test_step)(enum test_step step);
#define test_step(step)                                                                            \
    do {                                                                                           \
        void (*hook)(enum test_step) = __atomic_load_n(&exitbus_test_step, __ATOMIC_ACQUIRE);      \
        if (hook)                                                                                  \
            hook(step);                                                                            \
    } while (0)
#else
#define test_step(step) ((void)0)
#endif

#endif
