/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * For tests that stop a thread for ever, at any one of some steps of the library: the explorer
 * tries each of them; natively it is a random one. The others must do without that thread.
 */
#ifndef STOP_TEST_H
#define STOP_TEST_H

#include "model_test.h"
#include "base/compiler.h"
#include "base/probe.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

unsigned model_choice(unsigned options) __attribute__((weak));

static inline unsigned any_of(unsigned options)
{
    return model_choice ? model_choice(options) : (unsigned)clock() % options;
}

static enum probe stop_step;
unsigned model_thread_number(void) __attribute__((weak));

/* One for each thread; the model's threads are one to the compiler. */
static inline int *stop_here(void)
{
    static _Thread_local int native;
    static int model[8];
    return model_thread_number ? &model[model_thread_number()] : &native;
}

/* Relaxed, or it would hand on what the library has to hand on itself. */
static _Atomic int stop_settled;

/* By the thread: it has stopped, or it has come to its end without. */
static inline void stop_is_settled(void)
{
    *stop_here() = 0;
    atomic_store_explicit(&stop_settled, 1, memory_order_relaxed);
}

static inline void stop_hook(enum probe step)
{
    if (!*stop_here() || step != stop_step)
        return;
    stop_is_settled();
    for (;;)
        pause();
}

/* Before there are threads: one of them is going to stop at one of these steps. */
static inline void stop_at(const enum probe *steps, unsigned count)
{
    stop_step = steps[any_of(count)];
    exitbus_probe_hook = stop_hook;
}

/* A thread that publishes pid 1, and stops on its way. */
static inline void *stopping_publisher(void *bus)
{
    *stop_here() = 1;
    publish(bus, 1);
    stop_is_settled();
    return NULL;
}

static inline void stop_await(void)
{
    while (!atomic_load_explicit(&stop_settled, memory_order_relaxed))
        sched_yield();
}

#endif
