/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* ConcurrencyKit's ck_ring: bounded. Of one producer and one consumer where there are no more. */
#include "../peers.h"

#include <ck_ring.h>
#include <stdlib.h>

struct queue {
    ck_ring_t ring;
    struct event *cells;
    bool one_to_one;
};

struct sender {
    char none;
};

struct taker {
    char none;
};

CK_RING_PROTOTYPE(event, event)

static void queue_open(struct queue *queue, const struct shape *shape)
{
    unsigned size = 4; /* the least that ck_ring takes; one cell always stays empty */
    while (size < shape->pending + 1)
        size *= 2;
    queue->cells = peer_memory(size * sizeof *queue->cells);
    queue->one_to_one = shape->producers == 1 && shape->consumers == 1;
    ck_ring_init(&queue->ring, size);
}

static void queue_close(struct queue *queue)
{
    free(queue->cells);
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
    (void)taker;
    (void)queue;
}

static void taker_close(struct taker *taker)
{
    (void)taker;
}

static bool put(struct queue *queue, const struct event *event)
{
    /* The ring only reads it. */
    struct event *source = (struct event *)(uintptr_t)event;
    return queue->one_to_one ? ck_ring_enqueue_spsc_event(&queue->ring, queue->cells, source)
                             : ck_ring_enqueue_mpmc_event(&queue->ring, queue->cells, source);
}

static inline void queue_put(struct queue *queue, struct sender *sender, const struct event *event)
{
    (void)sender;
    while (!put(queue, event)) /* full: it holds `pending`, so only for a moment */
        ck_pr_stall();
}

static inline bool take(struct queue *queue, struct event *event)
{
    return queue->one_to_one ? ck_ring_dequeue_spsc_event(&queue->ring, queue->cells, event)
                             : ck_ring_dequeue_mpmc_event(&queue->ring, queue->cells, event);
}

static size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    (void)taker;
    size_t count = 0;
    while (count < capacity && take(queue, &events[count]))
        count++;
    return count;
}

#include "fan.h"

FAN_PEER(ck_ring_peer, "ck_ring", "ConcurrencyKit ck_ring (bounded; spsc where it is 1 to 1)",
         PEER_FIFO | PEER_BOUNDED);
