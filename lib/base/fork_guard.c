/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Forked children: see fork_guard.h. */
#include "base/fork_guard.h"
#include "base/sys.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Atomic(struct fork_guard *) fork_guard;

/* -------------------------------------------------------------------- memory wiped by a fork */

/* What the handler zeroes where the kernel does not. Entries are never reused. */
#define REGIONS_MAX 64
static struct {
    _Atomic(void *) address; /* NULL: not used, or unmapped; by the threads that map */
    size_t size;
} regions[REGIONS_MAX];
static _Atomic uint32_t region_count;
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;
static bool has_handler;

/* Zero the regions. Context: in the child, whose only thread this is. */
static void wipe_regions(void)
{
    for (size_t i = 0; i < REGIONS_MAX; i++) {
        void *address = load_relaxed(&regions[i].address);
        if (address)
            memset(address, 0, regions[i].size);
    }
}

static void install_handler(void)
{
    has_handler = pthread_atfork(NULL, NULL, wipe_regions) == 0;
}

static bool wiped_by_handler(void *address, size_t size)
{
    pthread_once(&handler_once, install_handler);
    uint32_t index = fetch_add_relaxed(&region_count, 1);
    if (!has_handler || index >= REGIONS_MAX)
        return false;
    regions[index].size = size;
    store_release(&regions[index].address, address);
    return true;
}

void *fork_guard_map(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (madvise(memory, size, MADV_WIPEONFORK) == 0 || wiped_by_handler(memory, size))
        return memory;
    munmap(memory, size);
    return NULL;
}

void fork_guard_unmap(void *address, size_t size)
{
    for (size_t i = 0; i < REGIONS_MAX; i++) {
        void *listed = address;
        cas_relaxed(&regions[i].address, &listed, NULL);
    }
    munmap(address, size);
}

/* --------------------------------------------------------------------------------- generations */

static uint32_t generations; /* of this process and its ancestors; with the lock */

static struct fork_guard *guard_map(void)
{
    struct fork_guard *guard = load_acquire(&fork_guard); /* pairs with the CAS below */
    if (guard)
        return guard;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    struct fork_guard *fresh = fork_guard_map(size);
    if (!fresh)
        return NULL;
    /* Release; pairs with the load above, and with this CAS where it fails. The kernel has zeroed
     * the page, so nothing needs it, but ThreadSanitizer takes mmap() for a write. The loser of a
     * race unmaps its own page. */
    if (cas_release_else_acquire(&fork_guard, &guard, fresh))
        return fresh;
    fork_guard_unmap(fresh, size);
    return guard;
}

void fork_guard_lock(void)
{
    struct fork_guard *guard = load_relaxed(&fork_guard);
    uint32_t state = 0;
    /* Acquire; pairs with fork_guard_unlock(). */
    if (cas_acquire(&guard->lock, &state, 1))
        return;
    while (exchange_acquire(&guard->lock, 2) != 0)
        sys_sleep_on((uint32_t *)&guard->lock, 2, -1);
}

void fork_guard_unlock(void)
{
    struct fork_guard *guard = load_relaxed(&fork_guard);
    /* Release; pairs with fork_guard_lock(). */
    if (exchange_release(&guard->lock, 0) == 2)
        sys_futex_wake_all((uint32_t *)&guard->lock);
}

int fork_guard_begin(int (*begin)(bool forked))
{
    struct fork_guard *guard = guard_map();
    if (!guard)
        return -ENOMEM;
    /* Acquire; pairs with the store below. */
    if (load_acquire(&guard->generation) != 0)
        return 0;
    int result = 0;
    fork_guard_lock();
    if (load_relaxed(&guard->generation) == 0) {
        result = begin(generations > 0);
        if (result == 0) /* Release; pairs with the load above: what begin() did is visible */
            store_release(&guard->generation, ++generations);
    }
    fork_guard_unlock();
    return result;
}
