/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Histories: see history.h. The threads of a scene run as they like, and others interrupt them. */
#include "history.h"
#include "../checks/verdict.h"
#include "options.h"
#include "report.h"
#include "scene.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCENES_PER_BUS 50
/* Beyond so many histories only those are written that are not linearizable. */
#define WRITTEN_MAX 10000

static struct {
    alignas(64) _Atomic uint64_t begun; /* scenes */
    alignas(64) _Atomic unsigned ended; /* threads that have come to the end of the scene */
    _Atomic bool over;
} scenes;

static struct {
    uint64_t verdicts[3], written;
    size_t operations;
} tally;

/* ------------------------------------------------------------------------------------- threads */

static void *actor(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    uint64_t played = 0;
    while (!flag(&scenes.over)) {
        if (atomic_load_explicit(&scenes.begun, memory_order_acquire) == played) {
            sched_yield();
            continue;
        }
        played++;
        scene_play(thread);
        atomic_fetch_add_explicit(&scenes.ended, 1, memory_order_release);
    }
    return NULL;
}

/* Interrupts the others inside their calls, at any instruction. */
static void *disturber(void *actors)
{
    while (!flag(&scenes.over)) {
        struct worker **worker = actors;
        worker_disturb(worker[random_below(&self->random, SCENE_THREADS)],
                       random_below(&self->random, 40));
        nap(20000 + random_below(&self->random, 60000), &scenes.over);
    }
    return NULL;
}

/* A subject with steps between its effects yields at many of them. */
static void step(unsigned place)
{
    static _Thread_local uint64_t state;
    if (!self)
        return;
    uint64_t draw = mix(state += 0x9e3779b97f4a7c15ULL + place + self->random.state);
    if (draw % 16 == 0)
        sched_yield();
}

/* ----------------------------------------------------------------------------------- recording */

static const char *const kind_names[] = {"publish", "subscribe", "unsubscribe", "receive"};
static const char *const result_names[] = {"ok", "value", "empty", "closed"};
static const char *const linear_names[] = {"linearizable", "not linearizable", "undecided"};

static void write_line(FILE *file, json_t *line)
{
    json_dumpf(line, file, JSON_COMPACT);
    fputc('\n', file);
    json_decref(line);
}

static json_t *json_operation(const struct linear_operation *operation, uint64_t zero_ns)
{
    json_t *line = json_pack("{s:i, s:s, s:I, s:I}", "thread", (int)operation->thread, "call",
                             kind_names[operation->kind], "begin_ns",
                             (json_int_t)(operation->begin_ns - zero_ns), "end_ns",
                             (json_int_t)(operation->end_ns - zero_ns));
    if (operation->kind != LINEAR_PUBLISH)
        json_object_set_new(line, "subscription", json_integer(operation->subscription));
    if (operation->kind == LINEAR_PUBLISH)
        json_object_set_new(line, "topic", json_integer(operation->topic));
    if (operation->kind == LINEAR_SUBSCRIBE)
        json_object_set_new(line, "topics", json_integer(operation->topics));
    if (operation->kind == LINEAR_RECEIVE)
        json_object_set_new(line, "result", json_string(result_names[operation->result]));
    if (operation->kind == LINEAR_PUBLISH || operation->result == LINEAR_VALUE)
        json_object_set_new(line, "event", json_integer(operation->value));
    return line;
}

static void write_history(FILE *file, uint64_t number, const struct linear_operation *operations,
                          size_t count_, enum linear_verdict verdict)
{
    json_t *lines = json_array();
    for (size_t i = 0; i < count_; i++)
        json_array_append_new(lines, json_operation(&operations[i], operations[0].begin_ns));
    write_line(file, json_pack("{s:I, s:s, s:o}", "history", (json_int_t)number, "verdict",
                               linear_names[verdict], "calls", lines));
}

