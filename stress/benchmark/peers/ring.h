/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A bus of ConcurrencyKit's bounded ring. Include it after defining ENQUEUE and DEQUEUE, the ring's
 * calls for as many producers and consumers as there may be.
 */
#ifndef BENCH_PEERS_RING_H
#define BENCH_PEERS_RING_H

#include "../peers.h"

#include <ck_ring.h>
#include <stdlib.h>

struct queue {
    ck_ring_t ring;
    struct event *cells;
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

static inline void queue_put(struct queue *queue, struct sender *sender, const struct event *event)
{
    (void)sender;
    /* The ring only reads it. */
    struct event *source = (struct event *)(uintptr_t)event;
    while (!ENQUEUE(&queue->ring, queue->cells, source)) /* full, so only for a moment */
        ck_pr_stall();
}

static size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    (void)taker;
    size_t count = 0;
    while (count < capacity && DEQUEUE(&queue->ring, queue->cells, &events[count]))
        count++;
    return count;
}

#include "fan.h"

#endif
