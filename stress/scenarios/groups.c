/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Sets of children that are ended together: some wait for a signal, some are not told of SIGTERM,
 * some exit by themselves meanwhile, and one may be added by another thread just then. Once a set
 * is said to be empty, the exit of each member can be received. That it is empty must be said.
 */
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "../engine/children.h"
#include "scenarios.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define GROUPERS 2
#define MEMBERS 6
#define EXIT_CODE 7
#define GRACE_NS_MAX 5000000
#define EARLY_NS 200000
#define REST_NS 3000000
#define JOIN_NS 2000000

enum nature { WAITS, IS_DEAF, EXITS, NATURES };

struct member {
    enum nature nature;
    pid_t pid;
    int gate;
    void *subscription, *process;
    bool received;
};

enum { LATE_NONE, LATE_WANTED, LATE_DONE };

struct set {
    void *group;
    struct member members[MEMBERS];
    unsigned count;
    bool at_once;    /* killed without a grace */
    bool patient;    /* never killed: so all members notice SIGTERM */
    bool has_joiner; /* another thread, which adds `late` */
    struct member late;
    int late_result; /* of that; 1: there was no child to be had */
    _Atomic unsigned late_state;
};

static struct set sets[GROUPERS];
static _Atomic unsigned groupers; /* that have not ended */

/* Make a call that may fail for want of memory or descriptors until it does not. */
#define SURELY(result, call)                                                                       \
    for (struct plenty before_ = plenty_now();                                                     \
         (result = (call)) < 0 && is_scarcity(result, &before_); before_ = plenty_now())           \
    sched_yield()

/* Start a child, and make a handle for it. Returns false if there can be none now. */
static bool start_member(struct member *member, enum nature nature)
{
    *member = (struct member){.nature = nature, .gate = -1};
    const char *what = nature == EXITS ? "7" : "p";
    if (child_past(&member->pid, what, nature == IS_DEAF, nature == EXITS ? &member->gate : NULL) <
        0) {
        member->pid = 0;
        return false;
    }
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_PID, .pid = member->pid};
    member->subscription = subscribe_surely(&topic, 0);
    int result;
    SURELY(result, call_adopt(member->pid, &member->process));
    if (result < 0)
        verdict_violated(CLEAN_FAILURE, "a handle of a child: %s", strerror(-result));
    return result == 0;
}

/* Start a child, and take it in. Returns false if there can be none now. */
static bool add_member(struct set *set)
{
    struct member *member = &set->members[set->count];
    enum nature nature = (enum nature)random_below(&self->random, NATURES);
    bool whole = start_member(member, set->patient && nature == IS_DEAF ? WAITS : nature);
    set->count += member->pid != 0;
    if (!whole)
        return false;
    int result;
    SURELY(result, call_group_add(set->group, member->process));
    if (result < 0)
        verdict_violated(CLEAN_FAILURE, "a set takes no member: %s", strerror(-result));
    return result == 0;
}

/* Let some of those exit that do so by themselves. */
static void let_some_go(struct set *set, bool all)
{
    for (unsigned i = 0; i < set->count; i++) {
        struct member *member = &set->members[i];
        if (member->gate < 0 || (!all && random_below(&self->random, 2)))
            continue;
        child_let_go(member->gate);
        member->gate = -1;
    }
}

static bool is_likely(const struct set *set, const struct member *member, int status)
{
    switch (member->nature) {
    case IS_DEAF:
        return status == SIGKILL;
    case EXITS:
        return status == EXIT_CODE << 8 || status == SIGKILL ||
               (status == SIGTERM && !set->at_once);
    default: /* that it was killed before it had come so far is no fault of the set's */
        return status == SIGKILL || (status == SIGTERM && !set->at_once);
    }
}

/* The set is empty: so what can be received is there. */
static void check_member(const struct set *set, struct member *member)
{
    struct subject_event event;
    ssize_t got;
    int status = -1;
    while ((got = call_receive(member->subscription, &event, 1, 0)) == -ENOMEM)
        sched_yield();
    member->received = got == 1;
    if (got != 1)
        verdict_violated(WAITS_END,
                         "a set was said to be empty, and the exit of its member %d had not come",
                         member->pid);
    else if (event.pid != member->pid || !is_likely(set, member, event.status & ~0x80))
        verdict_violated(NO_LOSS, "member %d of a set ended as %d, with status %#x", member->pid,
                         event.pid, event.status);
    int result = call_process_wait(member->process, &status, 0);
    if (result != 0 || (got == 1 && status != event.status))
        verdict_violated(WAITS_END, "the handle of member %d of an empty set says: %s, status %#x",
                         member->pid, strerror(-result), status);
    verdict_checked(WAITS_END, 1);
}

