/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Scenes in which one thread runs at a time: see schedule.h. */
#include "schedule.h"
#include "../checks/verdict.h"
#include "options.h"
#include "report.h"
#include "scene.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANGES_MAX 4
/* A thread that takes so many steps in a row may wait for another: then it gets the lowest, too. */
#define STEPS_IN_A_ROW 5000
#define FIRST_STEPS 400 /* how long a scene is thought to be, before there was one */

struct schedule {
    uint64_t seed;                /* of the calls that the threads make */
    uint8_t order[SCENE_THREADS]; /* by priority, the highest first */
    unsigned count;
    uint32_t changes[CHANGES_MAX]; /* steps at which the running thread gets the lowest priority */
};

static struct {
    struct schedule schedule;
    int priority[SCENE_THREADS];
    int lowest;
    bool ended[SCENE_THREADS];
    uint32_t steps, in_a_row;
    uint64_t ticks; /* the time of calls */
    uint64_t trace; /* of who made which step */
    bool over;
    struct linear_operation operations[LINEAR_OPERATIONS_MAX]; /* of the latest scene */
    size_t count;
    sem_t go[SCENE_THREADS + 1]; /* the last: all threads are at the end */
} play;

static _Thread_local int me = -1; /* the thread's number in the scene; -1: none */

/* ---------------------------------------------------------------------------------------- text */

/* SEED.ORDER.CHANGE,CHANGE… */
static void schedule_write(const struct schedule *schedule, char *text, size_t size)
{
    int used = snprintf(text, size, "%" PRIx64 ".", schedule->seed);
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        used += snprintf(text + used, size - (size_t)used, "%u", schedule->order[t]);
    for (unsigned i = 0; i < schedule->count; i++)
        used += snprintf(text + used, size - (size_t)used, "%c%" PRIu32, i == 0 ? '.' : ',',
                         schedule->changes[i]);
}

static bool schedule_read(const char *text, struct schedule *schedule)
{
    char *end;
    unsigned seen = 0;
    errno = 0;
    *schedule = (struct schedule){.seed = strtoull(text, &end, 16)};
    if (errno || end == text || *text == '-' || *end++ != '.')
        return false;
    for (unsigned t = 0; t < SCENE_THREADS; t++, end++) {
        if (*end < '0' || *end >= '0' + SCENE_THREADS)
            return false;
        schedule->order[t] = (uint8_t)(*end - '0');
        seen |= 1u << schedule->order[t];
    }
    if (seen != (1u << SCENE_THREADS) - 1)
        return false;
    for (char before = '.'; *end; before = ',') {
        if (*end++ != before || *end < '0' || *end > '9' || schedule->count == CHANGES_MAX)
            return false;
        unsigned long change = strtoul(end, &end, 10);
        if (change > UINT32_MAX)
            return false;
        schedule->changes[schedule->count++] = (uint32_t)change;
    }
    return true;
}

bool schedule_valid(const char *text)
{
    struct schedule schedule;
    return schedule_read(text, &schedule);
}

/* ------------------------------------------------------------------------------------ one scene */

static void await_turn(unsigned who)
{
    while (sem_wait(&play.go[who]) != 0)
        continue; /* a signal */
}

/* Who has the highest priority of those that are not at the end; SCENE_THREADS: all are. */
static unsigned best(void)
{
    unsigned best_one = SCENE_THREADS;
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        if (!play.ended[t] &&
            (best_one == SCENE_THREADS || play.priority[t] > play.priority[best_one]))
            best_one = t;
    return best_one;
}

/* The running thread is at a step. */
static void at_step(unsigned place)
{
    if (me < 0)
        return;
    unsigned number = (unsigned)me;
    play.steps++;
    play.trace = mix(play.trace ^ ((uint64_t)number << 32 | place));
    bool changes = ++play.in_a_row > STEPS_IN_A_ROW;
    for (unsigned i = 0; i < play.schedule.count; i++)
        changes |= play.schedule.changes[i] == play.steps;
    if (!changes)
        return; /* it has run because it has the highest priority, and still has it */
    play.priority[number] = --play.lowest;
    play.in_a_row = 0;
    unsigned next = best();
    if (next == number)
        return;
    sem_post(&play.go[next]);
    await_turn(number);
}

enum { BEGINS = 1000, ENDS };

/* The time of a call is as short as it can be: others run before it begins, or behind its end. */
static uint64_t tick(bool begins)
{
    if (begins)
        at_step(BEGINS);
    uint64_t now = ++play.ticks;
    if (!begins)
        at_step(ENDS);
    return now;
}

