/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Small scenes, and what came out of them: see outcomes.h. */
#include "outcomes.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "calls.h"
#include "children.h"
#include "ends.h"
#include "options.h"
#include "report.h"
#include "scene.h"
#include "small_scene.h"
#include "worker.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTCOMES_MAX 16
#define SPIN_MAX 64

/* ----------------------------------------------------------------------------- what threads do */

/* Events a and b are of two topics, and numbered 1 and 2. */
static void publish(char name)
{
    struct subject_event event = {.kind = SUBJECT_EVENT_EXEC,
                                  .container = name == 'a' ? 1 : 2,
                                  .exec = 1,
                                  .number = name == 'a' ? 1 : 2};
    uint64_t seq;
    int error;
    do
        error = call_publish(&event, 1, &seq);
    while (error == -ENOMEM);
    if (error < 0)
        verdict_violated(CLEAN_FAILURE, "publish: %s", strerror(-error));
}

/* To event a, to event b, or to both ('*'). */
static void subscribe(struct round_of *round_, unsigned which, char name)
{
    struct subject_topic topic = {.kind = name == '*' ? SUBJECT_TOPIC_ALL : SUBJECT_TOPIC_EXEC,
                                  .container = name == 'a' ? 1 : 2,
                                  .exec = 1};
    int error;
    do
        error = call_subscribe(&topic, 0, &round_->subscriptions[which]);
    while (error == -ENOMEM);
    must(error, "subscribe");
    if (world->subject->ref)
        subject_ref(round_->subscriptions[which]);
}

/* Note what a try finds: an event, '-' for none, '!' for an end. */
static void receive(struct round_of *round_, unsigned thread, unsigned which)
{
    struct subject_event event = {0};
    ssize_t got;
    do
        got = call_receive(round_->subscriptions[which], &event, 1, 0);
    while (got == -ENOMEM);
    char *found = round_->found[thread];
    found[strlen(found)] = got == 1 ? (event.number == 1 ? 'a' : 'b') : got == -EAGAIN ? '-' : '!';
}

static void receive_all(struct round_of *round_, unsigned which)
{
    char *found = round_->found[THREADS];
    if (found[0])
        found[strlen(found)] = ',';
    for (unsigned i = 0; i < 3; i++) {
        receive(round_, THREADS, which);
        if (found[strlen(found) - 1] == '-' || found[strlen(found) - 1] == '!')
            break;
    }
}

static void nothing(struct round_of *round_)
{
    (void)round_;
}

static void publish_a(struct round_of *round_)
{
    (void)round_;
    publish('a');
}

static void publish_b(struct round_of *round_)
{
    (void)round_;
    publish('b');
}

static void publish_a_b(struct round_of *round_)
{
    (void)round_;
    publish('a');
    publish('b');
}

static void both_to_all(struct round_of *round_)
{
    subscribe(round_, 0, '*');
    subscribe(round_, 1, '*');
}

static void one_to_each(struct round_of *round_)
{
    subscribe(round_, 0, 'a');
    subscribe(round_, 1, 'b');
}

static void one_to_all(struct round_of *round_)
{
    subscribe(round_, 0, '*');
}

static void one_with_an_event(struct round_of *round_)
{
    subscribe(round_, 0, '*');
    publish('a');
}

static void drain_both(struct round_of *round_)
{
    receive_all(round_, 0);
    receive_all(round_, 1);
}

static void drain_first(struct round_of *round_)
{
    receive_all(round_, 0);
}

static void publish_b_and_drain(struct round_of *round_)
{
    publish('b');
    receive_all(round_, 0);
}

static void look_at_b_then_a(struct round_of *round_)
{
    receive(round_, 1, 1);
    receive(round_, 1, 0);
}

static void publish_a_look_at_b(struct round_of *round_)
{
    publish('a');
    receive(round_, 0, 1);
}

static void publish_b_look_at_a(struct round_of *round_)
{
    publish('b');
    receive(round_, 1, 0);
}

static void take_first(struct round_of *round_)
{
    receive(round_, 0, 0);
}

static void take_second(struct round_of *round_)
{
    receive(round_, 1, 0);
}

static void end_first(struct round_of *round_)
{
    call_unsubscribe(round_->subscriptions[0]);
    round_->ended = true;
    receive(round_, 0, 0);
}

static void subscribe_now(struct round_of *round_)
{
    subscribe(round_, 0, '*');
}

