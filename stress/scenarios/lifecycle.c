/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Containers, one after the other: a leader that dies while execs are reserved, started and
 * cancelled by other threads. A subscription to the container must see each start before its exit,
 * and the leader's exit behind all others. A wait for an exec that does not come must say so.
 */
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "../engine/children.h"
#include "scenarios.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define LIVES 2 /* at a time */
#define STARTERS 3
#define EXECS_EACH 2 /* of a starter, in each life */
#define NAMES (1 + STARTERS * EXECS_EACH)
#define LEADER 0
#define LEADER_NAP_NS 1500000
#define CHILD_NAP_NS 500000
#define LATE_NAP_NS 300000
#define RECEIVE_NS 2000000
/* What a subject does not promise is not waited for as long. */
#define UNCLAIMED_NS 200000000

/* A name in one life: what its starter knows, and what the events have told. */
struct name {
    pid_t pid;
    int status;
    bool bound;
    pid_t seen_pid;
    int seen_status;
    bool started, exited;
};

/* A wait of another thread's for an exec, which must stay valid meanwhile. */
enum { OFFER_NONE, OFFER_MADE, OFFER_TAKEN };

struct life {
    uint8_t container;
    void *subscription;
    void *task;
    unsigned starters;           /* that there are: threads */
    _Atomic unsigned generation; /* of the life that starters are to take part in */
    _Atomic unsigned through;    /* starters that are through with it */
    _Atomic bool let_go;         /* the leader may be dead */
    _Atomic bool death_told;
    _Atomic bool over; /* there will be no other life */
    struct name names[NAMES];
    uint64_t latest_ns; /* of its events */
    _Atomic unsigned offer;
    _Atomic(void *) offered;
};

static struct life lives[LIVES];

static int64_t wait_ns(void)
{
    return verdict_claimed(WAITS_END) ? patience_ns() : UNCLAIMED_NS;
}

static struct life *life_of(void *number, unsigned each)
{
    return &lives[(uintptr_t)number / each];
}

/* ------------------------------------------------------------------------------- what is told */

static void note_start(struct life *life, unsigned i, const struct subject_event *event)
{
    struct name *name = &life->names[i];
    if (name->started)
        verdict_violated(NO_LOSS, "exec %u of a task has started twice", i);
    if (name->exited)
        verdict_violated(START_FIRST, "the exit of exec %u came before its start", i);
    if (life->names[LEADER].exited && i != LEADER)
        verdict_violated(LEADER_LAST, "exec %u has started behind the exit of its leader", i);
    name->started = true;
    name->seen_pid = event->pid;
}

static void note_exit(struct life *life, unsigned i, const struct subject_event *event)
{
    struct name *name = &life->names[i];
    if (name->exited)
        verdict_violated(NO_LOSS, "exec %u of a task has exited twice", i);
    if (life->names[LEADER].exited && i != LEADER)
        verdict_violated(LEADER_LAST, "the exit of exec %u came behind that of its leader", i);
    if (i == LEADER && !flag(&life->death_told))
        verdict_violated(LEADER_LAST, "a leader's exit came before its death was told");
    name->exited = true;
    name->seen_status = event->status;
}

static void note_event(struct life *life, const struct subject_event *event)
{
    life->latest_ns = now_ns();
    if (event->container != life->container || event->exec >= NAMES) {
        verdict_violated(NO_LOSS, "an event of container %u, exec %u, on the topic of %u",
                         event->container, event->exec, life->container);
        return;
    }
    switch (event->kind) {
    case SUBJECT_EVENT_STARTED:
        note_start(life, event->exec, event);
        break;
    case SUBJECT_EVENT_EXEC:
        note_exit(life, event->exec, event);
        break;
    case SUBJECT_EVENT_LEADER_DIED:
        if (atomic_exchange(&life->death_told, true))
            verdict_violated(NO_LOSS, "the death of a leader was told twice");
        break;
    default:
        verdict_violated(NO_LOSS, "an event of kind %u on the topic of a container", event->kind);
    }
}

static bool is_through(const struct life *life)
{
    return atomic_load(&life->through) == life->starters;
}

static bool is_complete(const struct life *life)
{
    if (!is_through(life))
        return false;
    for (unsigned i = 0; i < NAMES; i++)
        if (life->names[i].bound && !(life->names[i].started && life->names[i].exited))
            return false;
    return true;
}

