/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The library stays mapped: see pin.h. */
#include "base/pin.h"
#include "base/atomic.h"

#include <features.h>
#ifdef __GLIBC__
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>

/* Absent from a program that is linked statically, which can't be unloaded. */
extern int dladdr1(const void *, Dl_info *, void **, int) __attribute__((weak));
extern void *dlopen(const char *, int) __attribute__((weak));

/*
 * The worker, and the end of each thread that was in the library, run its code. So what contains
 * that code must stay mapped. The shared library is linked so (-z nodelete); the archive may be
 * part of a plugin.
 */
void pin_library(void)
{
    static _Atomic bool pinned; /* set once; a forked child inherits it */
    if (exchange_relaxed(&pinned, true))
        return;
    struct link_map *map = NULL;
    Dl_info info;
    if (dladdr1 && dlopen && dladdr1(&pinned, &info, (void **)&map, RTLD_DL_LINKMAP) != 0 && map &&
        map->l_name && map->l_name[0])
        (void)dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}
#else
/* musl's dlclose() unmaps nothing. */
void pin_library(void)
{
}
#endif
