// SPDX-License-Identifier: MIT OR Apache-2.0
// moodycamel::ConcurrentQueue with implicit producers: no tokens, batches all the same.
#include "../peers.h"

#include <concurrentqueue/concurrentqueue.h>
#include <new>

namespace
{

struct queue {
    moodycamel::ConcurrentQueue<struct event> all;
};

struct sender {
};

struct taker {
};

void queue_open(struct queue *queue, const struct shape *shape)
{
    new (&queue->all) moodycamel::ConcurrentQueue<struct event>(shape->grows ? 0 : shape->pending,
                                                                0, shape->producers);
}

void queue_close(struct queue *queue)
{
    queue->~queue();
}

void sender_open(struct sender *, struct queue *)
{
}

void sender_close(struct sender *)
{
}

void taker_open(struct taker *, struct queue *)
{
}

void taker_close(struct taker *)
{
}

inline void queue_put(struct queue *queue, struct sender *, const struct event *event)
{
    queue->all.enqueue(*event);
}

inline size_t queue_take(struct queue *queue, struct taker *, struct event *events, size_t capacity)
{
    return queue->all.try_dequeue_bulk(events, capacity);
}

} // namespace

#include "fan.h"

FAN_PEER(moodycamel_peer, "moodycamel", "moodycamel::ConcurrentQueue", PEER_PRODUCER_FIFO);
