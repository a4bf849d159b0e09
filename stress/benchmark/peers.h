/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A peer: a queue, or a bus, behind a small table of functions. What counts happens inside of them:
 * publish makes and hands over many events in a loop of its own, receive takes many, so that the
 * call through the table weighs nothing, and weighs the same for all. Every event is 64 bytes that
 * are copied in and copied out again. A queue becomes a bus by having one for each subscription.
 *
 * Every peer is used at its best: tokens, batches and preallocation where it knows them.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "bench.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What receivers take at once, where a peer can. */
#define RECEIVE_BATCH 64

struct event {
    uint64_t number; /* 1, 2, 3 … of its producer */
    uint64_t payload[7];
};

/* What a measurement will ask of a bus. */
struct shape {
    unsigned subscriptions;
    unsigned producers, consumers; /* threads */
    size_t pending;                /* most events in one subscription at a time */
    bool grows;                    /* that is not known beforehand: no preallocation */
    bool one_pid; /* PEER_TOPICS: subscription i wants only events whose number modulo
                     `subscriptions` is i */
};

/* Strict FIFO: one order for all producers of a queue, which respects real time. */
#define PEER_FIFO (1u << 0)
/* Events of one producer stay in order; those of two may pass each other. */
#define PEER_PRODUCER_FIFO (1u << 1)
#define PEER_ONE_CONSUMER (1u << 2) /* one thread may receive from a queue */
#define PEER_BOUNDED (1u << 3)      /* as large as `pending` says, from the beginning */
#define PEER_ONE_TO_ONE (1u << 5)   /* one thread may send, too */
#define PEER_TOPICS (1u << 4)       /* finds the subscriptions of a pid without asking all */

struct peer {
    const char *name;
    const char *what;
    unsigned features; /* PEER_… */
    void *(*create)(const struct shape *shape);
    void (*destroy)(void *bus);
    /* A thread's own ends of the bus. It makes them itself. */
    void *(*producer)(void *bus);
    void (*producer_end)(void *producer);
    void *(*consumer)(void *bus);
    void (*consumer_end)(void *consumer);
    /* Events `first`, `first` + 1 …, `count` of them, one by one, each to every subscription. */
    void (*publish)(void *producer, uint64_t first, unsigned count);
    /* Up to `limit` events of one subscription, of those there are; their numbers are added up. */
    unsigned (*receive)(void *consumer, unsigned subscription, unsigned limit, uint64_t *sum);
    /* Sleep until there is an event, and take it. NULL: it has no such call. */
    void (*wait)(void *consumer, unsigned subscription);
    /* Subscribe, to pids that never come, and unsubscribe, `count` times. NULL: likewise. */
    void (*churn)(void *bus, unsigned count);
};

extern const struct peer *const peers[]; /* exitbus first */
extern const size_t peer_count;

bool peer_keeps_fifo(const char *name);

/* Zeroed and aligned to lines of the cache; never NULL. Give back with free(). */
void *peer_memory(size_t size);

#ifdef __cplusplus
}
#endif

#endif
