/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Real children: codes, signals, crashes, stops, and orphans by the dozen. Every one's exit must
 * come once, on its own subscription, with the status it died with.
 */
#include "../checks/latency.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "../engine/children.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define SPAWNERS 2
#define BOMB_MAX 12
#define FOREIGN_NAP_NS 5000000
/* Exits that may be waiting to be collected before no more children are started. */
#define OUTSTANDING_MAX 200
/* Children that exit together, before there are any others. */
#define TOGETHER 64

enum fate { EXITS, IS_KILLED, CRASHES, IS_STOPPED, LEAVES_ORPHANS, FATES };

static enum fate choose_fate(void)
{
    unsigned draw = random_below(&self->random, 32);
    if (draw < 22)
        return EXITS;
    if (draw < 26)
        return IS_KILLED;
    if (draw < 28)
        return CRASHES;
    return draw < 30 ? IS_STOPPED : LEAVES_ORPHANS;
}

/* What the child is told to do, and the wait status to expect. */
static int plan(enum fate fate, unsigned *orphans, char *what, size_t size)
{
    static const int crashes[] = {SIGSEGV, SIGABRT, SIGILL, SIGFPE};
    int code = (int)random_below(&self->random, 256);
    int signal = crashes[random_below(&self->random, 4)];
    *orphans = 0;
    switch (fate) {
    case EXITS:
        snprintf(what, size, "%d", code);
        return code << 8;
    case CRASHES:
        snprintf(what, size, "k%d", signal);
        return signal;
    case LEAVES_ORPHANS:
        *orphans = 1 + random_below(&self->random, BOMB_MAX);
        snprintf(what, size, "b%u", *orphans);
        return 0;
    default:
        snprintf(what, size, "p");
        return random_below(&self->random, 2) ? SIGKILL : SIGTERM;
    }
}

static void check_status(pid_t pid, int expected, const struct subject_event *event)
{
    if (event->pid != pid)
        verdict_violated(NO_LOSS, "the exit of %d came on the subscription to %d", event->pid, pid);
    else if ((event->status & ~0x80) != expected)
        verdict_violated(NO_LOSS, "child %d ended with status %#x, not %#x", pid, event->status,
                         expected);
    verdict_checked(NO_LOSS, 1);
}

/* By waiting, or by descriptor. */
static ssize_t receive_exit(void *subscription, struct subject_event *event)
{
    int64_t patience = patience_ns();
    uint64_t end = now_ns() + (uint64_t)patience;
    struct plenty before = plenty_now();
    ssize_t got;
    if (!world->subject->fd || random_below(&self->random, 4))
        do
            got = call_receive(subscription, event, 1, patience);
        while (got == -ENOMEM && now_ns() < end);
    else
        do {
            int ready = call_poll(subscription, (int)world->options.patience * 1000);
            got = ready < 0 && ready != -EINTR && !is_scarcity(ready, &before)
                      ? ready
                      : call_receive(subscription, event, 1, 0);
        } while ((got == -EAGAIN || got == -ENOMEM) && now_ns() < end);
    return got;
}

static void one_child(void)
{
    enum fate fate = choose_fate();
    unsigned orphans;
    char what[16];
    int expected = plan(fate, &orphans, what, sizeof what);
    bool killed = fate == IS_KILLED || fate == IS_STOPPED;
    struct child child;
    struct plenty before = plenty_now();
    int result = child_start(&child, what, orphans);
    if (result < 0) {
        if (!is_scarcity(result, &before))
            verdict_violated(CLEAN_FAILURE, "starting a child: %s", strerror(-result));
        return;
    }
    if (fate == IS_STOPPED) { /* which is no exit */
        kill(child.pid, SIGSTOP);
        nap(random_below(&self->random, 500000), NULL);
        kill(child.pid, SIGCONT);
    }
    uint64_t killed_ns = now_ns();
    if (killed)
        kill(child.pid, expected);
    struct subject_event event;
    ssize_t got = receive_exit(child.subscription, &event);
    uint64_t received_ns = now_ns();
    if (got == 1) {
        check_status(child.pid, expected, &event);
        latency_add(LATENCY_COLLECTED, received_ns - event.collected_ns);
        if (killed)
            latency_add(LATENCY_KILLED, received_ns - killed_ns);
        count(&world->exits, 1);
        if (can(SUBJECT_ONE_SHOT) && call_receive(child.subscription, &event, 1, 0) != -ESHUTDOWN)
            verdict_violated(NO_LOSS, "a one-shot subscription to child %d has more than one event",
                             child.pid);
    } else {
        verdict_violated(NO_LOSS, "the exit of child %d never came: %s (%u zombies)", child.pid,
                         strerror((int)-got), count_zombies());
    }
    call_unsubscribe(child.subscription);
}

/* An exec that fails is an error of the call, and leaves nothing behind. */
static void no_child(void)
{
    char *argv[] = {"/nonexistent/program", NULL};
    void *subscription = NULL;
    pid_t pid = -1;
    struct plenty before = plenty_now();
    int result = call_spawn(argv, &pid, &subscription);
    if ((result != -ENOENT && !is_scarcity(result, &before)) || pid != -1 || subscription)
        verdict_violated(CLEAN_FAILURE, "spawning a program that is not there says %d", result);
    verdict_checked(CLEAN_FAILURE, 1);
}

static void *spawner_body(void *number)
{
    (void)number;
    atomic_store(&self->has_children, true);
    while (!flag(&world->stop_churn)) {
        if (world->subject->spawn && random_below(&self->random, 50) == 0)
            no_child();
        else
            one_child();
    }
    return NULL;
}

/* Children of other code: nobody subscribes to them, but they must be collected and told of. */
static void *foreign_body(void *number)
{
    atomic_store(&self->has_children, true);
    while (!flag(&world->stop_churn)) {
        if (atomic_load(&world->children) < atomic_load(&world->seen) + OUTSTANDING_MAX)
            child_foreign();
        nap(FOREIGN_NAP_NS, &world->stop_churn);
    }
    return number;
}

/*
 * Several children are one SIGCHLD if they exit at one time. Who collects too few of them then is
 * seen only if no other child exits behind them, so this comes first.
 */
static void exit_together(void)
{
    unsigned made = child_foreign_together(TOGETHER);
    await(atomic_load(&world->seen) >= atomic_load(&world->children));
    uint64_t seen = atomic_load(&world->seen), children = atomic_load(&world->children);
    if (seen < children)
        verdict_violated(NO_LOSS,
                         "of %u children that exited together, the exits of %" PRIu64
                         " never came (%u zombies)",
                         made, children - seen, count_zombies());
    verdict_checked(NO_LOSS, made);
}

static void start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "spawner", spawner_body, SPAWNERS);
    crew_start(visitors, "foreign", foreign_body, 1);
}

const struct scenario exits_scenario = {
    "exits", "real children that exit, crash, are killed, stop, or leave orphans by the dozen",
    needs_topics_of_one_pid, start, exit_together};