/* End it, some members meanwhile by themselves, and wait until it is empty. */
static bool end_set(struct set *set)
{
    int64_t grace_ns = 1 + (int64_t)random_below(&self->random, GRACE_NS_MAX);
    if (set->at_once || set->patient)
        grace_ns = set->at_once ? 0 : -1;
    int result;
    SURELY(result, call_group_end(set->group, SIGTERM, grace_ns));
    if (result < 0)
        verdict_violated(CLEAN_FAILURE, "the end of a set: %s", strerror(-result));
    let_some_go(set, false);
    for (int again = 0; again < 2; again++) { /* the answer stays */
        result = call_group_wait(set->group, patience_ns());
        if (result < 0)
            verdict_violated(WAITS_END, "a set of %u that was ended is not said to be empty: %s",
                             set->count, strerror(-result));
        verdict_checked(WAITS_END, 1);
    }
    return result == 0;
}

/* A set that was not ended is not empty, whatever its members do. */
static void look_early(const struct set *set)
{
    int64_t timeout_ns = random_below(&self->random, 2) ? 0 : EARLY_NS;
    int result = call_group_wait(set->group, timeout_ns);
    if (result != (timeout_ns ? -ETIMEDOUT : -EAGAIN))
        verdict_violated(WAITS_END, "a set that was not ended says: %s", strerror(-result));
}

static void release_member(const struct member *member)
{
    if (!member->received) /* it was not taken in; or this is a violation: leave nothing behind */
        kill(member->pid, SIGKILL);
    if (member->process)
        call_process_release(member->process);
    if (member->subscription)
        call_unsubscribe(member->subscription);
}

/* Wait for the other thread, and see what has come of the member that it has added. */
static void judge_late(struct set *set, bool empty)
{
    while (atomic_load(&set->late_state) == LATE_WANTED)
        nap(100000, NULL);
    if (atomic_exchange(&set->late_state, LATE_NONE) == LATE_NONE || set->late_result == 1)
        return;
    if (set->late_result != 0 && set->late_result != -ESHUTDOWN)
        verdict_violated(CLEAN_FAILURE, "a set takes no member: %s", strerror(-set->late_result));
    if (empty && set->late_result == 0 && set->late.subscription)
        check_member(set, &set->late);
    release_member(&set->late);
}

static void live_and_end(struct set *set)
{
    bool whole = true;
    for (unsigned i = random_below(&self->random, MEMBERS + 1); whole && i > 0; i--)
        whole = add_member(set);
    if (random_below(&self->random, 4) == 0)
        look_early(set);
    let_some_go(set, false);
    if (set->has_joiner && random_below(&self->random, 2)) {
        atomic_store(&set->late_state, LATE_WANTED);
        nap(random_below(&self->random, JOIN_NS), NULL);
    }
    bool empty = end_set(set);
    judge_late(set, empty);
    for (unsigned i = 0; empty && i < set->count; i++)
        if (set->members[i].process && set->members[i].subscription)
            check_member(set, &set->members[i]);
    let_some_go(set, true);
    for (unsigned i = 0; i < set->count; i++)
        release_member(&set->members[i]);
}

static void one_set(struct set *set)
{
    int result;
    SURELY(result, call_group_create(&set->group));
    if (result < 0) {
        verdict_violated(CLEAN_FAILURE, "a set: %s", strerror(-result));
        return;
    }
    set->count = 0;
    unsigned how = random_below(&self->random, 4);
    set->at_once = how == 0;
    set->patient = how == 1;
    live_and_end(set);
    call_group_release(set->group);
}

static void *grouper_body(void *number)
{
    atomic_store(&self->has_children, true);
    while (!flag(&world->stop_churn)) {
        one_set(&sets[(uintptr_t)number]);
        nap(random_below(&self->random, REST_NS), &world->stop_churn);
    }
    atomic_fetch_sub(&groupers, 1);
    return NULL;
}

/* Adds a member to a set that another thread ends. */
static void *joiner_body(void *number)
{
    struct set *set = &sets[(uintptr_t)number];
    atomic_store(&self->has_children, true);
    while (atomic_load(&groupers) > 0) {
        if (atomic_load(&set->late_state) != LATE_WANTED) {
            nap(50000, NULL);
            continue;
        }
        set->late_result = 1;
        if (start_member(&set->late, WAITS)) {
            nap(random_below(&self->random, JOIN_NS), NULL);
            SURELY(set->late_result, call_group_add(set->group, set->late.process));
        }
        atomic_store(&set->late_state, LATE_DONE);
    }
    return NULL;
}

static void groups_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    memset(sets, 0, sizeof sets);
    atomic_store(&groupers, GROUPERS);
    for (unsigned i = 0; i < GROUPERS; i++)
        sets[i].has_joiner = crew_add(visitors, "joiner", i, joiner_body);
    unsigned before = visitors->count;
    crew_start(visitors, "grouper", grouper_body, GROUPERS);
    atomic_fetch_sub(&groupers, GROUPERS - (visitors->count - before));
}

static const char *groups_unfit(void)
{
    return world->subject->group_create ? needs_topics_of_one_pid()
                                        : "the subject has no sets of processes";
}

const struct scenario groups_scenario = {
    "groups", "sets of children that are ended, some deaf to SIGTERM: empty means empty",
    groups_unfit, groups_start, NULL};
