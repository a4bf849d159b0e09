/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A fresh bus for each of many short sequences. exitbus_destroy() waits for a grace period, about
 * 10 ms, so buses are used up one by one and destroyed side by side, when all stages are taken.
 * A bus with an allocator of its own must have given everything back by then (G6).
 */
#ifndef STAGE_H
#define STAGE_H

#include "support/allocator.h"
#include "support/threads.h"

#define STAGES 32

struct stage {
    struct exitbus *bus; /* NULL: was destroyed in its sequence */
    struct account account;
};

static struct stage stages[STAGES];
static unsigned stages_used;

static inline void *stage_destroy(void *argument)
{
    struct stage *stage = argument;
    must_equal(exitbus_destroy(stage->bus), 0);
    account_await_empty(&stage->account);
    return NULL;
}

/* Destroy all buses. Called at exit, too. */
static inline void stage_strike(void)
{
    pthread_t threads[STAGES];
    for (unsigned i = 0; i < stages_used; i++)
        threads[i] = thread_start(stage_destroy, &stages[i]);
    for (unsigned i = 0; i < stages_used; i++)
        thread_join(threads[i]);
    stages_used = 0;
}

/* A new bus. The caller leaves nothing subscribed on it. */
static inline struct stage *stage_new(bool own_allocator)
{
    static bool registered;
    if (!registered)
        registered = atexit(stage_strike) == 0;
    if (stages_used == STAGES)
        stage_strike();
    struct stage *stage = &stages[stages_used++];
    account_init(&stage->account);
    if (own_allocator)
        stage->bus = account_bus(&stage->account);
    else
        must_equal(exitbus_create(&stage->bus, NULL), 0);
    return stage;
}

#endif
