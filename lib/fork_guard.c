/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Notices a forked child: see fork_guard.h. */
#include "fork_guard.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

_Atomic(const uint32_t *) fork_guard_page;

int fork_guard_init(void)
{
    if (atomic_load_explicit(&fork_guard_page, memory_order_relaxed)) /* not looked into here */
        return 0;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    uint32_t *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -ENOMEM;
    if (!mutant(FORK_UNNOTICED) && madvise(page, size, MADV_WIPEONFORK) != 0) {
        munmap(page, size);
        return -ENOMEM;
    }
    *page = 1;
    const uint32_t *none = NULL;
    /* Release: publishes the 1 to fork_guard_in_child. The loser of a race unmaps its own. */
    if (!atomic_compare_exchange_strong_explicit(&fork_guard_page, &none, page,
                                                 memory_order_release, memory_order_relaxed))
        munmap(page, size);
    return 0;
}
