/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Makes a bus of a queue. Include it, in C or in C++, after
 *
 *     struct queue, struct sender, struct taker   the queue, a producer's and a consumer's end of
 * it void queue_open(struct queue *, const struct shape *), queue_close(struct queue *) void
 * sender_open(struct sender *, struct queue *), sender_close(struct sender *) void
 * taker_open(struct taker *, struct queue *), taker_close(struct taker *) void queue_put(struct
 * queue *, struct sender *, const struct event *) size_t queue_take(struct queue *, struct taker *,
 * struct event *, size_t capacity)
 *
 * all of this file only; then FAN_PEER(…) defines the peer. queue_take takes up to `capacity`
 * events.
 */
#ifndef BENCH_PEERS_FAN_H
#define BENCH_PEERS_FAN_H

#include "all.h"

#include <stdlib.h>

#ifdef __cplusplus
namespace
{
#endif

struct fan {
    unsigned count;
    struct queue *queues;
};

struct fan_producer {
    struct fan *bus;
    struct sender *senders;
};

struct fan_consumer {
    struct fan *bus;
    struct taker *takers;
};

static void *fan_create(const struct shape *shape)
{
    struct fan *bus = (struct fan *)peer_memory(sizeof *bus);
    bus->count = shape->subscriptions;
    bus->queues = (struct queue *)peer_memory(bus->count * sizeof *bus->queues);
    for (unsigned i = 0; i < bus->count; i++)
        queue_open(&bus->queues[i], shape);
    return bus;
}

static void fan_destroy(void *opaque)
{
    struct fan *bus = (struct fan *)opaque;
    for (unsigned i = 0; i < bus->count; i++)
        queue_close(&bus->queues[i]);
    free(bus->queues);
    free(bus);
}

static void *fan_producer_open(void *opaque)
{
    struct fan_producer *producer = (struct fan_producer *)peer_memory(sizeof *producer);
    producer->bus = (struct fan *)opaque;
    producer->senders =
        (struct sender *)peer_memory(producer->bus->count * sizeof *producer->senders);
    for (unsigned i = 0; i < producer->bus->count; i++)
        sender_open(&producer->senders[i], &producer->bus->queues[i]);
    return producer;
}

static void fan_producer_end(void *opaque)
{
    struct fan_producer *producer = (struct fan_producer *)opaque;
    for (unsigned i = 0; i < producer->bus->count; i++)
        sender_close(&producer->senders[i]);
    free(producer->senders);
    free(producer);
}

static void *fan_consumer_open(void *opaque)
{
    struct fan_consumer *consumer = (struct fan_consumer *)peer_memory(sizeof *consumer);
    consumer->bus = (struct fan *)opaque;
    consumer->takers = (struct taker *)peer_memory(consumer->bus->count * sizeof *consumer->takers);
    for (unsigned i = 0; i < consumer->bus->count; i++)
        taker_open(&consumer->takers[i], &consumer->bus->queues[i]);
    return consumer;
}

static void fan_consumer_end(void *opaque)
{
    struct fan_consumer *consumer = (struct fan_consumer *)opaque;
    for (unsigned i = 0; i < consumer->bus->count; i++)
        taker_close(&consumer->takers[i]);
    free(consumer->takers);
    free(consumer);
}

static void fan_publish(void *opaque, uint64_t first, unsigned count)
{
    struct fan_producer *producer = (struct fan_producer *)opaque;
    struct queue *queues = producer->bus->queues;
    struct sender *senders = producer->senders;
    unsigned queue_count = producer->bus->count;
    struct event event = {0, {1, 1, 1, 1, 1, 1, 1}};
    for (uint64_t number = first; number < first + count; number++) {
        event.number = number;
        for (unsigned i = 0; i < queue_count; i++)
            queue_put(&queues[i], &senders[i], &event);
    }
}

static unsigned fan_receive(void *opaque, unsigned subscription, unsigned limit, uint64_t *sum)
{
    struct fan_consumer *consumer = (struct fan_consumer *)opaque;
    struct queue *queue = &consumer->bus->queues[subscription];
    struct taker *taker = &consumer->takers[subscription];
    struct event events[RECEIVE_BATCH];
    unsigned taken = 0;
    while (taken < limit) {
        size_t wanted = limit - taken < RECEIVE_BATCH ? limit - taken : RECEIVE_BATCH;
        size_t count = queue_take(queue, taker, events, wanted);
        if (count == 0)
            break;
        /* All 64 bytes are wanted, as by a caller who reads them. */
        __asm__ volatile("" : : "r"(events) : "memory");
        for (size_t i = 0; i < count; i++)
            *sum += events[i].number;
        taken += (unsigned)count;
    }
    return taken;
}

#ifdef FAN_WAITS
static void fan_wait(void *opaque, unsigned subscription)
{
    struct fan_consumer *consumer = (struct fan_consumer *)opaque;
    struct event event;
    queue_wait(&consumer->bus->queues[subscription], &event);
    __asm__ volatile("" : : "r"(&event) : "memory");
}
#endif

#ifdef __cplusplus
} // namespace
#endif

#ifdef FAN_WAITS
#define FAN_WAIT fan_wait
#else
#define FAN_WAIT NULL
#endif

#define FAN_PEER(symbol, peer_name, peer_what, peer_features)                                      \
    const struct peer symbol = {(peer_name),                                                       \
                                (peer_what),                                                       \
                                (peer_features),                                                   \
                                fan_create,                                                        \
                                fan_destroy,                                                       \
                                fan_producer_open,                                                 \
                                fan_producer_end,                                                  \
                                fan_consumer_open,                                                 \
                                fan_consumer_end,                                                  \
                                fan_publish,                                                       \
                                fan_receive,                                                       \
                                FAN_WAIT,                                                          \
                                NULL}

#endif
