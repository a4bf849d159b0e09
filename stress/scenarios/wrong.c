/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Forked children, wrong calls, and what happens when memory or descriptors run out. */
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "../engine/children.h"
#include "../engine/host.h"
#include "scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define FORK_NAP_NS 10000000
#define SCARCE_NS_MAX 10000000
#define PLENTY_NS 40000000
/* A forked child in which a call does not return is ended by SIGALRM. */
#define CHILD_SECONDS 5

/* --------------------------------------------------------------------------------------- fork */

/* In the child: 0 if every call says what it should. */
static int forked_body(void *subscription)
{
    alarm(CHILD_SECONDS);
    return world->subject->forked && world->subject->forked(world->bus, subscription) != 1;
}

static void fork_once(void *idle)
{
    struct child child;
    struct plenty before = plenty_now();
    int result = child_fork(&child, forked_body, idle);
    if (result < 0) {
        if (!is_scarcity(result, &before))
            verdict_violated(FORK_SAFE, "fork: %s", strerror(-result));
        return;
    }
    struct subject_event event = {0};
    int64_t patience = (int64_t)(world->options.patience + CHILD_SECONDS) * 1000000000;
    ssize_t got;
    do
        got = call_receive(child.subscription, &event, 1, patience);
    while (got == -ENOMEM);
    if (got != 1)
        verdict_violated(NO_LOSS, "the exit of a forked child never came: %s", strerror((int)-got));
    else if (event.status != 0)
        verdict_violated(FORK_SAFE,
                         "a forked child was not told that the bus is not its own (status %#x)",
                         event.status);
    else
        count(&world->exits, 1);
    verdict_checked(FORK_SAFE, 1);
    call_unsubscribe(child.subscription);
}

static void *fork_body(void *number)
{
    (void)number;
    atomic_store(&self->has_children, true);
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_PID, .pid = SYNTHETIC_PID - 1};
    void *idle = subscribe_surely(&topic, 0);
    while (idle && !flag(&world->stop_churn)) {
        fork_once(idle);
        nap(FORK_NAP_NS, &world->stop_churn);
    }
    if (idle)
        call_unsubscribe(idle);
    return NULL;
}

static void fork_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "fork", fork_body, 1);
}

const struct scenario fork_scenario = {
    "fork", "forks in the middle of everything: the child uses the bus, or exits",
    needs_topics_of_one_pid, fork_start, NULL};

/* ---------------------------------------------------------------------------------------- oom */

static void *oom_body(void *number)
{
    (void)number;
    while (!flag(&world->stop_churn)) {
        nap(PLENTY_NS, &world->stop_churn);
        atomic_fetch_add(&world->starved, 1);
        host_starve(1u << random_below(&self->random, 4));
        nap(random_below(&self->random, SCARCE_NS_MAX), &world->stop_churn);
        host_starve(0);
        nap(PLENTY_NS / 4, NULL); /* calls that have begun meanwhile may still fail */
        atomic_fetch_add(&world->starved, 1);
    }
    return NULL;
}

static const char *oom_unfit(void)
{
    return host_used() ? NULL : "the subject does not take its memory from the engine";
}

static void oom_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "oom", oom_body, 1);
}

const struct scenario oom_scenario = {
    "oom", "allocations that fail at random: a clean error, and no event half delivered", oom_unfit,
    oom_start, NULL};

/* ---------------------------------------------------------------------------------------- fds */

static void *fds_body(void *number)
{
    (void)number;
    struct rlimit plenty;
    getrlimit(RLIMIT_NOFILE, &plenty);
    while (!flag(&world->stop_churn)) {
        nap(PLENTY_NS, &world->stop_churn);
        int lowest = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
        if (lowest < 0)
            continue;
        close(lowest);
        struct rlimit scarce = {.rlim_cur = (rlim_t)lowest, .rlim_max = plenty.rlim_max};
        atomic_fetch_add(&world->without_fds, 1);
        setrlimit(RLIMIT_NOFILE, &scarce);
        nap(random_below(&self->random, SCARCE_NS_MAX), &world->stop_churn);
        setrlimit(RLIMIT_NOFILE, &plenty);
        nap(PLENTY_NS / 4, NULL);
        atomic_fetch_add(&world->without_fds, 1);
    }
    return NULL;
}

static void fds_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "fds", fds_body, 1);
}

const struct scenario fds_scenario = {
    "fds", "no descriptor to be had (EMFILE): spawns and event loops fail cleanly", NULL, fds_start,
    NULL};

/* ------------------------------------------------------------------------------------- misuse */

static void *misuse_body(void *number)
{
    (void)number;
    const char *complaint;
    for (unsigned i = 0; !flag(&world->stop_churn); i++) {
        call_begin(OPERATION_MISUSE, NULL, 0);
        int result = world->subject->misuse(world->bus, i, &complaint);
        call_end(result, i);
        if (result == 0)
            verdict_violated(CLEAN_FAILURE, "a wrong call was not refused as it should: %s",
                             complaint);
        verdict_checked(CLEAN_FAILURE, 1);
        if (result == -ENOENT) {
            i = UINT32_MAX; /* from the beginning */
            nap(2000000, &world->stop_churn);
        }
    }
    return NULL;
}

static const char *misuse_unfit(void)
{
    return world->subject->misuse ? NULL : "the subject has no list of wrong calls";
}

static void misuse_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "misuse", misuse_body, 1);
}

const struct scenario misuse_scenario = {
    "misuse", "wrong arguments in the middle of everything: a specific error and no effect",
    misuse_unfit, misuse_start, NULL};
