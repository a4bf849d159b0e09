/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Small scenes of containers, with real children: the two loops by which shims were found to tell
 * the exit of a container before that of an exec in it (containerd issue 9719), and to lose exits
 * of execs that run at the same time (containerd pull request 9999).
 */
#include "calls.h"
#include "children.h"
#include "ends.h"
#include "small_scene.h"
#include "worker.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define NAP_NS 400000
#define EXECS 3 /* of each thread, at the same time */
/* What a subject does not promise is not waited for as long. */
#define UNCLAIMED_NS 20000000

static struct {
    void *task, *leader, *execs[1 + THREADS * EXECS];
    int gate; /* of the leader */
    bool let_go;
    unsigned exits, expected; /* of execs */
    bool leader_exited;
} box;

static int surely(int result, const char *what)
{
    if (result < 0)
        verdict_violated(CLEAN_FAILURE, "%s: %s", what, strerror(-result));
    return result;
}

/* Start a child and bind it. Context: a scene has memory, descriptors and processes enough. */
static void start(void *exec, int *gate)
{
    pid_t pid;
    must(child_past(&pid, "0", false, gate), "start a child");
    surely(call_exec_started(exec, pid), "exec_started");
}

/* A container whose leader waits to be let go, and one subscription to it. */
static void run_container(struct round_of *round_)
{
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_CONTAINER, .container = SUBJECT_TASK};
    memset(&box, 0, sizeof box);
    must(call_subscribe(&topic, 0, &round_->subscriptions[0]), "subscribe");
    if (world->subject->ref)
        subject_ref(round_->subscriptions[0]);
    must(call_task_create(SUBJECT_TASK, &box.task), "task_create");
    must(call_exec_reserve(box.task, 0, &box.leader), "exec_reserve");
    start(box.leader, &box.gate);
}

static void let_leader_go(struct round_of *round_)
{
    (void)round_;
    nap(random_below(&self->random, NAP_NS), NULL);
    child_let_go(box.gate);
    box.let_go = true;
}

static void note(char *found, char what)
{
    if (strlen(found) < sizeof((struct round_of *)0)->found[0] - 1)
        found[strlen(found)] = what;
}

/* The program of an exec exits at once. */
static void run_exec(struct round_of *round_)
{
    nap(random_below(&self->random, NAP_NS), NULL);
    int result = call_exec_reserve(box.task, 1, &box.execs[1]);
    if (result == -EOWNERDEAD) {
        note(round_->found[1], '!');
        return;
    }
    if (surely(result, "exec_reserve") < 0)
        return;
    start(box.execs[1], NULL);
    box.expected = 1;
}

static void run_execs(unsigned first)
{
    for (unsigned i = first; i < first + EXECS; i++)
        surely(call_exec_reserve(box.task, (uint8_t)i, &box.execs[i]), "exec_reserve");
    for (unsigned i = first; i < first + EXECS; i++)
        if (box.execs[i])
            start(box.execs[i], NULL);
}

static void run_some_execs(struct round_of *round_)
{
    (void)round_;
    run_execs(1);
}

static void run_other_execs(struct round_of *round_)
{
    (void)round_;
    run_execs(1 + EXECS);
}

/* s and e: the start and the exit of an exec; d: the leader has died; l: its exit is told. */
static void note_event(char *found, const struct subject_event *event)
{
    bool of_leader = event->exec == 0, exit = event->kind == SUBJECT_EVENT_EXEC;
    box.exits += exit && !of_leader;
    box.leader_exited |= exit && of_leader;
    if (event->kind == SUBJECT_EVENT_LEADER_DIED)
        note(found, 'd');
    else if (exit)
        note(found, of_leader ? 'l' : 'e');
    else if (!of_leader)
        note(found, 's');
}

/* Receive until there are so many exits of execs, and the leader's. Returns false if they do not
 * come. */
static bool follow(struct round_of *round_, char *found, bool with_leader)
{
    int64_t timeout_ns = verdict_claimed(WAITS_END) ? patience_ns() : UNCLAIMED_NS;
    while (box.exits < box.expected || (with_leader && !box.leader_exited)) {
        struct subject_event event;
        ssize_t got = call_receive(round_->subscriptions[0], &event, 1, timeout_ns);
        if (got == 1)
            note_event(found, &event);
        else if (got != -ENOMEM)
            return false;
    }
    return true;
}

static void end_container(void)
{
    if (!box.let_go)
        child_let_go(box.gate);
    for (unsigned i = 1; i <= THREADS * EXECS; i++)
        if (box.execs[i])
            surely(call_exec_release(box.execs[i]), "exec_release");
    surely(call_exec_release(box.leader), "exec_release");
    surely(call_task_release(box.task), "task_release");
}

static void tell_the_order(struct round_of *round_)
{
    char *found = round_->found[THREADS];
    if (!follow(round_, found, true))
        note(found, '?');
    end_container();
}

static void count_exits(struct round_of *round_)
{
    char all[8] = "";
    box.expected = 2 * EXECS;
    bool whole = follow(round_, all, false);
    note(round_->found[THREADS], (char)('0' + box.exits));
    box.let_go = true;
    child_let_go(box.gate);
    if (whole && !follow(round_, all, true))
        note(round_->found[THREADS], '?');
    end_container();
}

const struct small_scene task_scenes[TASK_SCENES] = {
    {"exec-and-leader",
     "a container's leader exits while a program is run in it: s start, e exit, d death of the "
     "leader, l its exit",
     " //sedl //sdel //dsel /!/dl ",
     "an exit comes before its start or behind the leader's, or is missing (?)",
     LEADER_LAST,
     false,
     true,
     run_container,
     {let_leader_go, run_exec},
     tell_the_order},
    {"execs-at-once",
     "two times three programs are run in a container at the same time: how many exits come",
     " //6 ",
     "an exit is missing: a client hangs",
     START_FIRST,
     false,
     true,
     run_container,
     {run_some_execs, run_other_execs},
     count_exits},
};
