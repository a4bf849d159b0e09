/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* More threads than cores; threads that are stopped, interrupted, or end while subscribed. */
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "../engine/stopper.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define SWARM_PER_CORE 6
/* The swarm comes in bursts, or nobody else would get anything done. */
#define BURST_NS 150000000
#define PERIOD_NS 750000000
#define SWARM_FIRST 6 /* producers below are the base load's */
/* Publishes of others that must come through while a publisher is stopped. */
#define PASSED 200
#define HALT_NS 20000000
#define WITHOUT_CLAIM_NS 50000000

/* -------------------------------------------------------------------------------------- swarm */

static void await_burst(void)
{
    uint64_t phase = now_ns() % PERIOD_NS;
    if (phase >= BURST_NS)
        nap(PERIOD_NS - phase, &world->stop_churn);
}

static void *swarm_producer_body(void *number)
{
    struct publisher publisher = {.producer = SWARM_FIRST + (unsigned)(uintptr_t)number};
    while (!flag(&world->stop_churn)) {
        await_burst();
        if (!publisher_send(&publisher, 1))
            break;
    }
    return NULL;
}

static void *swarm_churn_body(void *number)
{
    while (!flag(&world->stop_churn)) {
        await_burst();
        churn_once();
    }
    return number;
}

static void swarm_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    unsigned cores = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    unsigned many = cores * SWARM_PER_CORE < 48 ? cores * SWARM_PER_CORE : 48;
    crew_start(visitors, "swarm out", swarm_churn_body, many);
    crew_start(visitors, "swarm in", swarm_producer_body,
               many < PRODUCERS_COMMON - SWARM_FIRST ? many : PRODUCERS_COMMON - SWARM_FIRST);
}

const struct scenario swarm_scenario = {
    "swarm", "more threads than cores: preemption in the middle of everything", needs_subscriptions,
    swarm_start, NULL};

/* ------------------------------------------------------------------------------------ helpers */

static struct worker *random_worker(enum operation operation)
{
    for (unsigned tries = 0; tries < WORKERS_MAX; tries++) {
        struct worker *worker = &workers[random_below(&self->random, WORKERS_MAX)];
        if (worker != self && flag(&worker->used) && atomic_load(&worker->due_ns) != 0 &&
            (operation == OPERATION_NONE || atomic_load(&worker->operation) == operation))
            return worker;
    }
    return NULL;
}

/* With a thread stopped inside publish, the others' publishes go on. */
static void halt_one(void)
{
    struct worker *worker = random_worker(OPERATION_PUBLISH);
    if (!worker || !worker_halt(worker))
        return;
    uint64_t began = now_ns(), before = atomic_load(&world->issued);
    uint64_t limit = verdict_claimed(NEVER_BLOCKS) ? (uint64_t)world->options.patience * 500000000
                                                   : WITHOUT_CLAIM_NS;
    bool passed = false;
    while (!passed && now_ns() < began + limit && !flag(&world->stop_churn)) {
        nap(200000, &world->stop_churn);
        /* Behind the nap: this thread may not have been run for longer than the limit. */
        passed = atomic_load(&world->issued) >= before + PASSED;
    }
    if (!passed && !flag(&world->stop_churn))
        verdict_violated(
            NEVER_BLOCKS, "%" PRIu64 " publishes in %.1f s while %s was stopped inside one",
            atomic_load(&world->issued) - before, (double)(now_ns() - began) / 1e9, worker->name);
    else if (verdict_claimed(NEVER_BLOCKS))
        nap(random_below(&self->random, HALT_NS), &world->stop_churn);
    verdict_checked(NEVER_BLOCKS, passed);
    worker_resume(worker);
}

static void *warden_body(void *number)
{
    (void)number;
    while (!flag(&world->stop_churn)) {
        halt_one();
        nap(random_below(&self->random, 2000000), &world->stop_churn);
    }
    return NULL;
}

static void helpers_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "warden", warden_body, 1);
}

