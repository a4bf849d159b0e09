/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What spawn needs of reapers. Uses: bus. */
#ifndef EXITBUS_REAPER_H
#define EXITBUS_REAPER_H

#include "bus.h"

struct watch; /* a child that a WATCHED reaper looks after */

/*
 * The reaper that will collect a child which is about to be started for a bus. Between begin and
 * end no reaper starts or stops. *watched is NULL if an ALL reaper will see to it.
 * Errors: as exitbus_reaper_start() (one may have to be started), -EXDEV.
 */
int reaper_begin_spawn(struct exitbus *bus, struct exitbus_reaper **watched);
void reaper_end_spawn(void);

/* Memory for a watch; NULL: none. */
struct watch *watch_create(struct exitbus_reaper *reaper);
void watch_discard(struct exitbus_reaper *reaper, struct watch *watch);

/* Hand a child over, with its pidfd. Can't fail, does not wait. */
void watch_begin(struct exitbus_reaper *reaper, struct watch *watch, pid_t pid, int pidfd);
/*
 * The same for a child that spawn has just made; `since` is what *reaper_ends() was when it had its
 * pid, and could not have exited yet.
 */
void watch_begin_spawned(struct exitbus_reaper *reaper, struct watch *watch, pid_t pid, int pidfd,
                         uint64_t since);
/* The number of children whose exit it has published. */
const _Atomic uint64_t *reaper_ends(const struct exitbus_reaper *reaper);

#endif
