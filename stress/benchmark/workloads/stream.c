/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* See stream.h. */
#include "stream.h"

#include <stdlib.h>
#include <time.h>

/* Events of one call of publish: it hides the call, and is small beside the window. */
#define CHUNK 16u
/* So much of a slice passes before it counts: pools fill, caches warm, threads find their pace. */
#define WARM_UP 0.2
/* Fewer events than so many windows are no stream: on a loaded machine a slice may pass idly. */
#define LEAST_WINDOWS 4u
#define MOST_SLICES 5u

struct stream;

/* A thread; `count` is what others read: sent, or received by all subscriptions. */
struct end {
    _Alignas(2 * CACHE_LINE) _Atomic uint64_t count;
    _Alignas(2 * CACHE_LINE) struct stream *stream;
    unsigned core;
    uint64_t sum; /* of the numbers received */
    pthread_t thread;
};

struct stream {
    const struct peer *peer;
    const struct stream_plan *plan;
    size_t window; /* of the plan, or more if there are many producers */
    void *bus;
    struct end *producers, *consumers;
    _Alignas(2 * CACHE_LINE) _Atomic bool stop;      /* producers: enough */
    _Alignas(2 * CACHE_LINE) _Atomic uint64_t total; /* consumers: this is all; UINT64_MAX before */
};

static uint64_t sum_of(const struct end *ends, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += atomic_load_explicit(&ends[i].count, memory_order_acquire);
    return sum;
}

/* Events that all subscriptions have received. Consumers of one subscription share its events. */
static uint64_t received_by_all(const struct stream *stream)
{
    const struct stream_plan *plan = stream->plan;
    if (plan->subscriptions == 1)
        return sum_of(stream->consumers, plan->consumers);
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < plan->consumers; i++) {
        uint64_t count = sum_of(&stream->consumers[i], 1);
        least = count < least ? count : least;
    }
    return least;
}

/* ---------------------------------------------------------------------------------- producers */

/*
 * How many this producer may send now: its share of what is left of the window. Others may still
 * hold shares of theirs, so that all together stay below twice the window. 0: it was told to stop.
 */
static size_t wait_for_credit(struct stream *stream)
{
    const struct stream_plan *plan = stream->plan;
    for (unsigned times = 0; !atomic_load_explicit(&stream->stop, memory_order_relaxed);) {
        uint64_t received = received_by_all(stream);
        uint64_t ahead = sum_of(stream->producers, plan->producers) - received;
        size_t share = ahead < stream->window ? (stream->window - ahead) / plan->producers : 0;
        if (share >= CHUNK)
            return share;
        wait_a_little(&times);
    }
    return 0;
}

static void *produce(void *argument)
{
    struct end *own = argument;
    struct stream *stream = own->stream;
    machine_pin(own->core);
    void *producer = stream->peer->producer(stream->bus);
    uint64_t sent = 0;
    for (size_t credit = 0; (credit = wait_for_credit(stream)) > 0;)
        for (; credit >= CHUNK; credit -= CHUNK) {
            stream->peer->publish(producer, sent + 1, CHUNK);
            sent += CHUNK;
            atomic_store_explicit(&own->count, sent, memory_order_release);
        }
    stream->peer->producer_end(producer);
    return NULL;
}

/* ---------------------------------------------------------------------------------- consumers */

/* One look at every subscription of this consumer. Returns how many events came. */
static unsigned pass(struct end *own, void *consumer, uint64_t *counts)
{
    const struct stream *stream = own->stream;
    const struct stream_plan *plan = stream->plan;
    unsigned all = 0, step = 1, first = 0;
    uint64_t least = UINT64_MAX;
    if (plan->subscriptions > 1) {
        step = plan->consumers;
        first = (unsigned)(own - stream->consumers);
    }
    for (unsigned i = first; i < plan->subscriptions; i += step) {
        unsigned taken = stream->peer->receive(consumer, i, RECEIVE_BATCH, &own->sum);
        counts[i] += taken;
        all += taken;
        least = counts[i] < least ? counts[i] : least;
    }
    if (all > 0)
        atomic_store_explicit(&own->count, least, memory_order_release);
    return all;
}

