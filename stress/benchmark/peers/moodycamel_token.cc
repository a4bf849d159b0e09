// SPDX-License-Identifier: MIT OR Apache-2.0
// moodycamel::ConcurrentQueue as fast as it goes: a token for each producer and consumer, batches.
#include "../peers.h"

#include <concurrentqueue/concurrentqueue.h>
#include <new>

namespace
{

struct queue {
    moodycamel::ConcurrentQueue<struct event> all;
};

struct sender {
    moodycamel::ProducerToken token;
};

struct taker {
    moodycamel::ConsumerToken token;
};

void queue_open(struct queue *queue, const struct shape *shape)
{
    new (&queue->all) moodycamel::ConcurrentQueue<struct event>(shape->grows ? 0 : shape->pending,
                                                                shape->producers, 0);
}

void queue_close(struct queue *queue)
{
    queue->~queue();
}

void sender_open(struct sender *sender, struct queue *queue)
{
    new (&sender->token) moodycamel::ProducerToken(queue->all);
}

void sender_close(struct sender *sender)
{
    sender->~sender();
}

void taker_open(struct taker *taker, struct queue *queue)
{
    new (&taker->token) moodycamel::ConsumerToken(queue->all);
}

void taker_close(struct taker *taker)
{
    taker->~taker();
}

inline void queue_put(struct queue *queue, struct sender *sender, const struct event *event)
{
    queue->all.enqueue(sender->token, *event);
}

inline size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    return queue->all.try_dequeue_bulk(taker->token, events, capacity);
}

} // namespace

#include "fan.h"

FAN_PEER(moodycamel_token_peer, "moodycamel-token", "moodycamel::ConcurrentQueue, with tokens",
         PEER_PRODUCER_FIFO);
