/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What every part assumes of the compiler and the machine: cache lines, branch hints, internal
 * checks.
 */
#ifndef EXITBUS_COMPILER_H
#define EXITBUS_COMPILER_H

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
 * Fetch a cache line for writing. Compilers turn __builtin_prefetch(…, 1) into a fetch for reading,
 * unless they are told that the processor is a recent one. A processor without prefetchw ignores
 * it.
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

/* An internal invariant. Builds with EXITBUS_CHECKS test it; a release build does not. */
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

#endif