/* Receive what there is. Returns how many events, or a negative errno value. */
static ssize_t receive_some(struct life *life, int64_t timeout_ns)
{
    struct subject_event events[BATCH];
    ssize_t got = call_receive(life->subscription, events, BATCH, timeout_ns);
    for (ssize_t i = 0; i < got; i++)
        note_event(life, &events[i]);
    if (got < 0 && got != -EAGAIN && got != -ETIMEDOUT && got != -ENOMEM)
        verdict_violated(CLEAN_FAILURE, "receive: %s", strerror((int)-got));
    return got;
}

/* Receive all that must come of this life; not for ever. */
static void follow(struct life *life)
{
    life->latest_ns = now_ns();
    while (!is_complete(life)) {
        receive_some(life, RECEIVE_NS);
        if (!is_through(life)) /* which ends by itself: each wait of a starter does */
            life->latest_ns = now_ns();
        else if (now_ns() > life->latest_ns + (uint64_t)wait_ns())
            return;
    }
}

static void judge_name(const struct life *life, unsigned i)
{
    const struct name *name = &life->names[i];
    if (!name->bound) {
        if (name->started || name->exited)
            verdict_violated(NO_LOSS, "an event of exec %u, which was not started", i);
        return;
    }
    if (!name->started)
        verdict_violated(START_FIRST, "the start of exec %u never came", i);
    else if (name->seen_pid != name->pid)
        verdict_violated(NO_LOSS, "exec %u has started as %d, and not as %d", i, name->pid,
                         name->seen_pid);
    if (!name->exited)
        verdict_violated(WAITS_END, "the exit of exec %u never came", i);
    else if (name->seen_status != name->status)
        verdict_violated(NO_LOSS, "exec %u ended with status %#x, not %#x", i, name->seen_status,
                         name->status);
    verdict_checked(START_FIRST, 1);
}

static void judge(struct life *life)
{
    bool complete = is_complete(life);
    for (unsigned i = 0; i < NAMES; i++)
        judge_name(life, i);
    verdict_checked(LEADER_LAST, life->names[LEADER].bound);
    ssize_t more;
    while ((more = receive_some(life, 0)) > 0 || more == -ENOMEM)
        if (complete && more > 0)
            verdict_violated(LEADER_LAST, "%zd events came behind the end of a container", more);
}

/* ---------------------------------------------------------------------------------- the calls */

/* Say that it has started, until that can be said. Returns 0 or a negative errno value. */
static int started_surely(void *exec, pid_t pid)
{
    uint64_t end = now_ns() + (uint64_t)patience_ns();
    for (;;) {
        struct plenty before = plenty_now();
        int result = call_exec_started(exec, pid);
        if (!is_scarcity(result, &before) && (result != -EAGAIN || now_ns() > end))
            return result;
        sched_yield();
    }
}

/* Wait for the exit of what was started. */
static void expect_exit(void *exec, unsigned i, int status)
{
    int told = -1, result = call_exec_wait(exec, &told, wait_ns());
    if (result != 0)
        verdict_violated(WAITS_END, "a wait for the exit of exec %u says: %s", i,
                         strerror(-result));
    else if (told != status)
        verdict_violated(NO_LOSS, "a wait for exec %u says status %#x, not %#x", i, told, status);
    verdict_checked(WAITS_END, 1);
}

/* The start has failed: waits for it must say so. */
static void cancel(void *exec, unsigned i)
{
    int status, result = call_exec_cancel(exec);
    if (result != 0)
        verdict_violated(CLEAN_FAILURE, "cancel: %s", strerror(-result));
    result = call_exec_wait(exec, &status, wait_ns());
    if (result != -ECANCELED)
        verdict_violated(WAITS_END, "a wait for exec %u, which was cancelled, says: %s", i,
                         strerror(-result));
    verdict_checked(WAITS_END, 1);
}

static void release(void *exec)
{
    int result = call_exec_release(exec);
    if (result != 0)
        verdict_violated(CLEAN_FAILURE, "release of an exec: %s", strerror(-result));
}

/* ---------------------------------------------------------------------------------- a starter */

