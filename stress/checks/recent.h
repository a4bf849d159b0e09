/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Times of the latest events of a producer, by number: one thread notes them, any thread asks. A
 * table of `size` knows as many; an older event's place has been taken by a later one.
 */
#ifndef STRESS_RECENT_H
#define STRESS_RECENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recent {
    _Atomic uint64_t number, ns;
};

static inline void recent_note(struct recent *table, size_t size, uint64_t number, uint64_t ns)
{
    struct recent *place = &table[number % size];
    atomic_store_explicit(&place->number, 0, memory_order_relaxed);
    atomic_store_explicit(&place->ns, ns, memory_order_release);
    atomic_store_explicit(&place->number, number, memory_order_release);
}

/* Returns `unknown` for an event that is not in the table, or not any more. */
static inline uint64_t recent_ns(struct recent *table, size_t size, uint64_t number,
                                 uint64_t unknown)
{
    struct recent *place = &table[number % size];
    if (atomic_load_explicit(&place->number, memory_order_acquire) != number)
        return unknown;
    uint64_t ns = atomic_load_explicit(&place->ns, memory_order_acquire);
    /* Unchanged: the time is that event's. Who takes the place clears the number first. */
    bool same = atomic_load_explicit(&place->number, memory_order_relaxed) == number;
    return same ? ns : unknown;
}

#endif
