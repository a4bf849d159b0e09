/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Histories: see history.h. A scene is a handful of threads that make some ten random calls each,
 * while others interrupt them inside; then what is left in the queues is taken out one by one, so
 * that a loss shows, too. Every call is noted with its times, and the check of linear.h decides.
 */
#include "history.h"
#include "../checks/linear.h"
#include "../checks/shrink.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "calls.h"
#include "host.h"
#include "options.h"
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define CALLS_EACH 10
#define PUBLISHES_MAX 6
#define SUBSCRIPTIONS_MAX 3
/* Then at most 40 calls by the threads, and 18 events and three ends to take out. */
_Static_assert(THREADS *CALLS_EACH + (PUBLISHES_MAX + 1) * SUBSCRIPTIONS_MAX <=
                   LINEAR_OPERATIONS_MAX,
               "a scene is one history");
_Static_assert(SUBSCRIPTIONS_MAX <= LINEAR_SUBSCRIPTIONS_MAX, "a scene is one history");

#define SCENES_PER_BUS 50
/* Beyond so many histories only those are written that are not linearizable. */
#define WRITTEN_MAX 10000
/* States that the check may look at: most histories need less than a thousand. */
#define BUDGET 400000
#define EVENT_TOPICS 6

enum state { SLOT_FREE, SLOT_TAKEN, SLOT_OPEN, SLOT_ENDED };

/* A subscription of the scene: free, then taken by one thread, then open to all. */
struct slot {
    _Atomic unsigned state;
    void *subscription;
    unsigned owner;
};

struct script {
    struct linear_operation operations[LINEAR_OPERATIONS_MAX];
    unsigned count;
};

static struct {
    alignas(64) _Atomic uint64_t begun; /* scenes */
    alignas(64) _Atomic unsigned ended; /* threads that have come to the end of the scene */
    _Atomic bool over;
    struct slot slots[SUBSCRIPTIONS_MAX];
    _Atomic unsigned publishes;
    uint8_t topic_of[PUBLISHES_MAX + 1]; /* by event number, from 1 */
    struct script scripts[THREADS + 1];  /* the last: who takes out what is left */
    bool shared;                         /* several threads use one subscription */
} scene;

static struct {
    uint64_t verdicts[3], written;
    size_t operations;
} tally;

/* -------------------------------------------------------------------------------------- topics */

/* Events of topic 0 to 3: execs of two containers; 4 and 5: two pids. */
static struct subject_event event_make(unsigned topic, uint32_t number)
{
    struct subject_event event = {
        .kind = topic < 4 ? SUBJECT_EVENT_EXEC : SUBJECT_EVENT_PID,
        .container = topic < 4 ? (uint8_t)(topic / 2) : 0,
        .exec = topic < 4 ? (uint8_t)(topic % 2) : 0,
        .pid = topic < 4 ? SYNTHETIC_PID : (int32_t)(SYNTHETIC_PID + topic * 65536),
        .number = number,
        .pattern = mix(number),
    };
    return event;
}

static bool event_whole(const struct subject_event *event)
{
    if (event->number < 1 || event->number > PUBLISHES_MAX)
        return false;
    struct subject_event sent = event_make(scene.topic_of[event->number], (uint32_t)event->number);
    return event->kind == sent.kind && event->pid == sent.pid && event->pattern == sent.pattern &&
           event->container == sent.container && event->exec == sent.exec;
}

static struct subject_topic topic_draw(struct random *random, uint32_t *mask)
{
    struct subject_topic topic = synthetic_topic(random);
    topic.container %= 2;
    topic.exec %= 2;
    topic.pid = (int32_t)(SYNTHETIC_PID + (4 + random_below(random, 2)) * 65536);
    *mask = 0;
    for (unsigned t = 0; t < EVENT_TOPICS; t++) {
        struct subject_event event = event_make(t, 1);
        *mask |= subject_matches(&topic, &event) ? 1u << t : 0;
    }
    return topic;
}

/* --------------------------------------------------------------------------------------- calls */

/* Between a call and the reading of the clock. A processor may begin the call's first loads before
 * it has read the clock, and hold the call's last stores back until after the second reading; a
 * clock, unlike a message, does not order them. Without this an interval is a little shorter than
 * its call, and calls that overlapped seem to have followed each other. */
static void beside_the_clock(void)
{
    atomic_thread_fence(memory_order_seq_cst);
}

static struct linear_operation *note(unsigned thread, enum linear_kind kind, unsigned slot)
{
    struct script *script = &scene.scripts[thread];
    struct linear_operation *operation = &script->operations[script->count];
    *operation = (struct linear_operation){.thread = thread,
                                           .kind = (uint8_t)kind,
                                           .subscription = (uint8_t)slot,
                                           .begin_ns = now_ns()};
    beside_the_clock();
    return operation;
}

/* The call has returned: it belongs to the history if it succeeded. */
static void noted(unsigned thread, struct linear_operation *operation, int64_t outcome,
                  const char *what)
{
    beside_the_clock();
    operation->end_ns = now_ns();
    if (outcome >= 0)
        scene.scripts[thread].count++;
    else if (outcome != -ENOMEM && outcome != -EAGAIN)
        verdict_violated(CLEAN_FAILURE, "%s: %s", what, strerror((int)-outcome));
}

