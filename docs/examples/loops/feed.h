/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the examples of event loops share for their test. A program of yours needs none of it.
 * A thread publishes events, single ones and bursts, and starts children. The loop counts them.
 *
 * Arguments of each example: EVENTS [CHILDREN [edge]]. Each prints one line: its name, how many
 * events it has received, how many wake-ups it has had, and how many of them have found nothing.
 */
#ifndef FEED_H
#define FEED_H

#include <errno.h>
#include <exitbus/exitbus.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Published while the loop is idle, for nobody. */
#define FEED_FOREIGN 1000

struct feed {
    const char *name;
    long events, children; /* that will come */
    bool edge;             /* the loop is to be edge-triggered */
    long lose;             /* the number of an event that feed_event() loses; 0: none */

    struct exitbus *bus;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    long received; /* written by the loop, under the lock */
    long sent;     /* the thread's own */

    /* The loop's own. */
    long number; /* of the last event */
    long found;  /* events of this wake-up */
    long wake_ups, empty;
};

static inline __attribute__((noreturn)) void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Returns what a call of exitbus has returned, if that is no error. */
static inline int must(const char *what, int result)
{
    if (result < 0)
        fail(what, exitbus_strerror(result));
    return result;
}

static inline long feed_number(const char *text, long least)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < least || number > INT_MAX)
        fail(text, "not a number of events or children");
    return number;
}

/* Read the arguments. `may_edge`: the example can be edge-triggered and level-triggered. */
static inline void feed_arguments(struct feed *feed, const char *name, int argc, char **argv,
                                  bool may_edge)
{
    const char *lose = getenv("FEED_LOSE");
    memset(feed, 0, sizeof *feed);
    feed->name = name;
    if (argc < 2 || argc > (may_edge ? 4 : 3))
        fail("usage", may_edge ? "NAME EVENTS [CHILDREN [edge]]" : "NAME EVENTS [CHILDREN]");
    if (argc == 4 && strcmp(argv[3], "edge") != 0)
        fail(argv[3], "not the word edge");
    feed->events = feed_number(argv[1], 1);
    feed->children = argc > 2 ? feed_number(argv[2], 0) : 0;
    feed->edge = argc == 4;
    feed->lose = lose ? feed_number(lose, 1) : 0;
}

/* -------------------------------------------------------------------- the thread that publishes */

/* Wait until the loop has received all that was sent. */
static inline void feed_wait(struct feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    while (feed->received < feed->sent)
        pthread_cond_wait(&feed->woken, &feed->lock);
    pthread_mutex_unlock(&feed->lock);
}

/* The exit code is the number of the event. Children exit with 0. */
static inline void feed_publish(struct feed *feed)
{
    int number = (int)++feed->sent;
    must("exitbus_publish_pid", exitbus_publish_pid(feed->bus, number, number));
}

static inline void feed_spawn(struct feed *feed)
{
    char program[] = "true";
    char *argv[] = {program, NULL};
    struct exitbus_spawn_options options;
    pid_t pid;
    memset(&options, 0, sizeof options);
    options.argv = argv;
    options.flags = EXITBUS_SPAWN_SEARCH_PATH;
    must("exitbus_spawn", exitbus_spawn(feed->bus, &options, &pid, NULL));
    feed->sent++;
}

/*
 * A hundred events each of three paces, by turns: single events, each when the loop has the last;
 * as fast as it goes, with a yield; bursts of fifty.
 */
static inline void *feed_run(void *argument)
{
    struct feed *feed = (struct feed *)argument;
    feed_publish(feed);
    feed_wait(feed);
    for (int i = 0; i < FEED_FOREIGN; i++)
        must("exitbus_publish_exec", exitbus_publish_exec(feed->bus, "web", "probe", 0));
    while (feed->sent < feed->events) {
        long pace = feed->sent / 100 % 3;
        feed_publish(feed);
        if (pace == 0 || (pace == 2 && feed->sent % 50 == 0))
            feed_wait(feed);
        else if (pace == 1)
            sched_yield();
    }
    for (long i = 0; i < feed->children; i++) {
        feed_spawn(feed);
        if (i % 2 == 1)
            feed_wait(feed);
    }
    return NULL;
}

/* The loop is ready: let events come. */
static inline void feed_start(struct feed *feed, struct exitbus *bus)
{
    feed->bus = bus;
    pthread_mutex_init(&feed->lock, NULL);
    pthread_cond_init(&feed->woken, NULL);
    int error = pthread_create(&feed->thread, NULL, feed_run, feed);
    if (error != 0)
        fail("pthread_create", strerror(error));
}

/* ------------------------------------------------------------------------------------- the loop */

/* An event was received. What your program does with it stands in the place of this call. */
static inline void feed_event(struct feed *feed, const struct exitbus_event *event)
{
    feed->found++;
    if (event->exit_code == 0 || event->exit_code == feed->lose)
        return;
    if (event->exit_code != ++feed->number) {
        fprintf(stderr, "%s: event %ld is missing, %d has come\n", feed->name, feed->number,
                event->exit_code);
        exit(1);
    }
}

/* The end of a wake-up. Returns whether more events are to come. */
static inline bool feed_woken(struct feed *feed)
{
    feed->wake_ups++;
    feed->empty += feed->found == 0;
    pthread_mutex_lock(&feed->lock);
    feed->received += feed->found;
    pthread_cond_signal(&feed->woken);
    pthread_mutex_unlock(&feed->lock);
    feed->found = 0;
    return feed->received < feed->events + feed->children;
}

/* Behind the loop, and before the bus is destroyed: wait for the publisher, and print the line. */
static inline void feed_end(struct feed *feed)
{
    pthread_join(feed->thread, NULL);
    if (feed->number != feed->events)
        fail(feed->name, "the last event is missing");
    printf("%s %ld %ld %ld\n", feed->name, feed->received, feed->wake_ups, feed->empty);
    fflush(stdout); /* Go's exit does not */
}

#endif