const struct scenario helpers_scenario = {
    "helpers", "publishers stopped at any instruction: the others must finish their work", NULL,
    helpers_start, NULL};

/* --------------------------------------------------------------------------- signals and stall */

static void *signals_body(void *number)
{
    (void)number;
    while (!flag(&world->stop_churn)) {
        struct worker *worker = random_worker(OPERATION_NONE);
        if (worker)
            worker_disturb(worker, 0);
        nap(random_below(&self->random, 200000), &world->stop_churn);
    }
    return NULL;
}

static void signals_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "signals", signals_body, 2);
}

const struct scenario signals_scenario = {"signals",
                                          "a storm of signals without SA_RESTART: EINTR everywhere",
                                          NULL, signals_start, NULL};

static void *stall_body(void *number)
{
    (void)number;
    while (!flag(&world->stop_churn)) {
        struct worker *worker = random_worker(OPERATION_NONE);
        if (worker)
            worker_disturb(worker, 1 + random_below(&self->random, 3000));
        nap(random_below(&self->random, 1000000), &world->stop_churn);
    }
    return NULL;
}

static void stall_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    stopper_go(); /* SIGSTOP and SIGCONT for the whole process */
    crew_start(visitors, "stall", stall_body, 1);
}

const struct scenario stall_scenario = {
    "stall", "threads that yield or sleep inside a call, SIGSTOP and SIGCONT for the process", NULL,
    stall_start, NULL};

/* ------------------------------------------------------------------------------------ threads */

static pthread_key_t at_exit;

static void unsubscribe_at_exit(void *subscription)
{
    int result = call_unsubscribe(subscription);
    if (result < 0)
        verdict_violated(ANY_CONTEXT, "unsubscribe at thread exit: %s", strerror(-result));
    verdict_checked(ANY_CONTEXT, 1);
}

/* AddressSanitizer takes the stack of a cancelled thread for poisoned, and then reports itself. */
#ifdef __SANITIZE_ADDRESS__
#define CAN_CANCEL false
#else
#define CAN_CANCEL true
#endif

/* Subscribes and receives, and leaves the rest to a destructor. */
static void *brief_body(void *cancelled)
{
    static _Thread_local struct subject_event events[BATCH];
    struct subject_topic topic = synthetic_topic(&self->random);
    struct stream stream;
    stream_prepare(&stream, &topic);
    void *subscription = subscribe_surely(&topic, 0);
    if (!subscription)
        return NULL;
    stream_begin(&stream);
    pthread_setspecific(at_exit, subscription);
    for (unsigned i = 0; i < 10 || cancelled; i++) {
        ssize_t got = call_receive(subscription, events, BATCH, 100000);
        if (got > 0)
            stream_check(&stream, events, (size_t)got);
        if (cancelled)
            pthread_testcancel(); /* no function of a subject is a cancellation point */
    }
    return NULL;
}

static void *threads_body(void *number)
{
    (void)number;
    while (!flag(&world->stop_churn)) {
        bool cancel = CAN_CANCEL && random_below(&self->random, 2);
        struct worker *worker =
            worker_start("brief", cancel, brief_body, (void *)(uintptr_t)cancel);
        if (!worker)
            continue;
        if (cancel) {
            nap(random_below(&self->random, 3000000), &world->stop_churn);
            pthread_cancel(worker->thread);
        }
        worker_join(worker);
    }
    return NULL;
}

static void threads_start(struct crew *residents, struct crew *visitors)
{
    static bool made;
    (void)residents;
    if (!made)
        made = pthread_key_create(&at_exit, unsubscribe_at_exit) == 0;
    crew_start(visitors, "threads", threads_body, 1);
}

static const char *threads_unfit(void)
{
    return verdict_claimed(ANY_CONTEXT) ? needs_subscriptions() : "the subject does not claim G5";
}

const struct scenario threads_scenario = {"threads",
                                          "threads that exit or are cancelled while subscribed",
                                          threads_unfit, threads_start, NULL};
