/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Who receives what: every kind of topic against every kind of event, as one table, for each way to
 * receive and each way to publish.
 */
#include "support/events.h"
#include "support/harness.h"
#include "support/ways.h"

/* The events, in the order of publishing. The pid of FAR shares PID_A's place in the directory. */
#define PID_A 10
#define PID_B 20
#define PID_FAR (PID_A + 65536)
#define TWENTY "0123456789abcdefghij"
#define LONGEST TWENTY TWENTY TWENTY TWENTY TWENTY TWENTY "012345" /* and one more */
_Static_assert(sizeof LONGEST "a" == EXITBUS_ID_MAX + 1, "as long as can be");

static const struct {
    pid_t pid; /* > 0: a pid event, unless there is a container id */
    const char *container_id;
    const char *exec_id;
} events[] = {
    {PID_A, NULL, NULL},           /* 0 */
    {PID_B, NULL, NULL},           /* 1 */
    {PID_FAR, NULL, NULL},         /* 2 */
    {0, "web", "shell"},           /* 3 */
    {0, "web", ""},                /* 4: the container itself */
    {0, "web", "shell2"},          /* 5 */
    {0, "web2", "shell"},          /* 6 */
    {0, "web2", ""},               /* 7 */
    {0, "webs", "hell"},           /* 8: the same bytes as 3, cut elsewhere */
    {PID_A, "web", "job"},         /* 9: an exec whose pid is known */
    {PID_A, NULL, NULL},           /* 10: the pid again */
    {0, "web", "shell"},           /* 11: the exec again */
    {0, LONGEST "a", LONGEST "b"}, /* 12: six cells */
};
#define EVENTS (sizeof events / sizeof events[0])

/* The topics; a column for each event: 1 is received, . is not. */
static const struct {
    struct exitbus_topic topic;
    const char *receives;
} topics[] = {
    /*                                                             0123456789abc */
    {{.kind = EXITBUS_TOPIC_ALL}, /*                            */ "1111111111111"},
    {{.kind = EXITBUS_TOPIC_ANY_PID}, /*                        */ "111.......1.."},
    {{.kind = EXITBUS_TOPIC_PID, .pid = PID_A}, /*              */ "1.........1.."},
    {{.kind = EXITBUS_TOPIC_PID, .pid = PID_B}, /*              */ ".1..........."},
    {{.kind = EXITBUS_TOPIC_PID, .pid = PID_FAR}, /*            */ "..1.........."},
    {{.kind = EXITBUS_TOPIC_PID, .pid = 30}, /*                 */ "............."},
    {{.kind = EXITBUS_TOPIC_ANY_EXEC}, /*                       */ "...1111111.11"},
    {{EXITBUS_TOPIC_CONTAINER, 0, "web", NULL}, /*              */ "...111...1.1."},
    {{EXITBUS_TOPIC_CONTAINER, 0, "web2", NULL}, /*             */ "......11....."},
    {{EXITBUS_TOPIC_CONTAINER, 0, "webs", NULL}, /*             */ "........1...."},
    {{EXITBUS_TOPIC_CONTAINER, 0, "we", NULL}, /*               */ "............."},
    {{EXITBUS_TOPIC_EXEC, 0, "web", "shell"}, /*                */ "...1.......1."},
    {{EXITBUS_TOPIC_EXEC, 0, "web", ""}, /*                     */ "....1........"},
    {{EXITBUS_TOPIC_EXEC, 0, "web", "shell2"}, /*               */ ".....1......."},
    {{EXITBUS_TOPIC_EXEC, 0, "web", "she"}, /*                  */ "............."},
    {{EXITBUS_TOPIC_EXEC, 0, "web2", "shell"}, /*               */ "......1......"},
    {{EXITBUS_TOPIC_EXEC, 0, "web2", ""}, /*                    */ ".......1....."},
    {{EXITBUS_TOPIC_EXEC, 0, "webs", "hell"}, /*                */ "........1...."},
    {{EXITBUS_TOPIC_EXEC, 0, "web", "job"}, /*                  */ ".........1..."},
    {{EXITBUS_TOPIC_EXEC, 0, "db", ""}, /*                      */ "............."},
    {{EXITBUS_TOPIC_CONTAINER, 0, LONGEST "a", NULL}, /*        */ "............1"},
    {{EXITBUS_TOPIC_CONTAINER, 0, LONGEST "b", NULL}, /*        */ "............."},
    {{EXITBUS_TOPIC_EXEC, 0, LONGEST "a", LONGEST "b"}, /*      */ "............1"},
    {{EXITBUS_TOPIC_EXEC, 0, LONGEST "a", LONGEST "c"}, /*      */ "............."},
    {{EXITBUS_TOPIC_ALL, PID_A, "web", "shell"}, /*             */ "1111111111111"},
};
#define TOPICS (sizeof topics / sizeof topics[0])

