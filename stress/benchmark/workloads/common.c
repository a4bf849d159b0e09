/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See workloads.h. */
#include "workloads.h"

#include <ck_pr.h>
#include <sched.h>
#include <stdio.h>

/* A pause is some 25 ns here: 50 ns at first, 800 ns at last, and after 10 µs the core is given
 * away. */
#define FIRST_PAUSES 2u
#define MOST_PAUSES 32u
#define TIMES_UNTIL_YIELD 16u

void wait_a_little(unsigned *times)
{
    unsigned pauses = FIRST_PAUSES;
    if (++*times > TIMES_UNTIL_YIELD) {
        sched_yield();
        return;
    }
    for (unsigned doubled = 1; doubled < *times && pauses < MOST_PAUSES; doubled++)
        pauses *= 2;
    while (pauses-- > 0)
        ck_pr_stall();
}

void start_thread(pthread_t *thread, void *(*body)(void *), void *argument)
{
    if (pthread_create(thread, NULL, body, argument) != 0)
        bench_die("cannot start a thread");
}

void parameter_text(char text[PARAMETER_SIZE], const char *variant)
{
    if (bench.threads)
        snprintf(text, PARAMETER_SIZE, "%s%s%u threads", variant, *variant ? ", " : "",
                 bench.threads);
    else
        snprintf(text, PARAMETER_SIZE, "%s", variant);
}

const struct peer *peer_in_round(unsigned round, size_t n)
{
    return peers[(n + round) % peer_count];
}

void receive_burst(const char *workload, const struct peer *peer, void *consumer,
                   unsigned subscriptions, unsigned events)
{
    const uint64_t expected = (uint64_t)events * (events + 1) / 2;
    for (unsigned i = 0; i < subscriptions; i++) {
        uint64_t sum = 0;
        unsigned count = 0;
        while (count < events) {
            unsigned taken = peer->receive(consumer, i, events - count, &sum);
            if (taken == 0)
                bench_die("%s: %s: %u events of %u", workload, peer->name, count, events);
            count += taken;
        }
        if (sum != expected)
            bench_die("%s: %s: wrong events", workload, peer->name);
    }
}
