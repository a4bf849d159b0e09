/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The list of scenarios, and what they share: see scenarios.h. */
#include "base.h"
#include "../checks/agreement.h"
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>

const struct scenario *scenarios[SCENARIOS_MAX] = {
    &churn_scenario,  &backlog_scenario,  &fanout_scenario,   &swarm_scenario,  &helpers_scenario,
    &exits_scenario,  &reuse_scenario,    &signals_scenario,  &fork_scenario,   &oom_scenario,
    &fds_scenario,    &threads_scenario,  &stall_scenario,    &echo_scenario,   &idle_scenario,
    &loops_scenario,  &affinity_scenario, &priority_scenario, &misuse_scenario, &lifecycle_scenario,
    &groups_scenario, &handles_scenario,
};
const struct scenario_plugin *scenario_plugins[SCENARIOS_MAX];
unsigned scenario_count = 22;

const struct scenario *scenario_named(const char *name)
{
    for (unsigned i = 0; i < scenario_count; i++)
        if (strcmp(scenarios[i]->name, name) == 0)
            return scenarios[i];
    return NULL;
}

bool scenario_add(const struct scenario_plugin *plugin)
{
    static struct scenario added[SCENARIOS_MAX];
    if (scenario_count == SCENARIOS_MAX)
        return false;
    added[scenario_count] = (struct scenario){.name = plugin->name, .hunts = plugin->hunts};
    scenarios[scenario_count] = &added[scenario_count];
    scenario_plugins[scenario_count++] = plugin;
    return true;
}

/* Events that the slowest steady subscriber may be behind: bounds the memory of a run. */
#define LEAD ((uint64_t)1 << 16)
#define STEADY_WAIT_NS 2000000

bool crew_add(struct crew *crew, const char *name, unsigned number, void *(*body)(void *))
{
    struct worker *worker = NULL;
    if (crew->count < CREW_MAX)
        worker = worker_start(name, number, body, (void *)(uintptr_t)number);
    if (worker)
        crew->workers[crew->count++] = worker;
    return worker;
}

void crew_start(struct crew *crew, const char *name, void *(*body)(void *), unsigned how_many)
{
    for (unsigned i = 0; i < how_many; i++)
        crew_add(crew, name, i, body);
}

void crew_join(struct crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        worker_join(crew->workers[i]);
    crew->count = 0;
}

const char *needs_subscriptions(void)
{
    if (world->subject->subscriptions_max == 0)
        return NULL;
    return "the subject has a limit on subscriptions";
}

const char *needs_topics_of_one_pid(void)
{
    return knows_topic(SUBJECT_TOPIC_PID) ? needs_subscriptions()
                                          : "the subject has no topics of one pid";
}

struct plenty plenty_now(void)
{
    return (struct plenty){.starved = atomic_load(&world->starved),
                           .without_fds = atomic_load(&world->without_fds)};
}

bool is_scarcity(long result, const struct plenty *before)
{
    struct plenty now = plenty_now();
    if (result == -ENOMEM)
        return before->starved % 2 == 1 || now.starved != before->starved;
    if (result == -EMFILE || result == -ENFILE)
        return before->without_fds % 2 == 1 || now.without_fds != before->without_fds;
    return false;
}

void *subscribe_surely(const struct subject_topic *topic, uint32_t flags)
{
    for (;;) {
        void *subscription;
        struct plenty before = plenty_now();
        int result = call_subscribe(topic, flags, &subscription);
        if (result == 0) {
            count(&world->subscriptions, 1);
            return subscription;
        }
        if (!is_scarcity(result, &before)) {
            verdict_violated(CLEAN_FAILURE, "subscribe: %s", strerror(-result));
            return NULL;
        }
        sched_yield();
    }
}

/* ------------------------------------------------------------------------------------ publish */

bool publisher_claim(struct publisher *publisher)
{
    unsigned own = PRODUCERS_COMMON + atomic_fetch_add(&world->own_producers, 1);
    *publisher = (struct publisher){.producer = own};
    return own < PRODUCERS_MAX;
}

/* Let the subscribers to everything come up. A bus that delivers no more must not stop the run. */
static void brake(void)
{
    uint64_t since_ns = 0, before = 0;
    while (!flag(&world->stop_producers)) {
        uint64_t slowest = UINT64_MAX;
        for (unsigned i = 0; i < world->options.steady; i++) {
            uint64_t taken = atomic_load_explicit(&world->steady[i].taken, memory_order_relaxed);
            if (taken < slowest)
                slowest = taken;
        }
        uint64_t issued = atomic_load_explicit(&world->issued, memory_order_relaxed);
        if (slowest == UINT64_MAX || issued < slowest + LEAD)
            return;
        if (since_ns == 0 || slowest != before) {
            before = slowest;
            since_ns = now_ns();
        }
        if (now_ns() > since_ns + (uint64_t)patience_ns()) {
            verdict_violated(NO_LOSS,
                             "a subscriber to everything has received nothing for %u s, of %" PRIu64
                             " events",
                             world->options.patience, issued - slowest);
            return;
        }
        sched_yield();
    }
}

