/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Synthetic producers: see scenarios.h. */
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/world.h"
#include "scenarios.h"

#include <inttypes.h>
#include <sched.h>

/* Events that the slowest steady subscriber may be behind: bounds the memory of a run. */
#define LEAD ((uint64_t)1 << 17)

static void brake(void)
{
    while (!flag(&world.stop_producers)) {
        uint64_t slowest = UINT64_MAX;
        for (unsigned i = 0; i < world.options.steady; i++) {
            uint64_t taken = atomic_load_explicit(&world.steady[i].taken, memory_order_relaxed);
            if (taken < slowest)
                slowest = taken;
        }
        uint64_t issued = atomic_load_explicit(&world.issued, memory_order_relaxed);
        if (slowest == UINT64_MAX || issued < slowest + LEAD)
            return;
        sched_yield();
    }
}

/* Raise latest_seq to at least seq. */
static void has_returned(uint64_t seq)
{
    uint64_t latest = atomic_load_explicit(&world.latest_seq, memory_order_relaxed);
    while (latest < seq &&
           !atomic_compare_exchange_weak_explicit(&world.latest_seq, &latest, seq,
                                                  memory_order_release, memory_order_relaxed))
        continue;
}

void *scenario_producer(void *argument)
{
    unsigned me = (unsigned)(uintptr_t)argument;
    struct producer *producer = &world.producers[me];
    struct random random = random_for('p', me);
    static _Thread_local struct exitbus_event events[EXITBUS_BATCH_MAX];
    uint64_t number = 0;
    while (!flag(&world.stop_producers)) {
        brake();
        unsigned batch =
            random_below(&random, 4) ? 1 : 1 + random_below(&random, EXITBUS_BATCH_MAX);
        for (unsigned i = 0; i < batch; i++)
            synthetic_make(me, number + 1 + i, &events[i]);
        /* What had returned before this publish began must come before it. */
        uint64_t before = atomic_load_explicit(&world.latest_seq, memory_order_acquire);
        atomic_store_explicit(&producer->begun, number + batch, memory_order_seq_cst);
        uint64_t seq = 0;
        int result = batch == 1 ? exitbus_publish(world.bus, events, &seq)
                                : exitbus_publish_batch(world.bus, events, batch, &seq);
        if (result < 0) {
            verdict_violated(G8, "publish: %s", exitbus_strerror(result));
            break;
        }
        number += batch;
        atomic_store_explicit(&producer->done, number, memory_order_release);
        if (seq <= before)
            verdict_violated(G2, "seq %" PRIu64 " given after %" PRIu64 " had returned", seq,
                             before);
        has_returned(seq + batch - 1);
        count(&world.issued, batch);
        verdict_held(G2, 1);
        verdict_held(G4, 1);
    }
    return NULL;
}