static const struct small_scene small_scenes[] = {
    {"two-orders",
     "a and b are published at the same time; two subscriptions to both",
     " //ab-,ab- //ba-,ba- ",
     "the two subscriptions do not agree on the order, or lack an event",
     STRICT_FIFO,
     false,
     false,
     both_to_all,
     {publish_a, publish_b},
     drain_both},
    {"message",
     "a is published, then b; who looks for b, then for a",
     " /ba/ /-a/ /--/ ",
     "b is there, and a, which was published before it, is not",
     STRICT_FIFO,
     false,
     false,
     one_to_each,
     {publish_a_b, look_at_b_then_a},
     nothing},
    {"dekker",
     "each publishes, then looks for what the other has published",
     " b/a/ -/a/ b/-/ ",
     "each has published before it looked, and neither is seen",
     STRICT_FIFO,
     false,
     false,
     one_to_each,
     {publish_a_look_at_b, publish_b_look_at_a},
     nothing},
    {"one-event",
     "two threads try to take one event",
     " a/-/- -/a/- ",
     "the event was taken twice, or by neither",
     NO_LOSS,
     true,
     false,
     one_with_an_event,
     {take_first, take_second},
     drain_first},
    {"unsubscribe",
     "a subscription ends while an event is published",
     " !//! ",
     "something was delivered after unsubscribe had returned",
     NONE_AFTER_UNSUBSCRIBE,
     true,
     false,
     one_to_all,
     {end_first, publish_a},
     drain_first},
    {"subscribe",
     "a subscription begins while a is published; then b is",
     " //ab- //b- ",
     "an event was lost that was published after subscribe had returned, or the order is another",
     NO_LOSS,
     false,
     false,
     nothing,
     {subscribe_now, publish_a},
     publish_b_and_drain},
};
#define OWN_SCENES (sizeof small_scenes / sizeof small_scenes[0])
#define SCENES (OWN_SCENES + TASK_SCENES + 1)

static const struct small_scene *scene_at(size_t i)
{
    if (i < OWN_SCENES)
        return &small_scenes[i];
    return i < OWN_SCENES + TASK_SCENES ? &task_scenes[i - OWN_SCENES] : &handle_scene;
}

/* -------------------------------------------------------------------------------------- rounds */

static struct {
    const struct small_scene *scene;
    struct round_of round_;
    alignas(64) _Atomic uint64_t begun; /* rounds */
    alignas(64) _Atomic uint64_t ended; /* threads, in all rounds */
    _Atomic bool over;
} play;

static struct {
    char text[3 * 8 + 4];
    uint64_t times;
} outcomes[OUTCOMES_MAX];
static size_t outcome_count;

static void *actor(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    for (uint64_t played = 0;;) {
        for (unsigned tries = 0; atomic_load_explicit(&play.begun, memory_order_acquire) == played;)
            if (++tries % 1000 == 0)
                sched_yield();
        if (flag(&play.over))
            return NULL;
        played++;
        for (unsigned i = random_below(&self->random, SPIN_MAX); i > 0; i--)
            atomic_signal_fence(memory_order_seq_cst);
        play.scene->play[thread](&play.round_);
        atomic_fetch_add_explicit(&play.ended, 1, memory_order_release);
    }
}

static void count_outcome(const struct round_of *round_)
{
    char text[sizeof outcomes[0].text];
    snprintf(text, sizeof text, "%s/%s/%s", round_->found[0], round_->found[1], round_->found[2]);
    size_t i = 0;
    while (i < outcome_count && strcmp(outcomes[i].text, text) != 0)
        i++;
    if (i == OUTCOMES_MAX)
        return;
    if (i == outcome_count)
        memcpy(outcomes[outcome_count++].text, text, sizeof text);
    outcomes[i].times++;
}

static void clear(struct round_of *round_)
{
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        if (!round_->subscriptions[i])
            continue;
        if (!(round_->ended && i == 0))
            call_unsubscribe(round_->subscriptions[i]);
        if (world->subject->unref)
            subject_unref(round_->subscriptions[i]);
    }
}

static bool is_allowed(const struct small_scene *scene, const char *text)
{
    char wanted[sizeof outcomes[0].text + 2];
    snprintf(wanted, sizeof wanted, " %.*s ", (int)sizeof outcomes[0].text - 1, text);
    return strstr(scene->allowed, wanted);
}

