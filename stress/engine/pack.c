/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events as opaque pointers: see pack.h. */
#include "pack.h"
#include "../checks/recent.h"
#include "../checks/synthetic.h"

#include <string.h>

/*
 * A synthetic event: bit 0 set, its producer, its number. When its publish began does not follow
 * from these. It is kept for the latest of each producer; of an older event it is 0, "long ago",
 * which no check holds against the bus.
 */
#define SYNTHETIC 1u
#define PRODUCER_SHIFT 1
#define NUMBER_SHIFT 8
#define LATEST 8192
_Static_assert(PRODUCERS_MAX <= 1 << (NUMBER_SHIFT - PRODUCER_SHIFT), "a producer has its bits");
_Static_assert(sizeof(void *) == sizeof(uint64_t), "a pointer holds 56 bits of a number");

static struct recent begun[PRODUCERS_MAX][LATEST];

/*
 * Any other event: bit 0 clear, and how many were packed before it. These are exits of real
 * children, of which fewer are under way, and the events of scenes.
 */
#define OTHERS 65536
#define OTHER_SHIFT 1

static _Atomic uint64_t packed_others;
static struct {
    _Atomic uint64_t place; /* 0: none yet */
    struct subject_event event;
} others[OTHERS];

static _Atomic bool used;

void pack_forget(void)
{
    if (!flag(&used))
        return;
    memset((void *)begun, 0, sizeof begun);
    memset((void *)others, 0, sizeof others);
}

static void *from_bits(uint64_t bits)
{
    return (void *)(uintptr_t)bits; /* NOLINT(performance-no-int-to-ptr): never followed */
}

static void *pack_synthetic(const struct subject_event *event)
{
    recent_note(begun[event->producer], LATEST, event->number, event->begin_ns);
    return from_bits(event->number << NUMBER_SHIFT | (uint64_t)event->producer << PRODUCER_SHIFT |
                     SYNTHETIC);
}

void *pack(const struct subject_event *event)
{
    if (!flag(&used))
        atomic_store_explicit(&used, true, memory_order_relaxed);
    if (synthetic_is(event) && synthetic_whole(event))
        return pack_synthetic(event);
    uint64_t place = 1 + atomic_fetch_add(&packed_others, 1);
    others[place % OTHERS].event = *event;
    atomic_store_explicit(&others[place % OTHERS].place, place, memory_order_release);
    return from_bits(place << OTHER_SHIFT);
}

void unpack(const void *packed, struct subject_event *event)
{
    uint64_t bits = (uintptr_t)packed;
    *event = (struct subject_event){.pid = SYNTHETIC_PID, .producer = PRODUCERS_MAX};
    if (bits & SYNTHETIC) {
        unsigned producer = (bits >> PRODUCER_SHIFT) % (1 << (NUMBER_SHIFT - PRODUCER_SHIFT));
        uint64_t number = bits >> NUMBER_SHIFT;
        if (producer < PRODUCERS_MAX && number <= atomic_load(&world->producers[producer].begun))
            synthetic_remake(producer, number, recent_ns(begun[producer], LATEST, number, 0),
                             event);
        return;
    }
    uint64_t place = bits >> OTHER_SHIFT;
    if (atomic_load_explicit(&others[place % OTHERS].place, memory_order_acquire) == place)
        *event = others[place % OTHERS].event;
}
