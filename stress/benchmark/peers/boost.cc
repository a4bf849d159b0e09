// SPDX-License-Identifier: MIT OR Apache-2.0
// boost::lockfree::queue, with as many nodes as will be wanted.
#include "../peers.h"

#include <boost/lockfree/queue.hpp>
#include <new>

namespace
{

struct queue {
    boost::lockfree::queue<struct event> all;
};

struct sender {
};

struct taker {
};

void queue_open(struct queue *queue, const struct shape *shape)
{
    new (&queue->all) boost::lockfree::queue<struct event>(shape->grows ? 0 : shape->pending);
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
    while (count < capacity && queue->all.pop(events[count]))
        count++;
    return count;
}

} // namespace

#include "fan.h"

FAN_PEER(boost_peer, "boost-lockfree", "boost::lockfree::queue, nodes preallocated", PEER_FIFO);
