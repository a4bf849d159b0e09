/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The scenarios: what a run can consist of, beside the producers and the subscribers to everything
 * that are always there. Each adds threads of its own and hunts one kind of fault.
 */
#ifndef STRESS_SCENARIOS_H
#define STRESS_SCENARIOS_H

#include "../engine/worker.h"
#include "../scenario.h"

#define CREW_MAX 192

/* Threads that end together. */
struct crew {
    struct worker *workers[CREW_MAX];
    unsigned count;
};

struct scenario {
    const char *name;
    const char *hunts;
    const char *(*unfit)(void); /* why it can't be run with this subject or here; NULL: it can */
    /* Residents stay until all is drained; visitors leave first, when world->stop_churn is set. */
    void (*start)(struct crew *residents, struct crew *visitors);
    /* What must be alone: before producers and all other scenarios. Returns soon. May be NULL. */
    void (*first)(void);
};

extern const struct scenario churn_scenario, backlog_scenario, fanout_scenario, swarm_scenario,
    helpers_scenario, exits_scenario, reuse_scenario, signals_scenario, fork_scenario, oom_scenario,
    fds_scenario, threads_scenario, stall_scenario, idle_scenario, echo_scenario, loops_scenario,
    affinity_scenario, priority_scenario, misuse_scenario, lifecycle_scenario, groups_scenario,
    handles_scenario;

#define SCENARIOS_MAX 32
extern const struct scenario *scenarios[SCENARIOS_MAX];
/* Of those that a plug-in has: what it has in the place of unfit and start. */
extern const struct scenario_plugin *scenario_plugins[SCENARIOS_MAX];
extern unsigned scenario_count;
/* NULL: there is none. */
const struct scenario *scenario_named(const char *name);
/* False: there are too many. */
bool scenario_add(const struct scenario_plugin *plugin);

/* Start `how_many` threads of a kind, numbered from 0 (their argument). */
void crew_start(struct crew *crew, const char *name, void *(*body)(void *), unsigned how_many);
/* Start one, of that number. False: there can be no more. */
bool crew_add(struct crew *crew, const char *name, unsigned number, void *(*body)(void *));
void crew_join(struct crew *crew);

/* Several subscriptions at a time are a must: NULL, or the reason. */
const char *needs_subscriptions(void);
/* So are topics of one pid. */
const char *needs_topics_of_one_pid(void);

/* ----------------------------------------------------------------- what scenarios are made of */

/* A thread's own series of events. */
struct publisher {
    unsigned producer;
    uint64_t number; /* of the latest */
};

/* Threads of the base load have numbers below PRODUCERS_COMMON; others claim one of their own. */
bool publisher_claim(struct publisher *publisher);

/* Publish the next `batch` events; checks the order that is told. False: give up. */
bool publisher_send(struct publisher *publisher, unsigned batch);

/* Subscribe; waits while allocations are made to fail. NULL: violated, or the end. */
void *subscribe_surely(const struct subject_topic *topic, uint32_t flags);

/* Taken before a call, to judge its result by. */
struct plenty {
    unsigned starved, without_fds;
};
struct plenty plenty_now(void);

/* Was memory (descriptors) scarce during the call, so that its error means no more than that? */
bool is_scarcity(long result, const struct plenty *before);

/* Subscribe to something, receive in some way for a while, unsubscribe. False: give up. */
bool churn_once(void);

#endif
