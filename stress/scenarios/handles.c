/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Signals through handles whose processes exit and are reaped meanwhile. Handles are kept beyond
 * the end of their processes, and signalled on and on, while pids come back: in a pid namespace of
 * its own (sandbox.c) as fast as can be, elsewhere as they do by themselves. A child that has an
 * old pid and no signalled handle is a stranger: if it dies of a signal, it says so by its status.
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

#define OWNERS 2
#define SENDERS 2
#define KEPT 96 /* handles of each owner, most of them of processes that are gone */
#define NAP_NS 200000
#define SENDS_PER_NAP 8
#define SEND_NAP_NS 20000

/* Only their owner changes them. */
static struct kept {
    _Atomic(void *) process;
    _Atomic pid_t pid;
} kept[OWNERS][KEPT];
/* What a sender is about to use, or uses. */
static _Atomic(void *) in_use[SENDERS];
static _Atomic unsigned owners; /* that have not ended */

static const int deadly[] = {SIGTERM, SIGUSR1, SIGUSR2, SIGALRM};
#define DEADLY (sizeof deadly / sizeof deadly[0])

static bool is_deadly(int status)
{
    for (size_t i = 0; i < DEADLY; i++)
        if (status == deadly[i])
            return true;
    return false;
}

static int some_signal(void)
{
    return deadly[random_below(&self->random, DEADLY)];
}

/* Returns what the call does. */
static int send(void *process)
{
    struct plenty before = plenty_now();
    int result = call_signal(process, some_signal());
    if (result < 0 && result != -ESRCH && !is_scarcity(result, &before))
        verdict_violated(CLEAN_FAILURE, "a signal through a handle: %s", strerror(-result));
    return result;
}

/* ------------------------------------------------------------------------------------ senders */

static void *sender_body(void *number)
{
    _Atomic(void *) *mine = &in_use[(uintptr_t)number];
    for (unsigned i = 1; atomic_load(&owners) > 0; i++) {
        struct kept *some =
            &kept[random_below(&self->random, OWNERS)][random_below(&self->random, KEPT)];
        void *process = atomic_load(&some->process);
        atomic_store(mine, process);
        /* Its owner waits for this thread if it sees that. */
        if (process && atomic_load(&some->process) == process)
            send(process);
        atomic_store(mine, NULL);
        if (i % SENDS_PER_NAP == 0)
            nap(SEND_NAP_NS, NULL);
    }
    return NULL;
}

/* Put a handle in the place of another, which is released once nobody uses it. */
static void keep(struct kept *place, void *process, pid_t pid)
{
    void *old = atomic_exchange(&place->process, process);
    atomic_store(&place->pid, pid);
    if (!old)
        return;
    for (unsigned i = 0; i < SENDERS; i++)
        while (atomic_load(&in_use[i]) == old)
            sched_yield();
    call_process_release(old);
}

/* ------------------------------------------------------------------------------------- owners */

/*
 * The next child is to have that pid. Only where that concerns nobody else, not even other
 * scenarios: children that are spawned beside would meet pids that come back at once.
 */
static void wish_for(pid_t pid)
{
    bool alone = world->options.inside && !strchr(world->options.scenarios, ',');
    if (alone && pid > 1)
        child_wish_pid(pid);
}

/* Does a handle go on being signalled that had this pid? */
static void count_return(pid_t pid)
{
    for (unsigned i = 0; i < OWNERS; i++)
        for (unsigned j = 0; j < KEPT; j++)
            if (atomic_load(&kept[i][j].pid) == pid) {
                count(&world->pids_back, 1);
                return;
            }
}

