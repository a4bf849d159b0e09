/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The total order, across subscriptions and against real time: see agreement.h. */
#include "agreement.h"
#include "../engine/world.h"
#include "recent.h"
#include "synthetic.h"
#include "verdict.h"

#include <inttypes.h>
#include <string.h>

#define PLACES ((uint64_t)1 << 20)
#define HASH_MASK (((uint64_t)1 << 32) - 1)
#define RECENT ((uint64_t)1 << 15)
/* An entry of `places`: low bits of the event's number above, the place below. */
#define PLACE_BITS 44
#define PLACE_MASK (((uint64_t)1 << PLACE_BITS) - 1)

static _Atomic uint64_t agreed[PLACES]; /* upper bits of the place, and a hash of the event */
static _Atomic uint64_t places[PRODUCERS_MAX][RECENT];
static struct recent returned[PRODUCERS_MAX][RECENT];

void agreement_forget(void)
{
    /* All of it written, and so resident before the run, not after. */
    memset((void *)agreed, 0, sizeof agreed);
    memset((void *)places, 0, sizeof places);
    memset((void *)returned, 0, sizeof returned);
}

/* Of what tells one event from all others, be it packed and unpacked on the way (pack.h) or not. */
static uint64_t hash_of(const struct subject_event *event)
{
    return mix(mix(event->number) ^ (uint64_t)(uint32_t)event->pid << 32 ^ event->producer);
}

void agreement_check(uint64_t place, const struct subject_event *event)
{
    _Atomic uint64_t *entry = &agreed[place % PLACES];
    uint64_t mine = (place / PLACES + 1) << 32 | (hash_of(event) & HASH_MASK);
    uint64_t theirs = atomic_load_explicit(entry, memory_order_relaxed);
    if (theirs >> 32 < mine >> 32) {
        if (atomic_compare_exchange_strong_explicit(entry, &theirs, mine, memory_order_relaxed,
                                                    memory_order_relaxed))
            return;
    }
    if (theirs >> 32 == mine >> 32 && theirs != mine)
        verdict_violated(STRICT_FIFO, "place %" PRIu64 " is one event here and another elsewhere",
                         place);
}

void agreement_set_place(const struct subject_event *event, uint64_t place)
{
    atomic_store_explicit(&places[event->producer][event->number % RECENT],
                          event->number << PLACE_BITS | (place & PLACE_MASK), memory_order_relaxed);
}

uint64_t agreement_place(const struct subject_event *event)
{
    uint64_t entry = atomic_load_explicit(&places[event->producer][event->number % RECENT],
                                          memory_order_relaxed);
    bool same = entry >> PLACE_BITS == (event->number << PLACE_BITS) >> PLACE_BITS;
    return same ? entry & PLACE_MASK : 0;
}

void agreement_returned(uint32_t producer, uint64_t first, uint64_t count_, uint64_t end_ns)
{
    for (uint64_t number = first; number < first + count_; number++)
        recent_note(returned[producer], RECENT, number, end_ns);
}

uint64_t agreement_end_ns(const struct subject_event *event)
{
    return recent_ns(returned[event->producer], RECENT, event->number, UINT64_MAX);
}