static void *consume(void *argument)
{
    struct end *own = argument;
    struct stream *stream = own->stream;
    machine_pin(own->core);
    void *consumer = stream->peer->consumer(stream->bus);
    uint64_t *counts = peer_memory(stream->plan->subscriptions * sizeof *counts);
    for (unsigned times = 0;;) {
        if (pass(own, consumer, counts) > 0) {
            times = 0;
            continue;
        }
        if (received_by_all(stream) >= atomic_load_explicit(&stream->total, memory_order_acquire))
            break;
        wait_a_little(&times);
    }
    free(counts);
    stream->peer->consumer_end(consumer);
    return NULL;
}

/* ---------------------------------------------------------------------------------------- run */

static struct end *make_ends(struct stream *stream, unsigned count, unsigned first_core)
{
    struct end *ends = peer_memory(count * sizeof *ends);
    for (unsigned i = 0; i < count; i++) {
        ends[i].stream = stream;
        ends[i].core = first_core + i;
    }
    return ends;
}

static void start_ends(struct end *ends, unsigned count, void *(*body)(void *))
{
    for (unsigned i = 0; i < count; i++)
        start_thread(&ends[i].thread, body, &ends[i]);
}

static void join_ends(struct end *ends, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pthread_join(ends[i].thread, NULL);
}

static void sleep_ns(double ns)
{
    struct timespec time = {(time_t)(ns / 1e9), (long)ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

/* Each producer sent 1, 2, 3 …; each subscription has received all. */
static void check(const struct stream *stream)
{
    uint64_t sent = 0, received = 0;
    for (unsigned i = 0; i < stream->plan->producers; i++) {
        uint64_t last = atomic_load(&stream->producers[i].count);
        sent += last * (last + 1) / 2;
    }
    for (unsigned i = 0; i < stream->plan->consumers; i++)
        received += stream->consumers[i].sum;
    if (received != sent * stream->plan->subscriptions)
        bench_die("%s: what was received is not what was sent", stream->peer->name);
}

static void stream_start(struct stream *stream, const struct peer *peer,
                         const struct stream_plan *plan, unsigned first_core)
{
    size_t least = (size_t)STREAM_LEAST * plan->producers;
    stream->peer = peer;
    stream->plan = plan;
    stream->window = plan->window > least ? plan->window : least;
    const struct shape shape = {.subscriptions = plan->subscriptions,
                                .producers = plan->producers,
                                .consumers = plan->consumers,
                                .pending = 2 * stream->window};
    stream->bus = peer->create(&shape);
    atomic_store(&stream->total, UINT64_MAX);
    stream->producers = make_ends(stream, plan->producers, first_core);
    stream->consumers = make_ends(stream, plan->consumers, first_core + plan->producers);
    start_ends(stream->consumers, plan->consumers, consume);
    start_ends(stream->producers, plan->producers, produce);
}

static void stream_stop(struct stream *stream)
{
    const struct stream_plan *plan = stream->plan;
    atomic_store(&stream->stop, true);
    join_ends(stream->producers, plan->producers);
    atomic_store_explicit(&stream->total, sum_of(stream->producers, plan->producers),
                          memory_order_release);
    join_ends(stream->consumers, plan->consumers);
    check(stream);
    stream->peer->destroy(stream->bus);
    free(stream->producers);
    free(stream->consumers);
}

static uint64_t received_of(const struct stream *streams, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += received_by_all(&streams[i]);
    return sum;
}

double stream_measure(const struct peer *peer, const struct stream_plan *plan)
{
    struct stream *streams = peer_memory(plan->buses * sizeof *streams);
    for (unsigned i = 0; i < plan->buses; i++)
        stream_start(&streams[i], peer, plan, i * (plan->producers + plan->consumers));
    double slice_ns = (double)bench_slice(plan->slice_ms);
    sleep_ns(slice_ns * WARM_UP);
    uint64_t begin = now_ns(), before = received_of(streams, plan->buses), end, after;
    uint64_t enough = before + LEAST_WINDOWS * plan->buses * streams[0].window;
    unsigned slices = 0;
    do {
        sleep_ns(slice_ns);
        end = now_ns();
        after = received_of(streams, plan->buses);
        slices++;
    } while (after < enough && (slices < MOST_SLICES || after == before));
    for (unsigned i = 0; i < plan->buses; i++)
        stream_stop(&streams[i]);
    free(streams);
    return (double)(end - begin) * plan->buses / (double)(after - before);
}