static void decide(FILE *file, uint64_t number)
{
    struct linear_operation operations[LINEAR_OPERATIONS_MAX];
    size_t count_ = scene_history(operations);
    enum linear_verdict verdict = linear_check(operations, count_, SCENE_BUDGET, NULL);
    tally.verdicts[verdict]++;
    tally.operations += count_;
    if (verdict == LINEAR_NO || tally.written < WRITTEN_MAX) {
        write_history(file, number, operations, count_, verdict);
        tally.written++;
    }
    verdict_checked(STRICT_FIFO, verdict == LINEAR_YES);
    if (verdict != LINEAR_NO || tally.verdicts[LINEAR_NO] > 1)
        return;
    char which[64];
    snprintf(which, sizeof which, "history %" PRIu64 ", which the file has whole,", number);
    scene_explain(stderr, which, operations, count_);
}

static void write_header(FILE *file)
{
    char command[1024], seed[24];
    report_command_line(command, sizeof command);
    snprintf(seed, sizeof seed, "%" PRIu64, world->options.seed);
    write_line(file, json_pack("{s:s, s:s, s:s, s:s}", "command", command, "seed", seed, "subject",
                               world->subject->name, "version", STRESS_VERSION));
}

static int summarize(FILE *file, double seconds)
{
    uint64_t histories = tally.verdicts[0] + tally.verdicts[1] + tally.verdicts[2];
    uint64_t no = tally.verdicts[LINEAR_NO];
    bool pass = verdict_good() && (no == 0 || !scene_judged());
    write_line(file,
               json_pack("{s:I, s:I, s:I, s:I}", "histories", (json_int_t)histories, "linearizable",
                         (json_int_t)tally.verdicts[LINEAR_YES], "not_linearizable", (json_int_t)no,
                         "undecided", (json_int_t)tally.verdicts[LINEAR_UNDECIDED]));
    report_heading();
    printf("histories     %" PRIu64 " in %.1f s, of %.1f calls on average\n", histories, seconds,
           (double)tally.operations / (double)(histories ? histories : 1));
    printf("linearizable  %" PRIu64 "; not %" PRIu64 "%s; undecided %" PRIu64 "\n",
           tally.verdicts[LINEAR_YES], no,
           scene_judged() ? "" : " (G1, G2 and G3 are not all claimed: measured only)",
           tally.verdicts[LINEAR_UNDECIDED]);
    printf("%s\n", pass ? "PASS" : "FAIL");
    return pass ? EXIT_PASS : EXIT_VIOLATION;
}

int history_run(void)
{
    FILE *file = fopen(world->options.history, "we");
    if (!file) {
        fprintf(stderr, "exitbus-stress: %s: %s\n", world->options.history, strerror(errno));
        return EXIT_ENVIRONMENT;
    }
    write_header(file);
    struct worker *actors[SCENE_THREADS] = {NULL}, *disturbs;
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        actors[t] = worker_start("actor", t, actor, (void *)(uintptr_t)t);
    disturbs = worker_start("disturber", 0, disturber, actors);
    uint64_t end = now_ns() + (uint64_t)world->options.seconds * 1000000000, number = 0;
    while (now_ns() < end && verdict_good() &&
           (tally.verdicts[LINEAR_NO] == 0 || !scene_judged())) {
        if (number++ % SCENES_PER_BUS == 0)
            scene_bus(step);
        scene_prepare();
        atomic_store(&scenes.ended, 0);
        atomic_fetch_add_explicit(&scenes.begun, 1, memory_order_release);
        while (atomic_load_explicit(&scenes.ended, memory_order_acquire) < SCENE_THREADS)
            sched_yield();
        scene_clear();
        decide(file, number);
    }
    atomic_store(&scenes.over, true);
    for (unsigned t = 0; t < SCENE_THREADS; t++)
        worker_join(actors[t]);
    worker_join(disturbs);
    scene_bus_end();
    int status = summarize(file, (double)(now_ns() - world->begin_ns) / 1e9);
    if (fclose(file) != 0) {
        fprintf(stderr, "exitbus-stress: cannot write %s\n", world->options.history);
        return EXIT_ENVIRONMENT;
    }
    return status;
}
