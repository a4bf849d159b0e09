/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A scenario of your own for exitbus-stress: a shared object that defines
 *
 *     const struct scenario_plugin exitbus_stress_scenario = {SCENARIO_HEAD("mine", "what it
 * hunts"), .start = start};
 *
 * and is loaded with `exitbus-stress --plugin ./mine.so`. It runs beside the others, on whatever
 * subject there is. docs/subjects.md has an example.
 *
 * All functions of the engine are legal on threads that start_thread() has started, but for those
 * that say otherwise. A call of the subject's that does not return in time is a hang, as
 * everywhere.
 */
#ifndef EXITBUS_STRESS_SCENARIO_H
#define EXITBUS_STRESS_SCENARIO_H

#include "subject.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SCENARIO_ABI 1u
#define SCENARIO_SYMBOL "exitbus_stress_scenario"

struct scenario_engine {
    const struct subject *subject; /* for its features; its functions are called by those below */

    /* In start() only. Returns 0, or -EAGAIN: there can be no more. */
    int (*start_thread)(const char *name, void (*body)(void *argument), void *argument);
    /*
     * In start() only. A series of events of your own: returns its number, and the topic that has
     * them and nothing else; or -EAGAIN: all are taken.
     */
    int (*producer)(struct subject_topic *topic);

    /*
     * The time is over: threads return, and leave no subscription behind. One that has not returned
     * after twice --patience is a hang of its scenario.
     */
    bool (*over)(void);
    /* Sleep, but not much beyond the end of the time. */
    void (*nap)(uint64_t ns);
    /* Below `limit`; follows from --seed, the thread's name and how many were started. */
    unsigned (*random_below)(unsigned limit);

    /*
     * Publish the next `count` events of a series (up to 64, and to the subject's batch_max); their
     * `number` rises by one. Waits while slow subscribers are far behind. One thread at a time for
     * each series. False: it was violated, or the end; return.
     */
    bool (*send)(int producer, unsigned count);
    /* As the subject's. subscribe() waits while memory is made to lack; NULL: as with send(). */
    void *(*subscribe)(const struct subject_topic *topic, uint32_t flags);
    int (*unsubscribe)(void *subscription);
    /* Up to 64 events. A subject that does not wait is tried until the time is over. */
    ssize_t (*receive)(void *subscription, struct subject_event *events, size_t capacity,
                       int64_t timeout_ns);

    /* `claim` is one SUBJECT_… bit. Count checks that were made, whatever they have found. */
    void (*checked)(uint32_t claim, uint64_t checks);
    /* What was found to be wrong: ends the run if the subject claims it. */
    void (*violated)(uint32_t claim, const char *format, ...) __attribute__((format(printf, 2, 3)));
};

struct scenario_plugin {
    uint32_t abi; /* SCENARIO_ABI */
    const char *name;
    const char *hunts; /* one line */
    /* Why it can't be run with this subject or here; NULL: it can. May be left out. */
    const char *(*unfit)(const struct scenario_engine *engine);
    /* Start threads. `engine` stays valid. */
    void (*start)(const struct scenario_engine *engine);
};

#define SCENARIO_HEAD(scenario_name, scenario_hunts)                                               \
    .abi = SCENARIO_ABI, .name = (scenario_name), .hunts = (scenario_hunts)

/* Declared here, so a definition need only be `const struct scenario_plugin …`. */
extern SUBJECT_EXPORT const struct scenario_plugin exitbus_stress_scenario;

#ifdef __cplusplus
}
#endif

#endif
