/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Is the descriptor right for tokio? A million events from another thread, then 5,000 children in
 * pairs, each pair when the last has come: all of them come, or this never ends, and at most one
 * wake-up in twenty is for nothing (G13).
 */
#include "support/children.h"

#include <sched.h>

#define EVENTS 1000000
#define CHILDREN 5000

struct seen {
    uint64_t events, wake_ups, empty;
};

void tokio_consume(struct exitbus_subscription *subscription, uint64_t want,
                   void (*received)(uint64_t events), struct seen *seen);

static struct exitbus *bus;
static struct exitbus_reaper *reaper;
static uint64_t started;

static void *publisher(void *nothing)
{
    for (int i = 1; i <= scaled(EVENTS); i++) {
        must_equal(exitbus_publish_pid(bus, i, 0), 0);
        if (i % 97 == 0)
            sched_yield();
    }
    return nothing;
}

static void nothing_to_do(uint64_t events)
{
    (void)events;
}

static void next_pair(uint64_t events)
{
    if (events < started || started == scaled(CHILDREN))
        return;
    for (int i = 0; i < 2; i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            char *argv[] = {TINY_CHILD, "3", NULL};
            execv(TINY_CHILD, argv);
            _exit(127);
        }
        must(pid > 0);
        must_equal(exitbus_reaper_watch(reaper, pid), 0);
    }
    started += 2;
}

static void run(const char *what, uint64_t want, void (*received)(uint64_t events))
{
    struct seen seen = {0};
    struct exitbus_subscription *subscription = subscribe(bus, exitbus_topic_any_pid());
    pthread_t thread = 0;
    if (received == nothing_to_do)
        thread = thread_start(publisher, NULL);
    tokio_consume(subscription, want, received, &seen);
    if (received == nothing_to_do)
        thread_join(thread);
    printf("tokio, %s: %llu events, %llu wake-ups, %llu for nothing\n", what,
           (unsigned long long)seen.events, (unsigned long long)seen.wake_ups,
           (unsigned long long)seen.empty);
    must_equal(seen.events, want);
    must(seen.empty * 20 <= want + 60);
    must_equal(exitbus_unsubscribe(subscription), 0);
}

int main(void)
{
    bus = bus_new();
    reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    run("events", scaled(EVENTS), nothing_to_do);
    run("children", scaled(CHILDREN), next_pair);
    must_equal(exitbus_reaper_stop(reaper), 0);
    must_equal(exitbus_destroy(bus), 0);
    return 0;
}
