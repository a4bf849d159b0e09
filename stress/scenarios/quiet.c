/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Receivers that sleep: those that nobody wakes, and those that an event finds falling asleep. */
#include "../checks/latency.h"
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "../engine/stopper.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#define IDLERS 3
#define IDLE_NS 1000000000
/*
 * Times that a thread may go to sleep in one call: its own; for locks of the kernel's that others
 * hold (page faults, while it helps a publisher); and each SIGSTOP. A thread that is woken at
 * intervals does so more often, and in one call after another.
 */
#define IDLE_SWITCHES 6
#define STOP_SWITCHES 2
#define ECHO_PAIRS 2
#define SPIN_MAX 2000
/* Before there is any other publisher, whose wake-ups might make up for one that was lost. */
#define QUIET_ROUNDS 300

/* --------------------------------------------------------------------------------------- idle */

static long switches(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

/* Sleeps on a topic to which nothing is ever published. */
static void *idle_body(void *number)
{
    struct subject_topic topic = {.kind = SUBJECT_TOPIC_PID,
                                  .pid = SYNTHETIC_PID - 2 - (int32_t)(uintptr_t)number};
    struct subject_event event;
    void *subscription = subscribe_surely(&topic, 0);
    worker_block_signals();
    atomic_store(&self->unstepped, true);
    long last = 0;
    while (subscription && !flag(&world->stop_churn)) {
        long before = switches() - STOP_SWITCHES * (long)stopper_stops();
        ssize_t got = call_receive(subscription, &event, 1, IDLE_NS);
        long times = switches() - STOP_SWITCHES * (long)stopper_stops() - before;
        if (got > 0)
            verdict_violated(NO_LOSS, "an event for pid %d on the subscription to %d", event.pid,
                             topic.pid);
        else if (got == -ETIMEDOUT && times > IDLE_SWITCHES && last > IDLE_SWITCHES)
            verdict_violated(REST,
                             "a thread that had nothing to receive was woken %ld times in "
                             "a second",
                             times - 1);
        verdict_checked(REST, 1);
        last = times;
    }
    if (subscription)
        call_unsubscribe(subscription);
    return NULL;
}

static const char *idle_unfit(void)
{
#ifdef __SANITIZE_THREAD__
    return "ThreadSanitizer wakes sleeping threads itself";
#else
    if (!can(SUBJECT_WAITS))
        return "the subject's receive does not wait";
    return needs_topics_of_one_pid();
#endif
}

static void idle_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    crew_start(visitors, "idle", idle_body, IDLERS);
}

const struct scenario idle_scenario = {
    "idle", "threads that wait for what never comes: nothing may wake them", idle_unfit, idle_start,
    NULL};

/* --------------------------------------------------------------------------------------- echo */

/* One answers each event of the other; both sleep in between, or are just about to. */
struct half {
    struct publisher publisher;
    struct half *other;
    void *subscription; /* to what the other publishes */
    struct stream stream;
    bool leads;
};

static struct half halves[2 * ECHO_PAIRS];

static void spin(void)
{
    for (unsigned i = random_below(&self->random, SPIN_MAX); i > 0; i--)
        atomic_signal_fence(memory_order_seq_cst);
}

static ssize_t wait_for_echo(const struct half *half, struct subject_event *event)
{
    int64_t patience = patience_ns();
    uint64_t end = now_ns() + (uint64_t)patience;
    ssize_t got;
    if (!world->subject->fd || half - halves >= 2)
        do
            got = call_receive(half->subscription, event, 1, patience);
        while (got == -ENOMEM && now_ns() < end);
    else
        do {
            got = call_receive(half->subscription, event, 1, 0);
            if (got == -EAGAIN)
                call_poll(half->subscription, (int)world->options.patience * 1000);
        } while ((got == -EAGAIN || got == -ENOMEM) && now_ns() < end);
    return got;
}

static bool hear(struct half *half)
{
    struct subject_event event;
    ssize_t got = wait_for_echo(half, &event);
    uint64_t now = now_ns();
    if (got == 1)
        stream_check(&half->stream, &event, 1);
    if (got != 1) {
        verdict_violated(NO_LOSS, "no event came to a sleeping receiver: %s", strerror((int)-got));
        return false;
    }
    uint64_t end_ns = event.begin_ns;
    latency_add(LATENCY_PUBLISHED, now - end_ns);
    if (now - end_ns > (uint64_t)world->options.patience * 900000000)
        verdict_violated(NO_LOSS, "a receiver slept on for %.1f s after an event had come",
                         (double)(now - end_ns) / 1e9);
    return true;
}

/* A few rounds, each begun by the one that leads. */
static void *quiet_echo_body(void *argument)
{
    struct half *half = &halves[(uintptr_t)argument];
    worker_block_signals(); /* a signal would wake what the bus has left asleep */
    for (unsigned round = 0; round < QUIET_ROUNDS; round++) {
        spin();
        if (half->leads && !publisher_send(&half->publisher, 1))
            break;
        if (!hear(half))
            break;
        if (!half->leads && !publisher_send(&half->publisher, 1))
            break;
    }
    return NULL;
}

static void *echo_body(void *argument)
{
    struct half *half = &halves[(uintptr_t)argument];
    worker_block_signals();
    /* The one that leads sends a last event when it ends; the other answers, and ends on it. */
    if (half->leads)
        publisher_send(&half->publisher, 1);
    while (hear(half)) {
        bool over = flag(&world->stop_churn);
        spin();
        publisher_send(&half->publisher, 1);
        if (over)
            break;
    }
    call_unsubscribe(half->subscription);
    return NULL;
}

static bool half_begin(struct half *half)
{
    struct subject_topic topic = synthetic_own_topic(half->other->publisher.producer);
    stream_prepare(&half->stream, &topic);
    half->subscription = subscribe_surely(&topic, 0);
    stream_begin(&half->stream);
    return half->subscription;
}

static void echo_first(void)
{
    memset(halves, 0, sizeof halves);
    for (unsigned i = 0; i < 2 * ECHO_PAIRS; i++) {
        halves[i] = (struct half){.other = &halves[i ^ 1], .leads = i % 2 == 0};
        if (!publisher_claim(&halves[i].publisher))
            return;
    }
    for (unsigned i = 0; i < 2 * ECHO_PAIRS; i++)
        if (!half_begin(&halves[i]))
            return;
    /* Two halves that sleep in the same way: one pair after the other. */
    for (unsigned pair = 0; pair < ECHO_PAIRS; pair++) {
        struct crew crew = {0};
        crew_add(&crew, "quiet echo", 2 * pair, quiet_echo_body);
        crew_add(&crew, "quiet echo", 2 * pair + 1, quiet_echo_body);
        crew_join(&crew);
    }
}

static void echo_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    if (halves[2 * ECHO_PAIRS - 1].subscription) /* the last to begin: so all have */
        crew_start(visitors, "echo", echo_body, 2 * ECHO_PAIRS);
}

const struct scenario echo_scenario = {
    "echo", "receivers caught just as they fall asleep: a wake-up that is lost",
    needs_topics_of_one_pid, echo_start, echo_first};