/* A child at a gate, and a handle of it. Returns false if there can be none now. */
static bool begin(pid_t *pid, int *gate, void **process, int code)
{
    char what[8];
    snprintf(what, sizeof what, "%d", code);
    if (child_past(pid, what, false, gate) < 0)
        return false;
    for (;;) {
        struct plenty before = plenty_now();
        int result = call_adopt(*pid, process);
        if (result == 0)
            return true;
        if (!is_scarcity(result, &before)) {
            if (result == -ECHILD)
                verdict_violated(SIGNALS_HIT, "child %d is gone, though its gate is closed", *pid);
            else
                verdict_violated(CLEAN_FAILURE, "a handle of a child: %s", strerror(-result));
            child_let_go(*gate);
            return false;
        }
        sched_yield();
    }
}

/* Returns its status, or a negative errno value. */
static int await_end(void *process, pid_t pid)
{
    int status = -1;
    int result = call_process_wait(process, &status, patience_ns());
    if (result < 0)
        verdict_violated(WAITS_END, "a wait for child %d says: %s", pid, strerror(-result));
    verdict_checked(WAITS_END, 1);
    return result < 0 ? result : status;
}

/* Nobody has signalled it: it ends as it was told to. */
static void be_a_stranger(void *process, pid_t pid, int gate, int code)
{
    nap(random_below(&self->random, NAP_NS), NULL);
    child_let_go(gate);
    int status = await_end(process, pid);
    if (status >= 0 && status != code << 8)
        verdict_violated(SIGNALS_HIT,
                         "child %d, which nobody has signalled, ended with status %#x, not %#x",
                         pid, status, code << 8);
    int result = send(process);
    if (result == 0)
        verdict_violated(SIGNALS_HIT, "a signal to child %d, which is gone, was sent", pid);
    verdict_checked(SIGNALS_HIT, 1);
}

/* It is signalled: it dies of that, or by itself if it is let go meanwhile. */
static void be_hunted(void *process, pid_t pid, int gate, int code)
{
    bool flees = random_below(&self->random, 2);
    int sent = -ESRCH;
    if (flees) {
        nap(random_below(&self->random, NAP_NS), NULL);
        child_let_go(gate);
    } else {
        sent = send(process);
    }
    int status = sent == 0 || flees ? await_end(process, pid) : -ESRCH;
    if (!flees) {
        child_let_go(gate);
        status = status < 0 ? await_end(process, pid) : status;
    }
    if (status >= 0 && !is_deadly(status) && (sent == 0 || status != code << 8))
        verdict_violated(SIGNALS_HIT, "child %d, which was signalled, ended with status %#x", pid,
                         status);
    verdict_checked(SIGNALS_HIT, 1);
}

static void one_child(struct kept *own)
{
    struct kept *place = &own[random_below(&self->random, KEPT)];
    int gate, code = (int)random_below(&self->random, 256);
    pid_t pid;
    void *process;
    wish_for(atomic_load(&own[random_below(&self->random, KEPT)].pid));
    if (!begin(&pid, &gate, &process, code))
        return;
    count_return(pid);
    if (random_below(&self->random, 2)) {
        be_a_stranger(process, pid, gate, code);
        keep(place, process, pid);
    } else {
        keep(place, process, pid);
        be_hunted(process, pid, gate, code);
    }
}

static void *owner_body(void *number)
{
    struct kept *own = kept[(uintptr_t)number];
    atomic_store(&self->has_children, true);
    while (!flag(&world->stop_churn))
        one_child(own);
    for (unsigned i = 0; i < KEPT; i++)
        keep(&own[i], NULL, 0);
    atomic_fetch_sub(&owners, 1);
    return NULL;
}

static void handles_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    memset(kept, 0, sizeof kept);
    atomic_store(&owners, OWNERS);
    unsigned before = visitors->count;
    crew_start(visitors, "owner", owner_body, OWNERS);
    atomic_fetch_sub(&owners, OWNERS - (visitors->count - before));
    crew_start(visitors, "sender", sender_body, SENDERS);
}

static const char *handles_unfit(void)
{
    return world->subject->process_adopt ? NULL : "the subject has no handles of processes";
}

const struct scenario handles_scenario = {
    "signals-to-handles", "signals to processes that are reaped, while their pids come back",
    handles_unfit, handles_start, NULL};