static void do_publish(unsigned thread)
{
    uint32_t number = 1 + atomic_fetch_add(&scene.publishes, 1);
    if (number > PUBLISHES_MAX)
        return;
    uint8_t topic = (uint8_t)random_below(&self->random, EVENT_TOPICS);
    scene.topic_of[number] = topic;
    struct subject_event event = event_make(topic, number);
    uint64_t seq;
    struct linear_operation *operation = note(thread, LINEAR_PUBLISH, 0);
    int outcome = call_publish(&event, 1, &seq);
    operation->topic = topic;
    operation->value = number;
    noted(thread, operation, outcome, "publish");
}

static void do_subscribe(unsigned thread, unsigned number)
{
    struct slot *slot = &scene.slots[number];
    unsigned state = SLOT_FREE;
    if (!atomic_compare_exchange_strong(&slot->state, &state, SLOT_TAKEN))
        return;
    uint32_t mask;
    struct subject_topic topic = topic_draw(&self->random, &mask);
    struct linear_operation *operation = note(thread, LINEAR_SUBSCRIBE, number);
    int outcome = call_subscribe(&topic, 0, &slot->subscription);
    operation->topics = mask;
    noted(thread, operation, outcome, "subscribe");
    if (outcome < 0)
        return;
    if (scene.shared) /* until the end of the scene, when no thread uses it any more */
        subject_ref(slot->subscription);
    slot->owner = thread;
    atomic_store(&slot->state, SLOT_OPEN);
}

static void do_unsubscribe(unsigned thread, unsigned number)
{
    struct slot *slot = &scene.slots[number];
    unsigned state = SLOT_OPEN;
    if (atomic_load(&slot->state) != SLOT_OPEN || (!scene.shared && slot->owner != thread) ||
        !atomic_compare_exchange_strong(&slot->state, &state, SLOT_ENDED))
        return;
    struct linear_operation *operation = note(thread, LINEAR_UNSUBSCRIBE, number);
    noted(thread, operation, call_unsubscribe(slot->subscription), "unsubscribe");
}

/* True if an event came. */
static bool do_receive(unsigned thread, unsigned number)
{
    struct slot *slot = &scene.slots[number];
    unsigned state = atomic_load(&slot->state);
    if (state != SLOT_OPEN && !(state == SLOT_ENDED && scene.shared))
        return false;
    if (!scene.shared && thread < THREADS && slot->owner != thread)
        return false;
    struct subject_event event = {0};
    struct linear_operation *operation = note(thread, LINEAR_RECEIVE, number);
    ssize_t got = call_receive(slot->subscription, &event, 1, 0);
    operation->result = got == 1 ? LINEAR_VALUE : got == -ESHUTDOWN ? LINEAR_CLOSED : LINEAR_EMPTY;
    operation->value = (uint32_t)event.number;
    noted(thread, operation, got == -EAGAIN || got == -ESHUTDOWN ? 0 : got, "receive");
    if (got == 1 && !event_whole(&event))
        verdict_violated(NO_LOSS, "event %" PRIu64 " was altered", event.number);
    return got == 1;
}

/* ------------------------------------------------------------------------------------- threads */

static void play(unsigned thread)
{
    for (unsigned i = 0; i < CALLS_EACH; i++) {
        unsigned draw = random_below(&self->random, 16);
        unsigned number = random_below(&self->random, SUBSCRIPTIONS_MAX);
        if (draw < 4)
            do_publish(thread);
        else if (draw < 6)
            do_subscribe(thread, number);
        else if (draw < 7)
            do_unsubscribe(thread, number);
        else
            do_receive(thread, number);
        if (random_below(&self->random, 8) == 0)
            sched_yield();
    }
}

static void *actor(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    uint64_t played = 0;
    while (!flag(&scene.over)) {
        if (atomic_load_explicit(&scene.begun, memory_order_acquire) == played) {
            sched_yield();
            continue;
        }
        played++;
        play(thread);
        atomic_fetch_add_explicit(&scene.ended, 1, memory_order_release);
    }
    return NULL;
}

