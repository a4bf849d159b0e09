/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* liburcu's wait-free concurrent queue. A consumer splices all there is into a queue of its own. */
#include "pool.h"

#include <urcu/wfcqueue.h>

struct node {
    ck_stack_entry_t free;
    struct cds_wfcq_node link;
    struct event event;
};

struct queue {
    struct cds_wfcq_tail tail;
    _Alignas(2 * CACHE_LINE) struct cds_wfcq_head head;
    struct pool pool;
};

struct sender {
    _Alignas(2 * CACHE_LINE) ck_stack_entry_t *cache;
};

struct taker {
    _Alignas(2 * CACHE_LINE) struct __cds_wfcq_head head;
    struct cds_wfcq_tail tail;
};

static void queue_open(struct queue *queue, const struct shape *shape)
{
    (void)shape;
    cds_wfcq_init(&queue->head, &queue->tail);
    pool_open(&queue->pool, 2 * CACHE_LINE);
}

static void queue_close(struct queue *queue)
{
    cds_wfcq_destroy(&queue->head, &queue->tail);
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
    (void)queue;
    __cds_wfcq_init(&taker->head, &taker->tail);
}

static void taker_close(struct taker *taker)
{
    (void)taker;
}

static inline void queue_put(struct queue *queue, struct sender *sender, const struct event *event)
{
    struct node *node = pool_take(&queue->pool, &sender->cache);
    node->event = *event;
    cds_wfcq_node_init(&node->link);
    cds_wfcq_enqueue(&queue->head, &queue->tail, &node->link);
}

static size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    size_t count = 0;
    if (cds_wfcq_empty(&taker->head, &taker->tail)) {
        if (cds_wfcq_empty(&queue->head, &queue->tail))
            return 0;
        cds_wfcq_dequeue_lock(&queue->head, &queue->tail);
        __cds_wfcq_splice_blocking(&taker->head, &taker->tail, &queue->head, &queue->tail);
        cds_wfcq_dequeue_unlock(&queue->head, &queue->tail);
    }
    while (count < capacity) {
        struct cds_wfcq_node *link = __cds_wfcq_dequeue_blocking(&taker->head, &taker->tail);
        if (!link)
            break;
        struct node *node = caa_container_of(link, struct node, link);
        events[count++] = node->event;
        pool_give(&queue->pool, node);
    }
    return count;
}

#include "fan.h"

FAN_PEER(wfcqueue_peer, "wfcqueue", "liburcu cds_wfcq, spliced by its consumers", PEER_FIFO);