/* Start a child and bind it: before its exit, or at some time behind it. */
static void bind(struct life *life, void *exec, unsigned i)
{
    struct name *name = &life->names[i];
    bool gated = random_below(&self->random, 2);
    int gate = -1, code = (int)random_below(&self->random, 256);
    char what[8];
    snprintf(what, sizeof what, "%d", code);
    if (child_past(&name->pid, what, false, gated ? &gate : NULL) < 0) {
        cancel(exec, i);
        return;
    }
    name->status = code << 8;
    if (random_below(&self->random, 4) == 0)
        nap(random_below(&self->random, LATE_NAP_NS), NULL);
    int result = started_surely(exec, name->pid);
    name->bound = result == 0;
    if (result != 0)
        verdict_violated(START_FIRST, "of exec %u can't be said that it has started: %s", i,
                         strerror(-result));
    if (gated) {
        nap(random_below(&self->random, CHILD_NAP_NS), NULL);
        child_let_go(gate);
    }
    if (name->bound)
        expect_exit(exec, i, name->status);
    else
        call_exec_cancel(exec);
}

/* Let another thread wait for it, too. Returns whether that has taken notice. */
static bool offer(struct life *life, void *exec)
{
    unsigned none = OFFER_NONE;
    if (random_below(&self->random, 2) ||
        !atomic_compare_exchange_strong(&life->offer, &none, OFFER_TAKEN))
        return false;
    atomic_store(&life->offered, exec);
    atomic_store(&life->offer, OFFER_MADE);
    return true;
}

/* Until nobody uses it any more. */
static void take_back(struct life *life, void *exec)
{
    unsigned made = OFFER_MADE;
    if (atomic_load(&life->offered) == exec &&
        atomic_compare_exchange_strong(&life->offer, &made, OFFER_TAKEN)) {
        atomic_store(&life->offered, NULL);
        atomic_store(&life->offer, OFFER_NONE);
    }
    while (atomic_load(&life->offered) == exec)
        nap(100000, NULL);
}

static int reserve_surely(void *task, unsigned i, void **exec)
{
    for (;;) {
        struct plenty before = plenty_now();
        int result = call_exec_reserve(task, (uint8_t)i, exec);
        if (!is_scarcity(result, &before))
            return result;
        sched_yield();
    }
}

static void one_exec(struct life *life, unsigned i)
{
    void *exec;
    bool told = flag(&life->death_told);
    int result = reserve_surely(life->task, i, &exec);
    if (result == -EOWNERDEAD) {
        if (!flag(&life->let_go))
            verdict_violated(CLEAN_FAILURE, "an exec is refused though its leader lives");
        verdict_checked(LEADER_LAST, 1);
        return;
    }
    if (result != 0) {
        verdict_violated(CLEAN_FAILURE, "reserve: %s", strerror(-result));
        return;
    }
    if (told)
        verdict_violated(LEADER_LAST, "an exec was reserved when the leader's death was told");
    bool offered = offer(life, exec);
    unsigned draw = random_below(&self->random, 8);
    if (draw < 2)
        cancel(exec, i);
    else if (draw > 2 || offered) /* else it is cancelled by its release */
        bind(life, exec, i);
    if (offered)
        take_back(life, exec);
    release(exec);
}

static void *starter_body(void *number)
{
    struct life *life = life_of(number, STARTERS);
    unsigned first = 1 + (unsigned)(uintptr_t)number % STARTERS * EXECS_EACH, joined = 0;
    atomic_store(&self->has_children, true);
    while (!flag(&life->over)) {
        if (atomic_load(&life->generation) == joined) {
            nap(50000, &life->over);
            continue;
        }
        joined++;
        for (unsigned i = 0; i < EXECS_EACH; i++)
            one_exec(life, first + i);
        atomic_fetch_add(&life->through, 1);
    }
    return NULL;
}

/* Waits for the execs of others, which come, or are cancelled. */
static void *waiter_body(void *number)
{
    struct life *life = life_of(number, 1);
    while (!flag(&life->over)) {
        unsigned made = OFFER_MADE;
        if (!atomic_compare_exchange_strong(&life->offer, &made, OFFER_TAKEN)) {
            nap(50000, &life->over);
            continue;
        }
        int status, result = call_exec_wait(atomic_load(&life->offered), &status, 3 * wait_ns());
        if (result != 0 && result != -ECANCELED)
            verdict_violated(WAITS_END, "a wait for an exec on another thread says: %s",
                             strerror(-result));
        verdict_checked(WAITS_END, 1);
        atomic_store(&life->offered, NULL);
        atomic_store(&life->offer, OFFER_NONE);
    }
    return NULL;
}

