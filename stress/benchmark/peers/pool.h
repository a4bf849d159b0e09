/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Nodes for queues that leave memory to their user. A producer takes from a cache of its own, which
 * it refills with all that consumers have given back (one exchange for many nodes); giving back is
 * one CAS. Nodes come in slabs that live as long as the queue.
 */
#ifndef BENCH_PEERS_POOL_H
#define BENCH_PEERS_POOL_H

#include "../peers.h"

#include <ck_stack.h>
#include <stdlib.h>

#define POOL_SLAB_NODES 256u

struct pool {
    ck_stack_t given_back;
    ck_stack_t slabs;
    size_t node_size; /* a multiple of the cache's line; a node begins with its ck_stack_entry_t */
};

static inline void pool_open(struct pool *pool, size_t node_size)
{
    ck_stack_init(&pool->given_back);
    ck_stack_init(&pool->slabs);
    pool->node_size = node_size;
}

static inline void pool_close(struct pool *pool)
{
    for (ck_stack_entry_t *slab = ck_stack_batch_pop_upmc(&pool->slabs), *next; slab; slab = next) {
        next = slab->next;
        free(slab);
    }
}

/* The slab's first node is its place in the list of slabs. */
static inline ck_stack_entry_t *pool_grow(struct pool *pool)
{
    char *slab = (char *)peer_memory((POOL_SLAB_NODES + 1) * pool->node_size);
    ck_stack_push_upmc(&pool->slabs, (ck_stack_entry_t *)(void *)slab);
    ck_stack_entry_t *first = NULL;
    for (unsigned i = POOL_SLAB_NODES; i > 0; i--) {
        ck_stack_entry_t *node = (ck_stack_entry_t *)(void *)(slab + i * pool->node_size);
        node->next = first;
        first = node;
    }
    return first;
}

static inline void *pool_take(struct pool *pool, ck_stack_entry_t **cache)
{
    if (!*cache)
        *cache = ck_stack_batch_pop_upmc(&pool->given_back);
    if (!*cache)
        *cache = pool_grow(pool);
    ck_stack_entry_t *node = *cache;
    *cache = node->next;
    return node;
}

static inline void pool_give(struct pool *pool, void *node)
{
    ck_stack_push_upmc(&pool->given_back, (ck_stack_entry_t *)node);
}

#endif