/* Interrupts the others inside their calls, at any instruction. */
static void *disturber(void *actors)
{
    while (!flag(&scene.over)) {
        struct worker **worker = actors;
        worker_disturb(worker[random_below(&self->random, THREADS)],
                       random_below(&self->random, 40));
        nap(20000 + random_below(&self->random, 60000), &scene.over);
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

static int by_begin(const void *a, const void *b)
{
    const struct linear_operation *one = a, *other = b;
    return (one->begin_ns > other->begin_ns) - (one->begin_ns < other->begin_ns);
}

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

static bool judged(void)
{
    return verdict_claimed(NO_LOSS) && verdict_claimed(STRICT_FIFO) &&
           verdict_claimed(NONE_AFTER_UNSUBSCRIBE);
}

static void decide(FILE *file, uint64_t number)
{
    struct linear_operation operations[LINEAR_OPERATIONS_MAX];
    size_t count_ = 0;
    for (unsigned t = 0; t <= THREADS; t++)
        for (unsigned i = 0; i < scene.scripts[t].count; i++)
            operations[count_++] = scene.scripts[t].operations[i];
    qsort(operations, count_, sizeof operations[0], by_begin);
    static struct linear_explanation why;
    enum linear_verdict verdict = linear_check(operations, count_, BUDGET, &why);
    tally.verdicts[verdict]++;
    tally.operations += count_;
    if (verdict == LINEAR_NO || tally.written < WRITTEN_MAX) {
        write_history(file, number, operations, count_, verdict);
        tally.written++;
    }
    verdict_checked(STRICT_FIFO, verdict == LINEAR_YES);
    if (verdict != LINEAR_NO || tally.verdicts[LINEAR_NO] > 1)
        return;
    size_t left = shrink(operations, count_, BUDGET);
    linear_check(operations, left, BUDGET, &why);
    fprintf(stderr,
            "history %" PRIu64 " is not linearizable: no order of these calls explains what they "
            "returned (%zu of %zu calls; the file has all)\n",
            number, left, count_);
    shrink_print(stderr, operations, left, &why);
}

/* --------------------------------------------------------------------------------------- scene */

static void scene_prepare(void)
{
    for (unsigned t = 0; t <= THREADS; t++)
        scene.scripts[t].count = 0;
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX; i++)
        atomic_store(&scene.slots[i].state, SLOT_FREE);
    atomic_store(&scene.publishes, 0);
    atomic_store(&scene.ended, 0);
}

/* Take out what is left, and give back the subscriptions. */
static void scene_clear(void)
{
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX; i++)
        if (atomic_load(&scene.slots[i].state) == SLOT_OPEN)
            while (do_receive(THREADS, i))
                continue;
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        struct slot *slot = &scene.slots[i];
        unsigned state = atomic_load(&slot->state);
        if (state == SLOT_OPEN)
            call_unsubscribe(slot->subscription);
        if (state >= SLOT_OPEN && scene.shared)
            subject_unref(slot->subscription);
    }
}

static void new_bus(void)
{
    const struct subject *subject = world->subject;
    int error = world->bus ? subject->destroy(world->bus) : 0;
    if (error == 0)
        error = subject->create(&host, &world->bus);
    if (error < 0) {
        fprintf(stderr, "exitbus-stress: a new bus: %s\n", strerror(-error));
        exit(EXIT_ENVIRONMENT);
    }
    if (subject->set_step)
        subject->set_step(step);
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
    bool pass = verdict_good() && (no == 0 || !judged());
    write_line(file,
               json_pack("{s:I, s:I, s:I, s:I}", "histories", (json_int_t)histories, "linearizable",
                         (json_int_t)tally.verdicts[LINEAR_YES], "not_linearizable", (json_int_t)no,
                         "undecided", (json_int_t)tally.verdicts[LINEAR_UNDECIDED]));
    char command[1024];
    report_command_line(command, sizeof command);
    printf("command       %s\nseed          %" PRIu64 "\nsubject       %s: %s\n", command,
           world->options.seed, world->subject->name, world->subject->summary);
    printf("histories     %" PRIu64 " in %.1f s, of %.1f calls on average\n", histories, seconds,
           (double)tally.operations / (double)(histories ? histories : 1));
    printf("linearizable  %" PRIu64 "; not %" PRIu64 "%s; undecided %" PRIu64 "\n",
           tally.verdicts[LINEAR_YES], no,
           judged() ? "" : " (G1, G2 and G3 are not all claimed: measured only)",
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
    scene.shared = world->subject->ref && world->subject->unref && can(SUBJECT_SHARED);
    struct worker *actors[THREADS] = {NULL}, *disturbs;
    for (unsigned t = 0; t < THREADS; t++)
        actors[t] = worker_start("actor", t, actor, (void *)(uintptr_t)t);
    disturbs = worker_start("disturber", 0, disturber, actors);
    uint64_t end = now_ns() + (uint64_t)world->options.seconds * 1000000000, number = 0;
    while (now_ns() < end && verdict_good() && (tally.verdicts[LINEAR_NO] == 0 || !judged())) {
        if (number++ % SCENES_PER_BUS == 0)
            new_bus();
        scene_prepare();
        atomic_fetch_add_explicit(&scene.begun, 1, memory_order_release);
        while (atomic_load_explicit(&scene.ended, memory_order_acquire) < THREADS)
            sched_yield();
        scene_clear();
        decide(file, number);
    }
    atomic_store(&scene.over, true);
    for (unsigned t = 0; t < THREADS; t++)
        worker_join(actors[t]);
    worker_join(disturbs);
    if (world->subject->set_step)
        world->subject->set_step(NULL);
    world->subject->destroy(world->bus);
    int status = summarize(file, (double)(now_ns() - world->begin_ns) / 1e9);
    if (fclose(file) != 0) {
        fprintf(stderr, "exitbus-stress: cannot write %s\n", world->options.history);
        return EXIT_ENVIRONMENT;
    }
    return status;
}