/* Raise latest_seq to at least seq. */
static void has_returned(uint64_t seq)
{
    uint64_t latest = atomic_load_explicit(&world->latest_seq, memory_order_relaxed);
    while (latest < seq &&
           !atomic_compare_exchange_weak_explicit(&world->latest_seq, &latest, seq,
                                                  memory_order_release, memory_order_relaxed))
        continue;
}

/* Publish until it succeeds or fails for no known reason. */
static int publish_surely(const struct subject_event *events, unsigned batch, uint64_t *seq)
{
    for (;;) {
        struct plenty before = plenty_now();
        int result = call_publish(events, batch, seq);
        if (!is_scarcity(result, &before))
            return result;
        sched_yield();
    }
}

bool publisher_send(struct publisher *publisher, unsigned batch)
{
    static _Thread_local struct subject_event events[BATCH];
    struct producer *producer = &world->producers[publisher->producer];
    uint64_t number = publisher->number, seq;
    brake();
    for (unsigned i = 0; i < batch; i++)
        synthetic_make(publisher->producer, number + 1 + i, &events[i]);
    /* What had returned before this publish began must come before it. */
    uint64_t before = atomic_load_explicit(&world->latest_seq, memory_order_acquire);
    atomic_store_explicit(&producer->begun, number + batch, memory_order_seq_cst);
    int result = publish_surely(events, batch, &seq);
    if (result < 0) {
        verdict_violated(CLEAN_FAILURE, "publish: %s", strerror(-result));
        return false;
    }
    agreement_returned(publisher->producer, number + 1, batch, now_ns());
    publisher->number = number + batch;
    atomic_store_explicit(&producer->done, publisher->number, memory_order_release);
    if (seq != 0 && seq <= before)
        verdict_violated(STRICT_FIFO, "seq %" PRIu64 " given after %" PRIu64 " had returned", seq,
                         before);
    if (seq != 0)
        has_returned(seq + batch - 1);
    count(&world->issued, batch);
    verdict_checked(STRICT_FIFO, 1);
    verdict_checked(NEVER_BLOCKS, 1);
    return true;
}

void *producer_body(void *number)
{
    struct publisher publisher = {.producer = (unsigned)(uintptr_t)number};
    unsigned batch_max = world->subject->batch_max > BATCH ? BATCH : world->subject->batch_max;
    while (!flag(&world->stop_producers)) {
        unsigned batch = batch_max < 2 || random_below(&self->random, 4)
                             ? 1
                             : 1 + random_below(&self->random, batch_max);
        if (!publisher_send(&publisher, batch))
            break;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------ receive */

/* Real exits: the first of all counts them. */
static void count_exits(const struct subject_event *events, ssize_t got)
{
    uint64_t exits = 0;
    for (ssize_t i = 0; i < got; i++)
        if (!synthetic_is(&events[i]) && events[i].kind == SUBJECT_EVENT_PID)
            exits++;
    count(&world->seen, exits);
}

void *steady_body(void *number)
{
    static _Thread_local struct subject_event events[BATCH];
    unsigned me = (unsigned)(uintptr_t)number;
    struct subject_topic everything = {.kind = SUBJECT_TOPIC_ALL};
    struct stream stream;
    stream_prepare(&stream, &everything);
    void *subscription = subscribe_surely(&everything, 0);
    if (!subscription)
        return NULL;
    stream_begin(&stream);
    stream.counts = true;
    stream.first_of_all = me == 0;
    atomic_fetch_add(&world->residents, 1);
    for (;;) {
        bool last = flag(&world->drained);
        ssize_t got = call_receive(subscription, events, BATCH, last ? 0 : STEADY_WAIT_NS);
        if (got > 0) {
            stream_check(&stream, events, (size_t)got);
            if (me == 0)
                count_exits(events, got);
            atomic_store_explicit(&world->steady[me].taken, stream.received, memory_order_relaxed);
        } else if (got != -EAGAIN && got != -ETIMEDOUT && got != -ENOMEM) {
            verdict_violated(CLEAN_FAILURE, "receive: %s", strerror((int)-got));
            break;
        } else if (last) {
            break;
        }
    }
    uint64_t done[PRODUCERS_MAX];
    stream_snapshot(done);
    stream_end(&stream, done);
    call_unsubscribe(subscription);
    return NULL;
}