/* Returns false if something came out that must not. */
static bool print_outcomes(const struct small_scene *scene, uint64_t rounds)
{
    bool good = true;
    printf("scene         %s: %s (%" PRIu64 " times)\n", scene->name, scene->what, rounds);
    for (size_t i = 0; i < outcome_count; i++) {
        bool allowed = is_allowed(scene, outcomes[i].text);
        printf("  %-16s %12" PRIu64 "  %s%s\n", outcomes[i].text, outcomes[i].times,
               allowed ? "allowed" : "FORBIDDEN: ", allowed ? "" : scene->forbidden);
        good &= allowed;
    }
    for (const char *at = scene->allowed; *++at; at += strcspn(at, " ")) {
        char text[sizeof outcomes[0].text];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(at, " "), at);
        bool seen = false;
        for (size_t i = 0; i < outcome_count; i++)
            seen |= strcmp(outcomes[i].text, text) == 0;
        if (!seen)
            printf("  %-16s %12d  allowed\n", text, 0);
    }
    return good;
}

static void run_scene(const struct small_scene *scene, double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), rounds = 0;
    outcome_count = 0;
    memset(outcomes, 0, sizeof outcomes);
    play.scene = scene;
    while (now_ns() < end) {
        memset(&play.round_, 0, sizeof play.round_);
        scene->prepare(&play.round_);
        uint64_t due = atomic_load(&play.ended) + THREADS;
        atomic_fetch_add_explicit(&play.begun, 1, memory_order_release);
        while (atomic_load_explicit(&play.ended, memory_order_acquire) < due)
            sched_yield();
        scene->finish(&play.round_);
        count_outcome(&play.round_);
        clear(&play.round_);
        rounds++;
    }
    verdict_checked(scene->guarantee, rounds);
    if (!print_outcomes(scene, rounds))
        verdict_violated(scene->guarantee, "scene %s: %s", scene->name, scene->forbidden);
}

static const char *unfit(const struct small_scene *scene)
{
    if (scene == &handle_scene)
        return world->subject->process_adopt ? NULL : "the subject has no handles of processes";
    if (scene->has_children &&
        !(world->subject->task_create && knows_topic(SUBJECT_TOPIC_CONTAINER)))
        return "the subject has no tasks, or no topics of one container";
    if (world->subject->subscriptions_max == 1 && scene->prepare != one_to_all &&
        scene->prepare != one_with_an_event)
        return "the subject has one subscription only";
    if (scene->prepare == one_to_each && !knows_topic(SUBJECT_TOPIC_EXEC))
        return "the subject has no topics of one exec";
    if (scene->shares && !(can(SUBJECT_SHARED) && world->subject->ref && world->subject->unref))
        return "the subject's subscriptions can't be shared";
    return NULL;
}

bool outcomes_known(const char *name)
{
    for (size_t i = 0; i < SCENES; i++)
        if (strcmp(name, scene_at(i)->name) == 0)
            return true;
    return strcmp(name, "all") == 0;
}

int outcomes_run(void)
{
    const char *name = world->options.outcomes;
    bool all = strcmp(name, "all") == 0;
    report_heading();
    printf("outcomes      what one thread found, the other, and what was there in the end (-: "
           "nothing, !: closed)\n");
    scene_bus(worker_step);
    must(reaper_start(), "start a reaper");
    struct worker *actors[THREADS];
    for (unsigned t = 0; t < THREADS; t++)
        actors[t] = worker_start("actor", t, actor, (void *)(uintptr_t)t);
    for (size_t i = 0; i < SCENES; i++) {
        const struct small_scene *scene = scene_at(i);
        if (!all && strcmp(name, scene->name) != 0)
            continue;
        const char *why = unfit(scene);
        if (why)
            printf("scene         %s: not run, %s\n", scene->name, why);
        else
            run_scene(scene, (double)world->options.seconds / (all ? (double)SCENES : 1.0));
    }
    atomic_store(&play.over, true);
    atomic_fetch_add_explicit(&play.begun, 1, memory_order_release);
    for (unsigned t = 0; t < THREADS; t++)
        worker_join(actors[t]);
    must(reaper_stop(), "stop the reaper");
    scene_bus_end();
    printf("%s\n", verdict_good() ? "PASS" : "FAIL");
    return verdict_good() ? EXIT_PASS : EXIT_VIOLATION;
}
