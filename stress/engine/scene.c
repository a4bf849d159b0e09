/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The calls of a scene: see scene.h. */
#include "scene.h"
#include "../checks/shrink.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "calls.h"
#include "ends.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_EACH 10
#define PUBLISHES_MAX 6
#define SUBSCRIPTIONS_MAX 3
/* Then at most 40 calls by the threads, and 18 events and three ends to take out. */
_Static_assert(SCENE_THREADS *CALLS_EACH + (PUBLISHES_MAX + 1) * SUBSCRIPTIONS_MAX <=
                   LINEAR_OPERATIONS_MAX,
               "a scene is one history");
_Static_assert(SUBSCRIPTIONS_MAX <= LINEAR_SUBSCRIPTIONS_MAX, "a scene is one history");

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
    struct slot slots[SUBSCRIPTIONS_MAX];
    _Atomic unsigned publishes;
    uint8_t topic_of[PUBLISHES_MAX + 1];      /* by event number, from 1 */
    struct script scripts[SCENE_THREADS + 1]; /* the last: who takes out what is left */
    bool shared;                              /* several threads use one subscription */
} scene;

static uint64_t real_time(bool begins)
{
    (void)begins;
    return now_ns();
}

uint64_t (*scene_clock)(bool begins) = real_time;

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
                                           .begin_ns = scene_clock(true)};
    beside_the_clock();
    return operation;
}

/* The call has returned: it belongs to the history if it succeeded. */
static void noted(unsigned thread, struct linear_operation *operation, int64_t outcome,
                  const char *what)
{
    beside_the_clock();
    operation->end_ns = scene_clock(false);
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
    if (!scene.shared && thread < SCENE_THREADS && slot->owner != thread)
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

/* --------------------------------------------------------------------------------------- scene */

void scene_play(unsigned thread)
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

void scene_prepare(void)
{
    scene.shared = world->subject->ref && world->subject->unref && can(SUBJECT_SHARED);
    for (unsigned t = 0; t <= SCENE_THREADS; t++)
        scene.scripts[t].count = 0;
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX; i++)
        atomic_store(&scene.slots[i].state, SLOT_FREE);
    atomic_store(&scene.publishes, 0);
}

/* A bus that is right has each event once on each subscription. */
static void take_out(unsigned number)
{
    for (unsigned i = 0; i <= PUBLISHES_MAX; i++)
        if (!do_receive(SCENE_THREADS, number))
            return;
    verdict_violated(NO_LOSS, "more events were received than were published");
}

void scene_clear(void)
{
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX; i++)
        if (atomic_load(&scene.slots[i].state) == SLOT_OPEN)
            take_out(i);
    for (unsigned i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        struct slot *slot = &scene.slots[i];
        unsigned state = atomic_load(&slot->state);
        if (state == SLOT_OPEN)
            call_unsubscribe(slot->subscription);
        if (state >= SLOT_OPEN && scene.shared)
            subject_unref(slot->subscription);
    }
}

static int by_begin(const void *a, const void *b)
{
    const struct linear_operation *one = a, *other = b;
    return (one->begin_ns > other->begin_ns) - (one->begin_ns < other->begin_ns);
}

size_t scene_history(struct linear_operation operations[LINEAR_OPERATIONS_MAX])
{
    size_t count_ = 0;
    for (unsigned t = 0; t <= SCENE_THREADS; t++)
        for (unsigned i = 0; i < scene.scripts[t].count; i++)
            operations[count_++] = scene.scripts[t].operations[i];
    qsort(operations, count_, sizeof operations[0], by_begin);
    return count_;
}

void scene_bus(void (*step)(unsigned place))
{
    const struct subject *subject = world->subject;
    if (world->bus)
        must(call_destroy(), "destroy");
    must(call_create(), "create");
    if (subject->set_step)
        subject->set_step(step);
}

void scene_bus_end(void)
{
    if (world->subject->set_step)
        world->subject->set_step(NULL);
    must(call_destroy(), "destroy");
}

void scene_explain(FILE *file, const char *which, struct linear_operation *operations,
                   size_t count_)
{
    static struct linear_explanation why;
    size_t left = shrink(operations, count_, SCENE_BUDGET);
    linear_check(operations, left, SCENE_BUDGET, &why);
    fprintf(file,
            "%s is not linearizable: no order of these calls explains what they returned (%zu of "
            "%zu calls)\n",
            which, left, count_);
    shrink_print(file, operations, left, &why);
}

bool scene_judged(void)
{
    return verdict_claimed(NO_LOSS) && verdict_claimed(STRICT_FIFO) &&
           verdict_claimed(NONE_AFTER_UNSUBSCRIBE);
}
