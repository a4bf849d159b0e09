/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * backlog: five million events that nobody receives, then all of them at once. Memory for each,
 * the speed of both, and what the process still holds when all is over. Each measurement is a
 * process of its own, so that nobody finds memory that another has left: the program runs itself
 * with a hidden option, and reads four numbers from it.
 *
 * exitbus is measured with 8 and with 64 subscriptions, too: they share what is undelivered. Not so
 * the peers. A queue for each subscription takes N times the memory of one, so 64 of them would
 * take 20 GB and show nothing new.
 */
#include "backlog.h"

#include "workloads.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 5000000.0
#define EVENTS_LEAST 200000.0
/* What reclamation may take in the background before the account is closed. */
#define SETTLE_S 1

static unsigned long event_count(void)
{
    double scaled = EVENTS * bench.seconds / BENCH_SECONDS;
    return (unsigned long)(scaled > EVENTS         ? EVENTS
                           : scaled < EVENTS_LEAST ? EVENTS_LEAST
                                                   : scaled);
}

static size_t settled(time_t seconds)
{
    const struct timespec nap = {seconds, 0};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
    malloc_trim(0);
    return machine_resident();
}

/* ----------------------------------------------------------------------------- the process apart
 */

#define CHUNK 1000u

/* Receive what there is, from one subscription after the other. Returns how many of each. */
static uint64_t drain(const struct peer *peer, void *consumer, unsigned subscriptions)
{
    uint64_t expected = 0;
    for (unsigned i = 0; i < subscriptions; i++) {
        uint64_t sum = 0, received = 0;
        for (unsigned taken; (taken = peer->receive(consumer, i, CHUNK, &sum)) > 0;)
            received += taken;
        expected = i == 0 ? received : expected;
        if (received != expected || sum != received * (received + 1) / 2)
            bench_die("backlog: %s: wrong events", peer->name);
    }
    return expected;
}

static void publish_and_drain(const struct peer *peer, void *producer, void *consumer,
                              unsigned long events, unsigned subscriptions)
{
    size_t empty = settled(0);
    uint64_t begin = now_ns();
    for (unsigned long sent = 0; sent < events; sent += CHUNK)
        peer->publish(producer, sent + 1, CHUNK);
    uint64_t full_ns = now_ns();
    size_t full = machine_resident();
    uint64_t drain_ns = now_ns();
    uint64_t received = drain(peer, consumer, subscriptions);
    uint64_t end = now_ns();
    if (received < events)
        bench_die("backlog: %s: lost an event", peer->name);
    size_t drained = settled(SETTLE_S);
    double count = (double)received;
    printf("%g %g %g %g\n", ((double)full - (double)empty) / count,
           (double)(full_ns - begin) / count, (double)(end - drain_ns) / count / subscriptions,
           ((double)drained / (double)empty - 1) * 100);
}

int backlog_alone(const char *request)
{
    char name[64];
    unsigned long events;
    unsigned subscriptions;
    if (sscanf(request, "%63[^:]:%lu:%u", name, &events, &subscriptions) != 3 || subscriptions == 0)
        return EXIT_USAGE;
    machine_pin(0);
    for (size_t i = 0; i < peer_count; i++) {
        const struct peer *peer = peers[i];
        if (strcmp(peer->name, name) != 0)
            continue;
        const struct shape shape = {.subscriptions = subscriptions,
                                    .producers = 1,
                                    .consumers = 1,
                                    .pending = events,
                                    .grows = true};
        void *bus = peer->create(&shape), *producer = peer->producer(bus);
        void *consumer = peer->consumer(bus);
        /* What the first event of all makes belongs to the bus, not to the backlog. */
        peer->publish(producer, 1, CHUNK);
        drain(peer, consumer, subscriptions);
        publish_and_drain(peer, producer, consumer, events, subscriptions);
        return EXIT_PASS;
    }
    return EXIT_USAGE;
}

/* ---------------------------------------------------------------------------------- the workload
 */

static void measure(const struct peer *peer, unsigned subscriptions)
{
    char self[4096] = "", command[5000], parameter[16] = "";
    double memory, publish, drain, left;
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        bench_die("cannot find the program itself");
    snprintf(command, sizeof command, "'%s' --backlog-alone '%s:%lu:%u'", self, peer->name,
             event_count(), subscriptions);
    if (subscriptions > 1)
        snprintf(parameter, sizeof parameter, "N=%u", subscriptions);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%lf %lf %lf %lf", &memory, &publish, &drain, &left) != 4 ||
        pclose(pipe) != 0)
        bench_die("backlog: %s failed", peer->name);
    result_add("backlog", parameter, peer->name, "memory", "bytes", memory);
    result_add("backlog", parameter, peer->name, "publish", "ns", publish);
    result_add("backlog", parameter, peer->name, "drain", "ns", drain);
    result_add("backlog", parameter, peer->name, "left", "%", left);
}

static void run(void)
{
    for (unsigned round = 0; round < bench.rounds; round++) {
        for (size_t i = 0; i < peer_count; i++) {
            const struct peer *peer = peer_in_round(round, i);
            if (!bench_wants(peer->name))
                continue;
            if (peer->features & PEER_BOUNDED)
                result_leave_out("backlog", peer->name, "bounded: takes all memory beforehand");
            else
                measure(peer, 1);
        }
        measure(peers[0], 8);
        measure(peers[0], 64);
    }
    result_note("backlog",
                "%lu events; memory is the resident set, left what it is larger by "
                "than before, a second after the drain",
                event_count());
    result_note("backlog", "N subscriptions: memory and publish of each event, drain of each "
                           "delivery; peers have a queue for each, whose memory adds up");
}

extern const struct workload backlog_workload;
const struct workload backlog_workload = {
    "backlog", "Events that pend, then are received at once: memory and time of each.", run};