static void *actor(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    for (;;) {
        await_turn(number);
        if (play.over)
            return NULL;
        me = (int)number;
        self->random = (struct random){mix(play.schedule.seed ^ mix(number + 1))};
        scene_play(number);
        me = -1;
        play.ended[number] = true;
        play.in_a_row = 0;
        sem_post(&play.go[best()]);
    }
}

static enum linear_verdict run_schedule(const struct schedule *schedule)
{
    schedule_write(schedule, world->schedule, sizeof world->schedule);
    play.schedule = *schedule;
    play.lowest = 0;
    play.steps = play.in_a_row = 0;
    play.ticks = play.trace = 0;
    memset(play.ended, 0, sizeof play.ended);
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        play.priority[schedule->order[t]] = (int)(SCENE_THREADS - t);
    scene_bus(at_step);
    scene_prepare();
    sem_post(&play.go[best()]);
    await_turn(SCENE_THREADS);
    scene_clear();
    play.count = scene_history(play.operations);
    enum linear_verdict verdict = linear_check(play.operations, play.count, SCENE_BUDGET, NULL);
    verdict_checked(STRICT_FIFO, verdict == LINEAR_YES);
    return verdict;
}

/* -------------------------------------------------------------------------------------- search */

static struct schedule draw(struct random *random, uint32_t steps)
{
    struct schedule schedule = {.seed = random_next(random) >> 40,
                                .count = random_below(random, CHANGES_MAX + 1)};
    for (uint8_t t = 0; t < SCENE_THREADS; t++) {
        unsigned place = random_below(random, t + 1u);
        schedule.order[t] = schedule.order[place];
        schedule.order[place] = t;
    }
    for (unsigned i = 0; i < schedule.count; i++)
        schedule.changes[i] = 1 + random_below(random, steps);
    return schedule;
}

/* The fewest changes with which it still fails. */
static struct schedule simplest(struct schedule schedule)
{
    for (unsigned i = 0; i < schedule.count;) {
        struct schedule shorter = schedule;
        shorter.count--;
        memmove(shorter.changes + i, shorter.changes + i + 1,
                (shorter.count - i) * sizeof shorter.changes[0]);
        if (run_schedule(&shorter) == LINEAR_NO)
            schedule = shorter;
        else
            i++;
    }
    return schedule;
}

/* Run it, and say what came of it. True: it was not linearizable. */
static bool run_and_explain(const struct schedule *schedule)
{
    bool failed = run_schedule(schedule) == LINEAR_NO;
    printf("schedule      %s\nsteps         %" PRIu32 ", trace %016" PRIx64 "\n", world->schedule,
           play.steps, play.trace);
    if (!failed)
        return false;
    scene_explain(stdout, "this history", play.operations, play.count);
    printf("again with    --schedule %s\n", world->schedule);
    return true;
}

static int finish(uint64_t number, bool failed)
{
    bool good = verdict_good() && !(failed && scene_judged());
    printf("schedules     %" PRIu64 "%s\n%s\n", number,
           failed && !scene_judged() ? " (G1, G2 and G3 are not all claimed: measured only)" : "",
           good ? "PASS" : "FAIL");
    return good ? EXIT_PASS : EXIT_VIOLATION;
}

static int search(void)
{
    struct random random = random_for('P', 0);
    play.steps = FIRST_STEPS;
    for (uint64_t number = 1; number <= world->options.schedules; number++) {
        struct schedule schedule = draw(&random, play.steps);
        bool failed = run_schedule(&schedule) == LINEAR_NO;
        if (!verdict_good())
            printf("schedule      %s\n", world->schedule);
        if (failed) {
            schedule = simplest(schedule);
            run_and_explain(&schedule);
        }
        if (!verdict_good() || failed)
            return finish(number, failed);
    }
    return finish(world->options.schedules, false);
}

static int repeat(void)
{
    struct schedule schedule;
    schedule_read(world->options.schedule, &schedule);
    return finish(1, run_and_explain(&schedule));
}

int schedule_run(void)
{
    struct worker *actors[SCENE_THREADS];
    report_heading();
    if (!world->subject->set_step)
        printf("              (has no steps: threads change only between calls)\n");
    scene_clock = tick;
    for (unsigned t = 0; t <= SCENE_THREADS; t++)
        sem_init(&play.go[t], 0, 0);
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        actors[t] = worker_start("actor", t, actor, (void *)(uintptr_t)t);
    int status = world->options.schedule ? repeat() : search();
    play.over = true;
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        sem_post(&play.go[t]);
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        worker_join(actors[t]);
    scene_bus_end();
    return status;
}