static struct exitbus_event event_make(size_t index)
{
    struct exitbus_event event = events[index].container_id
                                     ? exec_event(events[index].container_id, events[index].exec_id)
                                     : pid_event(events[index].pid);
    event.pid = events[index].pid;
    event.exit_code = (int)index;
    event.monotonic_ns = event.realtime_ns = 1;
    return event;
}

/* Each at a time, or all in one batch, or by the short forms where these can say it. */
enum publishing { ONE_BY_ONE, IN_A_BATCH, SHORT_FORMS, PUBLISHINGS };

static void publish_all(struct exitbus *bus, enum publishing publishing)
{
    struct exitbus_event all[EVENTS];
    for (size_t i = 0; i < EVENTS; i++) {
        all[i] = event_make(i);
        if (publishing == ONE_BY_ONE || (publishing == SHORT_FORMS && i == 9))
            check_equal(exitbus_publish(bus, &all[i], NULL), 0);
        else if (publishing == SHORT_FORMS && all[i].kind == EXITBUS_EVENT_PID)
            check_equal(exitbus_publish_pid(bus, all[i].pid, (int)i), 0);
        else if (publishing == SHORT_FORMS)
            check_equal(exitbus_publish_exec(bus, all[i].container_id, all[i].exec_id, (int)i), 0);
    }
    if (publishing == IN_A_BATCH)
        check_equal(exitbus_publish_batch(bus, all, EVENTS, NULL), 0);
}

/* One subscriber: a thread that receives until it is closed, and what it has got. */
struct subscriber {
    struct exitbus_subscription *subscription;
    enum way way;
    char received[EVENTS + 1]; /* as in the table */
    uint64_t last;
    unsigned count;
};

static void take_note(struct subscriber *subscriber, const struct exitbus_event *event)
{
    must(event->seq > subscriber->last && event->seq <= EVENTS);
    subscriber->last = event->seq;
    size_t index = event->seq - 1;
    struct exitbus_event expected = event_make(index);
    must_equal(event->exit_code, index);
    must_equal(event->pid, expected.pid);
    must_equal(event->kind, expected.kind);
    must(strcmp(event->container_id, expected.container_id) == 0);
    must(strcmp(event->exec_id, expected.exec_id) == 0);
    subscriber->received[index] = '1';
    subscriber->count++;
}

static void *receive_until_closed(void *argument)
{
    struct subscriber *subscriber = argument;
    struct exitbus_event batch[3];
    ssize_t count;
    while ((count = way_receive(subscriber->way, subscriber->subscription, batch, 3)) > 0)
        for (ssize_t i = 0; i < count; i++)
            take_note(subscriber, &batch[i]);
    must_equal(count, -ESHUTDOWN);
    must_equal(exitbus_subscription_unref(subscriber->subscription), 0);
    return NULL;
}

static void subscriber_start(struct exitbus *bus, struct subscriber *subscriber, enum way way,
                             size_t topic, uint32_t flags, pthread_t *thread)
{
    *subscriber = (struct subscriber){.way = way};
    memset(subscriber->received, '.', EVENTS);
    subscriber->subscription = subscribe_flags(bus, topics[topic].topic, flags);
    check_ok(exitbus_subscription_ref(subscriber->subscription));
    *thread = thread_start(receive_until_closed, subscriber);
}

