/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* GLib's GAsyncQueue of events from g_slice; a batch is taken under one lock. */
#include "../peers.h"

#include <glib.h>
#include <stdlib.h>

struct queue {
    GAsyncQueue *all;
};

struct sender {
    char none;
};

struct taker {
    char none;
};

static void queue_open(struct queue *queue, const struct shape *shape)
{
    (void)shape;
    queue->all = g_async_queue_new();
}

static void queue_close(struct queue *queue)
{
    g_async_queue_unref(queue->all);
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
    g_async_queue_push(queue->all, g_slice_dup(struct event, event));
}

static size_t queue_take(struct queue *queue, struct taker *taker, struct event *events,
                         size_t capacity)
{
    (void)taker;
    struct event *taken[RECEIVE_BATCH];
    size_t count = 0;
    g_async_queue_lock(queue->all);
    while (count < capacity && (taken[count] = g_async_queue_try_pop_unlocked(queue->all)))
        count++;
    g_async_queue_unlock(queue->all);
    for (size_t i = 0; i < count; i++) {
        events[i] = *taken[i];
        g_slice_free(struct event, taken[i]);
    }
    return count;
}

static void queue_wait(struct queue *queue, struct event *event)
{
    struct event *taken = g_async_queue_pop(queue->all);
    *event = *taken;
    g_slice_free(struct event, taken);
}

#define FAN_WAITS
#include "fan.h"

FAN_PEER(glib_peer, "GAsyncQueue", "GLib GAsyncQueue, events from g_slice", PEER_FIFO);
