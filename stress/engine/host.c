/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Memory for subjects: see host.h. Straight from the kernel, so without a lock (a thread may be
 * stopped in the middle of it), and so that what was released is gone: who touches it crashes.
 */
#include "host.h"
#include "pack.h"
#include "worker.h"

#include <sys/mman.h>

static _Atomic size_t bytes;
static _Atomic bool used;
static _Atomic unsigned starve_odds;

static bool fails(void)
{
    static _Atomic uint64_t draws;
    unsigned odds = atomic_load_explicit(&starve_odds, memory_order_relaxed);
    if (odds == 0)
        return false;
    uint64_t draw = mix(world->options.seed ^ atomic_fetch_add(&draws, 1));
    return odds == 1 || draw % odds != 0;
}

static void *allocate(size_t size, size_t alignment)
{
    atomic_store_explicit(&used, true, memory_order_relaxed);
    if (fails())
        return NULL;
    size_t span = size + (alignment > 4096 ? alignment : 0);
    char *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    char *aligned = base;
    if (span > size) {
        aligned = (char *)(((uintptr_t)base + alignment - 1) & ~(uintptr_t)(alignment - 1));
        if (aligned > base)
            munmap(base, (size_t)(aligned - base));
        if (aligned + size < base + span)
            munmap(aligned + size, (size_t)(base + span - (aligned + size)));
    }
    atomic_fetch_add(&bytes, size);
    return aligned;
}

static void release(void *memory, size_t size)
{
    munmap(memory, size);
    atomic_fetch_sub(&bytes, size);
}

const struct subject_host host = {allocate, release, pack, unpack};

void host_starve(unsigned odds)
{
    atomic_store(&starve_odds, odds);
}

size_t host_bytes(void)
{
    return atomic_load(&bytes);
}

bool host_used(void)
{
    return flag(&used);
}
