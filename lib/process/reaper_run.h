/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One reaper: its descriptors, its thread if it has one, and the gate between the thread that makes
 * passes and the thread that stops them.
 */
#ifndef EXITBUS_REAPER_RUN_H
#define EXITBUS_REAPER_RUN_H

#include "process/journal.h"
#include "process/reaper_loop.h"

#include <pthread.h>

struct exitbus_reaper {
    struct exitbus *bus; /* constant, like the next four */
    enum exitbus_reaper_mode mode;
    uint32_t flags;
    struct reaper_loop loop;
    bool own_set; /* false: the set is the bus's */
    struct journal journal;
    int view_fd;       /* POLLED: an epoll descriptor for the host, which contains the set's */
    int old_subreaper; /* the setting found at the start; -1: not changed */
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t gate;     /* held during a pass, and while passes are forbidden */
    _Atomic bool stopping;    /* no more passes; written inside the gate */
    _Atomic uint32_t ended;   /* a futex word: 1 once the thread makes no more passes */
    _Atomic uint32_t polling; /* 1 while exitbus_reaper_poll() makes a pass */
    _Atomic int error;        /* negative: nothing more can be collected, and the reason */
    struct exitbus_reaper *next_implicit; /* see reaper.c; guarded by its lock */
};

/*
 * Make a reaper, with its thread if it has one, and with its gate closed: no pass is made before
 * reaper_open_gate(). `own_set`: over a set of its own, else over the bus's set.
 * Returns 0, or -errno with everything undone.
 */
int reaper_create(struct exitbus *bus, const struct exitbus_reaper_options *options, bool own_set,
                  struct exitbus_reaper **fresh);

/* Let passes begin, over everything that an earlier reaper has left in the set. */
void reaper_open_gate(struct exitbus_reaper *reaper);

/*
 * Forbid further passes, join the thread, and put signals back as they were found.
 * Returns false if the thread can't be reached, since the host has closed the descriptor at which
 * it sleeps. The struct is left to the thread then; otherwise call reaper_destroy().
 * Context: inside the gate, which it opens. Blocks until the thread has ended, or 2 s.
 */
bool reaper_halt(struct exitbus_reaper *reaper);

/* Free a reaper that makes no more passes, and its own set. */
void reaper_destroy(struct exitbus_reaper *reaper);

/* Returns 0 while the reaper can collect; else -errno: its error, or -EBADF. */
int reaper_usable(struct exitbus_reaper *reaper);

/* Note the first error that ends the reaper's work. */
void reaper_note_error(struct exitbus_reaper *reaper, int error);

/* Make one pass without a thread. Returns the exits published, or -errno. */
int reaper_pass(struct exitbus_reaper *reaper);

#endif
