/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reapers, as the calls of the API and spawn see them: start, stop, watch, poll, and a hold on the
 * reaper of spawn's children. Which reapers run at a time is argued in reaper.c.
 */
#ifndef EXITBUS_REAPER_H
#define EXITBUS_REAPER_H

#include "bus/bus.h"

struct watch_set;

/*
 * Start a reaper with checked options. Returns 0, or an error of exitbus_reaper_start().
 * Context: blocks until passes of the reapers concerned have ended; cancellation is disabled.
 */
int reaper_start(struct exitbus *bus, const struct exitbus_reaper_options *options,
                 struct exitbus_reaper **reaper);

/*
 * Stop a reaper and free it. Spawn's children go to the implicit reaper of the bus.
 * Returns 0, or an error of exitbus_reaper_stop().
 * Context: as reaper_start(); waits for the reaper's thread.
 */
int reaper_stop(struct exitbus_reaper *reaper);

/* Returns the bus that the reaper publishes on. */
struct exitbus *reaper_bus(const struct exitbus_reaper *reaper);

/* Watch one child. Returns 0, or an error of exitbus_reaper_watch(). Context: lock-free. */
int reaper_watch(struct exitbus_reaper *reaper, pid_t pid);

/*
 * Go on with another record. Returns 0, or an error of exitbus_reaper_record(). Context: waits for
 * the end of a pass.
 */
int reaper_record(struct exitbus_reaper *reaper, int record_fd);

/* Returns the descriptor of a POLLED reaper, or -ENOTSUP. */
int reaper_fd(const struct exitbus_reaper *reaper);

/* Make one pass of a POLLED reaper. Returns the exits published, or -errno. Never blocks. */
int reaper_poll(struct exitbus_reaper *reaper);

/*
 * Hold the set of spawn's children, and start a reaper for it if none runs. Until
 * reaper_set_release() bus and set stay in memory, and a reaper collects from the set as long as
 * the bus is not closed.
 * Returns 0; -EXDEV; -ESHUTDOWN; or an error of reaper_start().
 * Context: may block for a start or a stop that is in progress, and while another spawn
 * looks for its reaper; not while another child is made.
 */
int reaper_set_acquire(struct exitbus *bus, struct watch_set **set);

/*
 * End a hold. If the bus was closed meanwhile, drops what was handed over since, and frees set and
 * bus. Context: never blocks, unless the bus was closed.
 */
void reaper_set_release(struct exitbus *bus, struct watch_set *set);

/*
 * Call `ask` while no pass over the bus's children is made: none of them is reaped meanwhile, but
 * by another waiter. Returns what `ask` does. Context: as reaper_set_acquire(). `ask` does not
 * block.
 */
int reaper_between_passes(struct exitbus *bus, int (*ask)(void *), void *argument);

/*
 * Note that there will be a direct process, beside which no ALL reaper may start, and none that
 * records; false: one runs, for which it would not be recorded.
 * Every acquire that has succeeded is to be released. Context: as reaper_set_acquire().
 */
bool reaper_direct_acquire(struct exitbus *bus);
void reaper_direct_release(void);

/* Drop what was handed over to a set whose bus was closed. Context: as reaper_set_release(). */
void reaper_drop_if_closed(struct exitbus *bus, struct watch_set *set);

/*
 * Close the bus, stop its implicit reaper, and drop spawn's children: the first step of
 * exitbus_destroy(). *lost is 0, or the -errno by which the implicit reaper has failed.
 * Returns 0; or, with nothing done, -EBUSY while a reaper of the user's runs, or -ESHUTDOWN.
 */
int reaper_bus_close(struct exitbus *bus, int *lost);

/* Begin anew in a forked child, before its first bus: no thread of the parent's is here. */
void reaper_forget_parent(void);

#endif
