/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* liburcu's lock-free queue, whose nodes wait for a grace period. */
#include "garbage.h"

#include <urcu/rculfqueue.h>

struct node {
    struct garbage_head garbage;
    struct cds_lfq_node_rcu link;
    struct event event;
};

#define NODE_SIZE (3 * CACHE_LINE)
_Static_assert(sizeof(struct node) <= NODE_SIZE, "a node is larger than was thought");

struct queue {
    _Alignas(2 * CACHE_LINE) struct cds_lfq_queue_rcu all;
    struct pool pool;
};

struct sender {
    _Alignas(2 * CACHE_LINE) ck_stack_entry_t *cache;
};

struct taker {
    _Alignas(2 * CACHE_LINE) struct garbage garbage;
};

static void queue_open(struct queue *queue, const struct shape *shape)
{
    (void)shape;
    cds_lfq_init_rcu(&queue->all, call_rcu);
    pool_open(&queue->pool, NODE_SIZE);
}

static void queue_close(struct queue *queue)
{
    rcu_barrier();
    cds_lfq_destroy_rcu(&queue->all);
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
    cds_lfq_node_init_rcu(&node->link);
    rcu_read_lock();
    cds_lfq_enqueue_rcu(&queue->all, &node->link);
    rcu_read_unlock();
}

static size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    size_t count = 0;
    while (count < capacity) {
        rcu_read_lock();
        struct cds_lfq_node_rcu *link = cds_lfq_dequeue_rcu(&queue->all);
        rcu_read_unlock();
        if (!link)
            break;
        struct node *node = caa_container_of(link, struct node, link);
        events[count++] = node->event;
        garbage_add(&taker->garbage, &node->garbage.first);
    }
    return count;
}

#include "fan.h"

FAN_PEER(lfqueue_peer, "rculfqueue", "liburcu cds_lfq_rcu, call_rcu for 64 nodes at a time",
         PEER_FIFO);
