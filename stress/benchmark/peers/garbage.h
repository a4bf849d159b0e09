/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * For queues whose nodes may be read by others after they were taken out: a consumer gathers them,
 * and a grace period of liburcu later all go back to the pool. One call_rcu serves many.
 */
#ifndef BENCH_PEERS_GARBAGE_H
#define BENCH_PEERS_GARBAGE_H

#include "pool.h"

#define URCU_API_MAP
#include <urcu-bp.h>

#define GARBAGE_BATCH 64u

struct garbage {
    struct pool *pool;
    ck_stack_entry_t *first;
    unsigned count;
};

/* What the batch's last node carries, behind its entry of the stack. */
struct garbage_head {
    ck_stack_entry_t first;
    struct rcu_head rcu;
    struct pool *pool;
};

static inline void garbage_free(struct rcu_head *rcu)
{
    struct garbage_head *head = caa_container_of(rcu, struct garbage_head, rcu);
    struct pool *pool = head->pool;
    for (ck_stack_entry_t *node = &head->first, *next; node; node = next) {
        next = node->next;
        pool_give(pool, node);
    }
}

static inline void garbage_flush(struct garbage *garbage)
{
    if (!garbage->first)
        return;
    struct garbage_head *head = caa_container_of(garbage->first, struct garbage_head, first);
    head->pool = garbage->pool;
    call_rcu(&head->rcu, garbage_free);
    garbage->first = NULL;
    garbage->count = 0;
}

/* `node` begins with a struct garbage_head. */
static inline void garbage_add(struct garbage *garbage, ck_stack_entry_t *node)
{
    node->next = garbage->first;
    garbage->first = node;
    if (++garbage->count == GARBAGE_BATCH)
        garbage_flush(garbage);
}

#endif
