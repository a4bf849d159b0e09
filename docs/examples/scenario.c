/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A scenario of its own for exitbus-stress: two threads play ping-pong. See docs/subjects.md. */
#include <errno.h>
#include <exitbus-stress/scenario.h>
#include <time.h>

#define WAIT_NS 1000000000

static const struct scenario_engine *engine;

/* A player has a series of events, and is subscribed to that of the other. */
static struct player {
    int producer;
    struct subject_topic topic; /* of its own series */
    struct player *other;
    void *subscription;
} players[2];

static bool is_old(const struct subject_event *event)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    return now_ns > event->begin_ns + WAIT_NS / 2;
}

/* True if the next event of the other one has come. */
static bool await_ball(struct player *player, uint64_t number)
{
    struct subject_event event;
    while (!engine->over()) {
        ssize_t got = engine->receive(player->subscription, &event, 1, WAIT_NS);
        bool late = got == -ETIMEDOUT && engine->receive(player->subscription, &event, 1, 0) == 1;
        if (got < 0 && !late)
            continue; /* -ETIMEDOUT: not yet; -ENOMEM: in scenario oom */
        engine->checked(SUBJECT_G1, 1);
        if (event.number == number && !(late && is_old(&event)))
            return true;
        engine->violated(SUBJECT_G1, late ? "ball %lu was there, and the player of %lu slept on"
                                          : "ball %lu came in the place of ball %lu",
                         (unsigned long)event.number, (unsigned long)number);
        return false;
    }
    return false;
}

static void play(void *argument)
{
    struct player *player = argument;
    bool serves = player == &players[0];
    for (uint64_t number = 1; player->subscription; number++) {
        if (serves && !engine->send(player->producer, 1))
            break;
        if (!await_ball(player, number))
            break;
        if (!serves && !engine->send(player->producer, 1))
            break;
        if (engine->random_below(100) == 0)
            engine->nap(1000000);
    }
    if (player->subscription)
        engine->unsubscribe(player->subscription);
}

static const char *unfit(const struct scenario_engine *e)
{
    bool pids = e->subject->topics & SUBJECT_TOPIC_BIT(SUBJECT_TOPIC_PID);
    return pids ? NULL : "the subject has no topics of one pid";
}

static void start(const struct scenario_engine *e)
{
    engine = e;
    for (int i = 0; i < 2; i++) {
        players[i].other = &players[1 - i];
        players[i].producer = engine->producer(&players[i].topic);
        if (players[i].producer < 0)
            return;
    }
    for (int i = 0; i < 2; i++)
        players[i].subscription = engine->subscribe(&players[i].other->topic, 0);
    for (int i = 0; i < 2; i++)
        engine->start_thread("player", play, &players[i]);
}

const struct scenario_plugin exitbus_stress_scenario = {
    SCENARIO_HEAD("ping-pong", "two threads that wait for each other: a lost wake-up is seen"),
    .unfit = unfit,
    .start = start,
};
