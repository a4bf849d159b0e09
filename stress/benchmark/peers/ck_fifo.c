/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * ConcurrencyKit's ck_fifo_mpmc, which leaves reclamation to its user: liburcu's grace periods. A
 * dequeue gives the value of one node and, as garbage, the link of the node before. A node goes
 * when both are done with: its event was copied, and its link is garbage.
 */
#include "garbage.h"

#include <ck_fifo.h>
#include <ck_pr.h>

struct node {
    struct garbage_head garbage;
    unsigned done; /* of two: event copied, link out of the queue */
    ck_fifo_mpmc_entry_t link;
    struct event event;
};

#define NODE_SIZE (3 * CACHE_LINE)
_Static_assert(sizeof(struct node) <= NODE_SIZE, "a node is larger than was thought");

struct queue {
    _Alignas(2 * CACHE_LINE) ck_fifo_mpmc_t all;
    struct pool pool;
};

struct sender {
    _Alignas(2 * CACHE_LINE) ck_stack_entry_t *cache;
};

struct taker {
    _Alignas(2 * CACHE_LINE) struct garbage garbage;
};

static struct node *node_of(ck_fifo_mpmc_entry_t *link)
{
    return (struct node *)(void *)((char *)link - offsetof(struct node, link));
}

static void queue_open(struct queue *queue, const struct shape *shape)
{
    (void)shape;
    ck_stack_entry_t *cache = NULL;
    pool_open(&queue->pool, NODE_SIZE);
    struct node *stub = pool_take(&queue->pool, &cache);
    stub->done = 1;
    ck_fifo_mpmc_init(&queue->all, &stub->link);
    for (ck_stack_entry_t *next; cache; cache = next) {
        next = cache->next;
        pool_give(&queue->pool, cache);
    }
}

static void queue_close(struct queue *queue)
{
    rcu_barrier();
    pool_close(&queue->pool);
}

static void sender_open(struct sender *sender, struct queue *queue)
{
    (void)sender;
    (void)queue;
}

static void sender_close(struct sender *sender)
{
    (void)sender;
}

static void taker_open(struct taker *taker, struct queue *queue)
{
    taker->garbage.pool = &queue->pool;
}

static void taker_close(struct taker *taker)
{
    garbage_flush(&taker->garbage);
}

static inline void queue_put(struct queue *queue, struct sender *sender, const struct event *event)
{
    struct node *node = pool_take(&queue->pool, &sender->cache);
    node->event = *event;
    node->done = 0;
    rcu_read_lock();
    ck_fifo_mpmc_enqueue(&queue->all, &node->link, node);
    rcu_read_unlock();
}

static void node_done(struct taker *taker, struct node *node)
{
    if (ck_pr_faa_uint(&node->done, 1) == 1)
        garbage_add(&taker->garbage, &node->garbage.first);
}

static size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    size_t count = 0;
    while (count < capacity) {
        struct node *node;
        ck_fifo_mpmc_entry_t *link;
        rcu_read_lock();
        bool taken = ck_fifo_mpmc_dequeue(&queue->all, &node, &link);
        rcu_read_unlock();
        if (!taken)
            break;
        events[count++] = node->event;
        node_done(taker, node);
        node_done(taker, node_of(link));
    }
    return count;
}

#include "fan.h"

FAN_PEER(ck_fifo_peer, "ck_fifo", "ConcurrencyKit ck_fifo_mpmc, call_rcu for 64 nodes at a time",
         PEER_FIFO);
