/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * churn: one thread publishes to a steady subscription, and receives; another, on another core,
 * subscribes and unsubscribes as fast as it can. How fast is that, and what does it cost the first?
 * Both halves, with and without the other, follow each other in every round.
 */
#include "workloads.h"

#define SLICE_MS 200
#define BURST 64u
#define CHURNS_AT_ONCE 64u

struct churner {
    const struct peer *peer;
    void *bus;
    _Atomic bool stop;
    double per_second;
};

static void *churn(void *argument)
{
    struct churner *churner = argument;
    machine_pin(1);
    uint64_t begin = now_ns(), count = 0;
    for (; !atomic_load_explicit(&churner->stop, memory_order_relaxed); count += CHURNS_AT_ONCE)
        churner->peer->churn(churner->bus, CHURNS_AT_ONCE);
    churner->per_second = (double)count * 1e9 / (double)(now_ns() - begin);
    return NULL;
}

/* Nanoseconds to publish an event and to receive it, on this thread. */
static double publish(const struct peer *peer, void *producer, void *consumer)
{
    uint64_t sum = 0, count = 0, begin = now_ns(), until = begin + bench_slice(SLICE_MS);
    for (; now_ns() < until; count += BURST) {
        peer->publish(producer, count + 1, BURST);
        if (peer->receive(consumer, 0, BURST, &sum) != BURST)
            bench_die("churn: %s: lost an event", peer->name);
    }
    if (sum != count * (count + 1) / 2)
        bench_die("churn: %s: wrong events", peer->name);
    return (double)(now_ns() - begin) / (double)count;
}

static void measure(const struct peer *peer)
{
    const struct shape shape = {
        .subscriptions = 1, .producers = 1, .consumers = 1, .pending = BURST};
    struct churner churner = {.peer = peer, .bus = peer->create(&shape)};
    void *producer = peer->producer(churner.bus), *consumer = peer->consumer(churner.bus);
    machine_pin(0);
    double alone = publish(peer, producer, consumer);
    pthread_t thread;
    start_thread(&thread, churn, &churner);
    double disturbed = publish(peer, producer, consumer);
    atomic_store(&churner.stop, true);
    pthread_join(thread, NULL);
    machine_unpin();
    peer->consumer_end(consumer);
    peer->producer_end(producer);
    peer->destroy(churner.bus);
    result_add("churn", "", peer->name, "subscribe+unsubscribe", "1/s", churner.per_second);
    result_add("churn", "", peer->name, "alone", "ns", alone);
    result_add("churn", "", peer->name, "disturbed", "ns", disturbed);
    result_add("churn", "", peer->name, "slowdown", "%", (disturbed / alone - 1) * 100);
}

static void run(void)
{
    for (unsigned round = 0; round < bench.rounds; round++)
        for (size_t i = 0; i < peer_count; i++) {
            const struct peer *peer = peer_in_round(round, i);
            if (bench_wants(peer->name) && peer->churn)
                measure(peer);
        }
    result_note("churn", "alone, disturbed: publish and receive of an event, in bursts of %u",
                BURST);
    result_note("churn", "queues have no list of subscriptions to join and leave");
}

extern const struct workload churn_workload;
const struct workload churn_workload = {
    "churn",
    "One thread subscribes to a pid and unsubscribes, over and over, while another publishes.",
    run};
