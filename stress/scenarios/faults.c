/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bad input, forked children, one-shots and buses that come and go: see scenarios.h. */
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/world.h"
#include "scenarios.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void expect(enum guarantee guarantee, long result, long wanted, const char *what)
{
    if (result != wanted)
        verdict_violated(guarantee, "%s says %ld, not %ld", what, result, wanted);
    verdict_held(guarantee, 1);
}

static void bad_input(void)
{
    struct exitbus_subscription *subscription = NULL;
    struct exitbus_event event;
    char long_id[EXITBUS_ID_MAX + 2];
    memset(long_id, 'x', sizeof long_id);
    long_id[EXITBUS_ID_MAX + 1] = '\0';
    expect(G8, exitbus_publish(world.bus, NULL, NULL), -EINVAL, "publish of NULL");
    expect(G8, exitbus_publish_pid(world.bus, 0, 0), -EINVAL, "publish of pid 0");
    expect(G8, exitbus_publish_exec(world.bus, long_id, "e", 0), -EINVAL, "a long container id");
    expect(G8, exitbus_publish_exec(world.bus, "c", long_id, 0), -EINVAL, "a long exec id");
    expect(G8, exitbus_publish_exec(world.bus, "c", NULL, 0), -EINVAL, "a NULL exec id");
    expect(G8, exitbus_publish_wait(world.bus, 1, 0x137f, NULL), -EINVAL, "a stopped child");
    expect(G8, exitbus_subscribe(world.bus, exitbus_topic_pid(-1), 0, &subscription), -EINVAL,
           "a topic of pid -1");
    expect(G8, exitbus_subscribe(world.bus, exitbus_topic_all(), 0x80, &subscription), -EINVAL,
           "an unknown flag");
    expect(G8, exitbus_receive(NULL, &event, 0), -EINVAL, "receive on NULL");
    expect(G8, exitbus_unsubscribe(NULL), 0, "unsubscribe of NULL");
    struct exitbus_reaper *reaper;
    struct exitbus_reaper_options all = {.mode = EXITBUS_REAPER_ALL};
    expect(G8, exitbus_reaper_start(world.bus, &all, &reaper), -EBUSY, "a second ALL reaper");
    if (subscription)
        verdict_violated(G8, "a failed subscribe has given a subscription");
}

/* In the child: 0 if every call says what it should. */
static int try_in_child(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    struct exitbus_stats stats;
    struct exitbus_subscription *other;
    return !(exitbus_publish_pid(world.bus, SYNTHETIC_PID, 0) == -ESTALE &&
             exitbus_receive(subscription, &event, -1) == -ESTALE &&
             exitbus_subscribe(world.bus, exitbus_topic_all(), 0, &other) == -ESTALE &&
             exitbus_stats(world.bus, &stats) == -ESTALE &&
             exitbus_unsubscribe(subscription) == -ESTALE);
}

static void fork_once(void)
{
    struct exitbus_subscription *subscription;
    int answer[2];
    if (pipe(answer) != 0)
        return;
    expect(G9, exitbus_subscribe(world.bus, exitbus_topic_all(), 0, &subscription), 0, "subscribe");
    count(&world.forked, 1);
    pid_t pid = fork();
    if (pid == 0) {
        char byte = (char)try_in_child(subscription);
        _exit(write(answer[1], &byte, 1) != 1);
    }
    close(answer[1]);
    char byte = 1;
    if (pid < 0 || read(answer[0], &byte, 1) != 1 || byte != 0)
        verdict_violated(G9, "a forked child was not told that the bus is not its own");
    close(answer[0]);
    verdict_held(G9, 1);
    /* The parent goes on: the child's exit arrives among all the others. */
    struct exitbus_event event;
    int result = exitbus_wait_pid(subscription, pid, 60000000000LL, &event);
    if (pid > 0 && (result < 0 || event.exit_code != 0))
        verdict_violated(G9, "the exit of a forked child: %s", exitbus_strerror(result));
    exitbus_unsubscribe(subscription);
}

static void one_shot(void)
{
    struct exitbus_subscription *subscription;
    expect(G8,
           exitbus_subscribe(world.bus, exitbus_topic_any_pid(), EXITBUS_SUBSCRIBE_ONE_SHOT,
                             &subscription),
           0, "a one-shot subscription");
    struct exitbus_event event;
    int result = exitbus_receive(subscription, &event, 1000000000);
    if (result == 0) /* none may come in that time: on a stopped machine */
        expect(G1, exitbus_receive(subscription, &event, -1), -ESHUTDOWN,
               "a one-shot that had its event");
    exitbus_unsubscribe(subscription);
}

/* A bus of its own, destroyed with somebody's subscription still there. */
static void other_bus(void)
{
    struct exitbus *bus;
    struct exitbus_subscription *subscription;
    struct exitbus_event event;
    expect(G8, exitbus_create(&bus, NULL), 0, "create");
    expect(G8, exitbus_subscribe(bus, exitbus_topic_all(), 0, &subscription), 0, "subscribe");
    for (int i = 0; i < 1000; i++)
        expect(G6, exitbus_publish_pid(bus, 1, 0), 0, "publish");
    expect(G6, exitbus_receive(subscription, &event, 0), 0, "receive");
    expect(G6, exitbus_destroy(bus), 0, "destroy");
    expect(G6, exitbus_receive(subscription, &event, -1), -ESHUTDOWN, "receive after destroy");
    expect(G6, exitbus_unsubscribe(subscription), 0, "unsubscribe after destroy");
}

void *scenario_faults(void *argument)
{
    struct random random = random_for('f', (uintptr_t)argument);
    const struct timespec nap = {.tv_nsec = 5000000};
    while (!flag(&world.stop_churn)) {
        bad_input();
        one_shot();
        if (random_below(&random, 10) == 0)
            fork_once();
        if (random_below(&random, 20) == 0)
            other_bus();
        nanosleep(&nap, NULL);
    }
    return NULL;
}
