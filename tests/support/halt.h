/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stopping a thread in the middle of a call of the library, at a named step (lib/base/probe.h), for
 * as long as a test wants: halt_begin() in the thread, halt_await() and halt_release() in the test.
 * Only that thread is stopped; the hook passes all others through. For tests linked against the
 * library variant with test hooks.
 */
#ifndef HALT_H
#define HALT_H

#include "base/compiler.h"
#include "base/probe.h"
#include "support/threads.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

enum halt_state { HALT_RUNNING, HALT_STOPPED, HALT_OFF };

struct halt {
    enum probe step;
    unsigned passes; /* through the step, before the one that stops */
    _Atomic int state;
    sem_t settled; /* it has stopped, or has ended without */
    sem_t go_on;
};

/* A receiver's word of what it has taken, and that it is about to sleep after that. */
struct halt_note {
    _Atomic unsigned taken;
    _Atomic unsigned slept_at; /* taken + 1 */
};

static _Thread_local struct halt *halt_here;
static _Thread_local struct halt_note *halt_note_here;

static void halt_wait(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        continue;
}

static void halt_hook(enum probe step)
{
    if (step == PROBE_RECEIVE_BEFORE_SLEEP && halt_note_here)
        atomic_store(&halt_note_here->slept_at, atomic_load(&halt_note_here->taken) + 1);
    struct halt *halt = halt_here;
    if (!halt || halt->step != step)
        return;
    if (halt->passes > 0) {
        halt->passes--;
        return;
    }
    halt_here = NULL; /* once */
    int running = HALT_RUNNING;
    if (!atomic_compare_exchange_strong(&halt->state, &running, HALT_STOPPED))
        return;
    sem_post(&halt->settled);
    halt_wait(&halt->go_on);
}

static inline void halt_hook_set(void)
{
    __atomic_store_n(&exitbus_probe_hook, halt_hook, __ATOMIC_RELEASE);
}

/* To be done before the thread exists. */
static inline void halt_init(struct halt *halt, enum probe step, unsigned passes)
{
    halt->step = step;
    halt->passes = passes;
    atomic_init(&halt->state, HALT_RUNNING);
    sem_init(&halt->settled, 0, 0);
    sem_init(&halt->go_on, 0, 0);
}

static inline bool halt_stopped(const struct halt *halt)
{
    return atomic_load(&halt->state) == HALT_STOPPED;
}

/* In the thread: from here on it stops; and it has ended, stopped or not. */
static inline void halt_begin(struct halt *halt)
{
    halt_here = halt;
}

static inline void halt_end(struct halt *halt)
{
    halt_here = NULL;
    if (!halt_stopped(halt))
        sem_post(&halt->settled);
}

/* In the test: true if it is stopped now, false if it has ended without. */
static inline bool halt_await(struct halt *halt)
{
    halt_wait(&halt->settled);
    return halt_stopped(halt);
}

/* Let it go on; one that has not stopped will not stop any more. */
static inline void halt_release(struct halt *halt)
{
    int running = HALT_RUNNING;
    if (!atomic_compare_exchange_strong(&halt->state, &running, HALT_OFF))
        sem_post(&halt->go_on);
}

#endif