/* --------------------------------------------------------------------------------- a container */

/* Start the leader. Returns false if there can be none now: it is cancelled. */
static bool start_leader(struct life *life, void *leader, int *gate)
{
    struct name *name = &life->names[LEADER];
    char what[8];
    int code = (int)random_below(&self->random, 256);
    snprintf(what, sizeof what, "%d", code);
    if (child_past(&name->pid, what, false, gate) < 0) {
        cancel(leader, LEADER);
        return false;
    }
    name->status = code << 8;
    int result = started_surely(leader, name->pid);
    name->bound = result == 0;
    if (result != 0) {
        verdict_violated(START_FIRST, "of a leader can't be said that it has started: %s",
                         strerror(-result));
        child_let_go(*gate);
        call_exec_cancel(leader);
    }
    return name->bound;
}

static void live(struct life *life)
{
    void *leader;
    int gate;
    int result = reserve_surely(life->task, LEADER, &leader);
    if (result != 0) {
        verdict_violated(CLEAN_FAILURE, "reserve of a leader: %s", strerror(-result));
        return;
    }
    if (start_leader(life, leader, &gate)) {
        atomic_fetch_add(&life->generation, 1);
        nap(random_below(&self->random, LEADER_NAP_NS), NULL);
        atomic_store(&life->let_go, true);
        child_let_go(gate);
        follow(life);
        if (life->names[LEADER].exited) /* else judge() says so */
            expect_exit(leader, LEADER, life->names[LEADER].status);
        void *late;
        if (reserve_surely(life->task, NAMES, &late) == 0) {
            verdict_violated(LEADER_LAST, "an exec was reserved behind the leader's exit");
            release(late);
        }
    }
    release(leader);
}

static void live_once(struct life *life)
{
    memset(life->names, 0, sizeof life->names);
    atomic_store(&life->through, 0);
    atomic_store(&life->let_go, false);
    atomic_store(&life->death_told, false);
    struct plenty before = plenty_now();
    int result = call_task_create(life->container, &life->task);
    if (result < 0) {
        if (!is_scarcity(result, &before))
            verdict_violated(CLEAN_FAILURE, "a task: %s", strerror(-result));
        nap(1000000, &world->stop_churn);
        return;
    }
    live(life);
    result = call_task_release(life->task);
    if (result != 0)
        verdict_violated(CLEAN_FAILURE, "release of a task: %s", strerror(-result));
    judge(life);
}

static void *life_body(void *number)
{
    struct life *life = life_of(number, 1);
    atomic_store(&self->has_children, true);
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_CONTAINER, .container = life->container};
    life->subscription = subscribe_surely(&topic, 0);
    while (life->subscription && !flag(&world->stop_churn))
        live_once(life);
    atomic_store(&life->over, true);
    if (life->subscription)
        call_unsubscribe(life->subscription);
    return NULL;
}

static void lifecycle_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    memset(lives, 0, sizeof lives);
    for (unsigned i = 0; i < LIVES; i++)
        lives[i].container = (uint8_t)(SUBJECT_TASK + i);
    for (unsigned i = 0; i < LIVES * STARTERS; i++)
        lives[i / STARTERS].starters += crew_add(visitors, "starter", i, starter_body);
    crew_start(visitors, "waiter", waiter_body, LIVES);
    for (unsigned i = 0; i < LIVES; i++)
        if (!crew_add(visitors, "life", i, life_body))
            atomic_store(&lives[i].over, true);
}

static const char *lifecycle_unfit(void)
{
    if (!world->subject->task_create)
        return "the subject has no tasks";
    if (!knows_topic(SUBJECT_TOPIC_CONTAINER))
        return "the subject has no topics of one container";
    return needs_subscriptions();
}

const struct scenario lifecycle_scenario = {
    "lifecycle", "containers whose leader dies while execs are reserved, started, cancelled",
    lifecycle_unfit, lifecycle_start, NULL};
