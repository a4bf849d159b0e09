/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the workloads that move events share. */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include "../bench.h"
#include "../peers.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * A thread that found nothing to do waits a little, longer each time, and in the end gives its core
 * away: the same for all peers. Looking again at once would steal the line that the other side is
 * about to write.
 */
void wait_a_little(unsigned *times);

/* A thread that cannot be had ends the run. */
void start_thread(pthread_t *thread, void *(*body)(void *), void *argument);

/*
 * The parameter of a result: `variant`, and behind it the number of threads if --threads gives one.
 * `variant` may be empty.
 */
#define PARAMETER_SIZE 32
void parameter_text(char text[PARAMETER_SIZE], const char *variant);

/* The peer that is to be measured as the n-th of a round: each round begins with another. */
const struct peer *peer_in_round(unsigned round, size_t n);

/*
 * Receive events 1 to `events` from each subscription, as fast as the peer can. A peer that lacks
 * one, or has others, ends the run.
 */
void receive_burst(const char *workload, const struct peer *peer, void *consumer,
                   unsigned subscriptions, unsigned events);

#endif
