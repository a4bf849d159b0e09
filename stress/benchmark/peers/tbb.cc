// SPDX-License-Identifier: MIT OR Apache-2.0
// oneTBB concurrent_queue.
#include "../peers.h"

#include <new>
#include <tbb/concurrent_queue.h>

namespace
{

struct queue {
    tbb::concurrent_queue<struct event> all;
};

struct sender {
};

struct taker {
};

void queue_open(struct queue *queue, const struct shape *)
{
    new (&queue->all) tbb::concurrent_queue<struct event>();
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
    queue->all.push(*event);
}

size_t queue_take(struct queue *queue, struct taker *, struct event *events, size_t capacity)
{
    size_t count = 0;
    while (count < capacity && queue->all.try_pop(events[count]))
        count++;
    return count;
}

} // namespace

#include "fan.h"

FAN_PEER(tbb_peer, "oneTBB", "oneTBB concurrent_queue", PEER_FIFO);