/* What topic i receives; with `first_only` just its first event. */
static void check_row(size_t topic, const char *received, bool first_only)
{
    char expected[EVENTS + 1];
    memcpy(expected, topics[topic].receives, sizeof expected);
    char *first = strchr(expected, '1');
    if (first_only && first)
        memset(first + 1, '.', strlen(first + 1));
    if (memcmp(expected, received, EVENTS) != 0)
        fprintf(stderr, "topic %zu: %s expected, %s received\n", topic, expected, received);
    check(memcmp(expected, received, EVENTS) == 0);
}

TEST_EACH_WAY(monitor_table, each_topic_receives_its_events)
{
    for (enum publishing publishing = 0; publishing < PUBLISHINGS; publishing++) {
        struct exitbus *bus = bus_new();
        struct subscriber subscribers[TOPICS];
        pthread_t threads[TOPICS];
        for (size_t i = 0; i < TOPICS; i++)
            subscriber_start(bus, &subscribers[i], way, i, 0, &threads[i]);
        if (way == WAY_BLOCKING)
            await(stats_of(bus).sleeping_receivers == TOPICS);
        publish_all(bus, publishing);
        for (size_t i = 0; i < TOPICS; i++) {
            await(exitbus_subscription_pending(subscribers[i].subscription) == 0);
            check_ok(exitbus_unsubscribe(subscribers[i].subscription));
            thread_join(threads[i]);
            check_row(i, subscribers[i].received, false);
        }
        check_equal(stats_of(bus).dropped, 0);
        check_ok(exitbus_destroy(bus));
    }
}

/* The events are there before anybody begins to receive. */
TEST_EACH_WAY(monitor_table, each_topic_receives_its_events_late)
{
    struct exitbus *bus = bus_new();
    struct subscriber subscribers[TOPICS];
    for (size_t i = 0; i < TOPICS; i++) {
        subscribers[i] = (struct subscriber){.subscription = subscribe(bus, topics[i].topic)};
        memset(subscribers[i].received, '.', EVENTS);
        way_prepare(way, subscribers[i].subscription);
    }
    publish_all(bus, ONE_BY_ONE);
    for (size_t i = TOPICS; i-- > 0;) {
        struct exitbus_subscription *subscription = subscribers[i].subscription;
        ssize_t pending;
        while ((pending = exitbus_subscription_pending(subscription)) > 0) {
            struct exitbus_event event;
            check_equal(way_receive(way, subscription, &event, 1), 1);
            check_equal(exitbus_subscription_pending(subscription), pending - 1);
            take_note(&subscribers[i], &event);
        }
        must_be_empty(subscription);
        check_row(i, subscribers[i].received, false);
        check_ok(exitbus_unsubscribe(subscription));
    }
    check_ok(exitbus_destroy(bus));
}

TEST_EACH_WAY(monitor_table, one_shot_receives_its_first_event)
{
    for (enum publishing publishing = 0; publishing < PUBLISHINGS; publishing++) {
        struct exitbus *bus = bus_new();
        struct subscriber subscribers[TOPICS];
        pthread_t threads[TOPICS];
        for (size_t i = 0; i < TOPICS; i++)
            subscriber_start(bus, &subscribers[i], way, i, EXITBUS_SUBSCRIBE_ONE_SHOT, &threads[i]);
        publish_all(bus, publishing);
        for (size_t i = 0; i < TOPICS; i++) {
            bool closes_itself = strchr(topics[i].receives, '1');
            if (closes_itself)
                thread_join(threads[i]);
            check_ok(exitbus_unsubscribe(subscribers[i].subscription));
            if (!closes_itself)
                thread_join(threads[i]);
            check_row(i, subscribers[i].received, true);
        }
        check_equal(stats_of(bus).dropped, 0);
        check_ok(exitbus_destroy(bus));
    }
}
