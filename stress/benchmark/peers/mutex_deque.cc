// SPDX-License-Identifier: MIT OR Apache-2.0
// A std::deque under a std::mutex; a batch is taken under one lock.
#include "../peers.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>

namespace
{

struct queue {
    std::mutex lock;
    std::condition_variable not_empty;
    std::deque<struct event> all;
};

struct sender {
};

struct taker {
};

void queue_open(struct queue *queue, const struct shape *)
{
    ::new (static_cast<void *>(queue)) struct queue();
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
    {
        std::lock_guard<std::mutex> hold(queue->lock);
        queue->all.push_back(*event);
    }
    queue->not_empty.notify_one();
}

size_t queue_take(struct queue *queue, struct taker *, struct event *events, size_t capacity)
{
    std::lock_guard<std::mutex> hold(queue->lock);
    size_t count = 0;
    for (; count < capacity && !queue->all.empty(); count++) {
        events[count] = queue->all.front();
        queue->all.pop_front();
    }
    return count;
}

void queue_wait(struct queue *queue, struct event *event)
{
    std::unique_lock<std::mutex> hold(queue->lock);
    queue->not_empty.wait(hold, [queue] { return !queue->all.empty(); });
    *event = queue->all.front();
    queue->all.pop_front();
}

} // namespace

#define FAN_WAITS
#include "fan.h"

FAN_PEER(mutex_deque_peer, "mutex+deque",
         "std::deque under a std::mutex, with a condition variable", PEER_FIFO);
