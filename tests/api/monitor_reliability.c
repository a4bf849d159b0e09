/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Subscribers come and go while several threads publish: nothing lost, nothing twice, nothing out
 * of order, nothing after unsubscribe. Publishers write down what they have published and where it
 * was ordered, subscribers what they have received; when all is over one is held against the other.
 *
 * Between begin and end of a publish or a subscribe lies a tick of one clock that all threads
 * share, so "before" and "after" are known without looking at the time.
 */
#include "support/events.h"
#include "support/harness.h"
#include "support/ways.h"

#include <stdatomic.h>
#include <sys/resource.h>

#define PUBLISHERS 2
#define PIDS 4       /* 1 to PIDS */
#define CONTAINERS 3 /* each with EXECS execs, the first of which is the container itself */
#define EXECS 3
#define BACKLOG_MAX 1000 /* publishers wait when the steady subscriber lags this far behind */

static const char *const containers[CONTAINERS] = {"web", "db",
                                                   "a-name-that-takes-some-room-in-cells"};
static const char *const execs[EXECS] = {"", "shell", "another-name-that-takes-some-room-in-cells"};

/* ------------------------------------------------------------------------------- what happened */

/* Whom an event concerns, in small numbers: the test's own idea of matching needs no library. */
struct subject {
    uint8_t kind;
    uint8_t pid;
    uint8_t container;
    uint8_t exec;
};

struct published {
    struct subject subject;
    uint32_t publisher;  /* 1 to PUBLISHERS; 0: no such event */
    uint64_t number;     /* of its publisher */
    uint64_t begin, end; /* ticks */
    uint64_t latest_end; /* of this one and those before it in the order */
};

struct history {
    struct published *events; /* indexed by seq */
    uint64_t last;
};

struct received {
    uint64_t seq;
    uint64_t number;
    uint32_t publisher;
};

/* All that one subscription has received. */
struct journal {
    struct exitbus_topic topic;
    struct subject subject; /* what the topic names */
    uint64_t subscribing;   /* tick before subscribe was called */
    uint64_t subscribed;    /* tick after it had returned */
    struct received *events;
    size_t count, capacity;
    struct journal *next;
};

struct world {
    struct exitbus *bus;
    enum way way;
    _Atomic uint64_t clock;
    _Atomic bool stop; /* publishers */
    struct exitbus_subscription *steady;
    struct history written[PUBLISHERS]; /* by each publisher, in its own order */
    uint64_t *seqs[PUBLISHERS];
    _Atomic(struct journal *) journals;
    _Atomic unsigned numbers; /* of publishers */
    _Atomic uint64_t randoms;
};

static uint64_t tick(struct world *world)
{
    return atomic_fetch_add(&world->clock, 1);
}

static bool topic_wants(const struct journal *journal, const struct subject *subject)
{
    const struct subject *own = &journal->subject;
    bool pid = subject->kind == EXITBUS_EVENT_PID;
    switch (journal->topic.kind) {
    case EXITBUS_TOPIC_ALL:
        return true;
    case EXITBUS_TOPIC_ANY_PID:
        return pid;
    case EXITBUS_TOPIC_PID:
        return pid && subject->pid == own->pid;
    case EXITBUS_TOPIC_ANY_EXEC:
        return !pid;
    case EXITBUS_TOPIC_CONTAINER:
        return !pid && subject->container == own->container;
    default:
        return !pid && subject->container == own->container && subject->exec == own->exec;
    }
}

static struct journal *journal_new(struct world *world, uint64_t *random)
{
    struct journal *journal = calloc(1, sizeof *journal);
    must(journal);
    struct subject *own = &journal->subject;
    own->pid = (uint8_t)(1 + random_below(random, PIDS));
    own->container = (uint8_t)random_below(random, CONTAINERS);
    own->exec = (uint8_t)random_below(random, EXECS);
    journal->topic = (struct exitbus_topic){
        .kind = (enum exitbus_topic_kind)(1 + random_below(random, EXITBUS_TOPIC_EXEC)),
        .pid = own->pid,
        .container_id = containers[own->container],
        .exec_id = execs[own->exec]};
    journal->next = atomic_load(&world->journals);
    while (!atomic_compare_exchange_weak(&world->journals, &journal->next, journal))
        continue;
    return journal;
}

static struct exitbus_subscription *journal_subscribe(struct world *world, struct journal *journal,
                                                      uint32_t flags)
{
    journal->subscribing = tick(world);
    struct exitbus_subscription *subscription = subscribe_flags(world->bus, journal->topic, flags);
    journal->subscribed = tick(world);
    return subscription;
}

static void journal_write(struct journal *journal, const struct exitbus_event *event)
{
    if (journal->count == journal->capacity) {
        journal->capacity = journal->capacity ? 2 * journal->capacity : 16;
        journal->events = realloc(journal->events, journal->capacity * sizeof *journal->events);
        must(journal->events);
    }
    journal->events[journal->count++] =
        (struct received){event->seq, event->system_us, (uint32_t)event->user_us};
}

/* ----------------------------------------------------------------------------------- publishers */

static struct exitbus_event event_make(struct published *published)
{
    const struct subject *subject = &published->subject;
    struct exitbus_event event =
        subject->kind == EXITBUS_EVENT_PID
            ? pid_event(subject->pid)
            : exec_event(containers[subject->container], execs[subject->exec]);
    event.user_us = published->publisher;
    event.system_us = published->number;
    event.monotonic_ns = event.realtime_ns = 1;
    return event;
}

static struct published *history_extend(struct history *history, uint64_t **seqs,
                                        uint64_t *capacity)
{
    if (history->last + EXITBUS_BATCH_MAX >= *capacity) {
        *capacity = *capacity ? 2 * *capacity : 4096;
        history->events = realloc(history->events, *capacity * sizeof *history->events);
        *seqs = realloc(*seqs, *capacity * sizeof **seqs);
        must(history->events && *seqs);
    }
    return &history->events[history->last];
}

/* Publish random events, one by one or in batches, until told to stop. */
static void *publisher(void *argument)
{
    struct world *world = argument;
    unsigned index = atomic_fetch_add(&world->numbers, 1);
    struct history *history = &world->written[index];
    uint64_t random = 0x1234567 + index, capacity = 0;
    while (!atomic_load(&world->stop)) {
        struct published *entries = history_extend(history, &world->seqs[index], &capacity);
        size_t count = random_below(&random, 16) == 0 ? 1 + random_below(&random, 8) : 1;
        struct exitbus_event events[8];
        uint64_t begin = tick(world), seq;
        for (size_t i = 0; i < count; i++) {
            entries[i] = (struct published){
                .subject = {.kind = (uint8_t)(1 + random_below(&random, 2)),
                            .pid = (uint8_t)(1 + random_below(&random, PIDS)),
                            .container = (uint8_t)random_below(&random, CONTAINERS),
                            .exec = (uint8_t)random_below(&random, EXECS)},
                .publisher = index + 1,
                .number = history->last + i + 1,
                .begin = begin};
            events[i] = event_make(&entries[i]);
        }
        if (count == 1)
            must_equal(exitbus_publish(world->bus, events, &seq), 0);
        else
            must_equal(exitbus_publish_batch(world->bus, events, count, &seq), 0);
        uint64_t end = tick(world);
        for (size_t i = 0; i < count; i++) {
            entries[i].end = end;
            world->seqs[index][history->last + i] = seq + i;
        }
        history->last += count;
        if (history->last % 64 < count)
            await(exitbus_subscription_pending(world->steady) < BACKLOG_MAX);
    }
    return NULL;
}

/* The publishers' notes, put together in the order of seq; each place is taken, and once. */
static struct history history_merge(struct world *world)
{
    struct history all = {.last = stats_of(world->bus).published};
    all.events = calloc(all.last + 1, sizeof *all.events);
    must(all.events);
    uint64_t sum = 0;
    for (size_t p = 0; p < PUBLISHERS; p++) {
        for (uint64_t i = 0; i < world->written[p].last; i++) {
            uint64_t seq = world->seqs[p][i];
            must(seq >= 1 && seq <= all.last);
            must_equal(all.events[seq].publisher, 0);
            all.events[seq] = world->written[p].events[i];
        }
        sum += world->written[p].last;
        free(world->written[p].events);
        free(world->seqs[p]);
    }
    must_equal(sum, all.last);
    return all;
}

/* If a publish returned before another began, it comes first. */
static void check_real_time(struct history *history)
{
    uint64_t latest_begin = 0, latest_end = 0;
    for (uint64_t seq = 1; seq <= history->last; seq++) {
        struct published *published = &history->events[seq];
        must(published->end > latest_begin);
        if (published->begin > latest_begin)
            latest_begin = published->begin;
        if (published->end > latest_end)
            latest_end = published->end;
        published->latest_end = latest_end;
    }
}

/* A seq such that whatever comes before it was over at that tick. */
static uint64_t over_before(const struct history *history, uint64_t tick)
{
    uint64_t low = 1, high = history->last + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (history->events[middle].latest_end < tick)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---------------------------------------------------------------------------------- the verdict */

static bool wanted(const struct journal *journal, const struct history *history, uint64_t seq)
{
    return topic_wants(journal, &history->events[seq].subject);
}

/* Nothing of `first` to `last` should have been received: it does not match, or, where nothing had
 * been received before it, may have been in progress when subscribe returned. */
static void check_not_missed(const struct journal *journal, const struct history *history,
                             uint64_t first, uint64_t last, bool at_the_beginning)
{
    for (uint64_t seq = first; seq <= last; seq++)
        must(!wanted(journal, history, seq) ||
             (at_the_beginning && history->events[seq].begin < journal->subscribed));
}

/*
 * What was received is a run of consecutive matching events, in order, none of which was over
 * before subscribe was called. Whatever began after subscribe had returned is not missing at its
 * beginning, nor, if the subscription was emptied (`complete`), at its end.
 */
static void check_journal(const struct journal *journal, const struct history *history,
                          bool complete)
{
    uint64_t next = over_before(history, journal->subscribing);
    for (size_t i = 0; i < journal->count; i++) {
        const struct received *received = &journal->events[i];
        must(received->seq >= next && received->seq <= history->last);
        must(wanted(journal, history, received->seq));
        const struct published *published = &history->events[received->seq];
        must_equal(received->publisher, published->publisher);
        must_equal(received->number, published->number);
        must(published->end > journal->subscribing);
        check_not_missed(journal, history, next, received->seq - 1, i == 0);
        next = received->seq + 1;
    }
    if (complete)
        check_not_missed(journal, history, next, history->last, journal->count == 0);
}

static void journals_check_and_free(struct world *world, const struct history *history)
{
    struct journal *next;
    for (struct journal *journal = atomic_load(&world->journals); journal; journal = next) {
        next = journal->next;
        check_journal(journal, history, false);
        free(journal->events);
        free(journal);
    }
}

/* -------------------------------------------------------------------------------- subscribers */

static uint64_t random_new(struct world *world)
{
    return 0x9e3779b97f4a7c15ULL * (1 + atomic_fetch_add(&world->randoms, 1));
}

/* Receive once and write it down. */
static ssize_t receive_some(struct world *world, struct exitbus_subscription *subscription,
                            struct journal *journal, size_t capacity)
{
    struct exitbus_event events[8];
    ssize_t count = way_receive(world->way, subscription, events, capacity);
    for (ssize_t i = 0; i < count; i++)
        journal_write(journal, &events[i]);
    return count;
}

static void check_gives_nothing(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(subscription, &event, 0), -ESHUTDOWN);
    must_equal(exitbus_receive(subscription, &event, -1), -ESHUTDOWN);
    must_equal(exitbus_subscription_pending(subscription), 0);
}

/* Unsubscribes right after a receive, in the middle of its receive loop. */
static void leave_in_the_loop(struct world *world, uint64_t *random)
{
    struct journal *journal = journal_new(world, random);
    struct exitbus_subscription *subscription = journal_subscribe(world, journal, 0);
    must_equal(exitbus_subscription_ref(subscription), 0);
    unsigned receives = 1 + random_below(random, 20);
    for (unsigned i = 1; receive_some(world, subscription, journal, 1 + i % 8) > 0; i++)
        if (i == receives)
            must_equal(exitbus_unsubscribe(subscription), 0);
    check_gives_nothing(subscription);
    must_equal(exitbus_subscription_unref(subscription), 0);
}

static void take_one_shot(struct world *world, uint64_t *random)
{
    struct journal *journal = journal_new(world, random);
    struct exitbus_subscription *subscription =
        journal_subscribe(world, journal, EXITBUS_SUBSCRIBE_ONE_SHOT);
    must_equal(receive_some(world, subscription, journal, 8), 1);
    check_gives_nothing(subscription);
    must_equal(exitbus_unsubscribe(subscription), 0);
}

/* Unsubscribes without having received anything, at once or when something is there. */
static void leave_early(struct world *world, uint64_t *random)
{
    struct journal *journal = journal_new(world, random);
    struct exitbus_subscription *subscription = journal_subscribe(world, journal, 0);
    way_prepare(world->way, subscription);
    if (random_below(random, 2) == 0)
        await(exitbus_subscription_pending(subscription) > 0);
    must_equal(exitbus_unsubscribe(subscription), 0);
}

/* A subscription that another thread ends while its owner receives. */
struct foreign {
    struct exitbus_subscription *subscription;
    struct world *world;
    _Atomic bool ended; /* unsubscribe has returned */
    uint64_t random;
};

static void *end_foreign(void *argument)
{
    struct foreign *foreign = argument;
    for (unsigned i = random_below(&foreign->random, 8); i > 0; i--)
        sched_yield();
    must_equal(exitbus_unsubscribe(foreign->subscription), 0);
    atomic_store(&foreign->ended, true);
    must_equal(exitbus_subscription_unref(foreign->subscription), 0);
    return NULL;
}

static void be_ended_by_another(struct world *world, uint64_t *random)
{
    struct journal *journal = journal_new(world, random);
    struct foreign foreign = {.subscription = journal_subscribe(world, journal, 0),
                              .world = world,
                              .random = random_new(world)};
    must_equal(exitbus_subscription_ref(foreign.subscription), 0); /* for either thread */
    must_equal(exitbus_subscription_ref(foreign.subscription), 0);
    pthread_t thread = thread_start(end_foreign, &foreign);
    for (;;) {
        bool ended = atomic_load(&foreign.ended);
        ssize_t count = receive_some(world, foreign.subscription, journal, 8);
        must(!ended || count == -ESHUTDOWN); /* nothing after unsubscribe */
        if (count < 0)
            break;
    }
    check_gives_nothing(foreign.subscription);
    must_equal(exitbus_subscription_unref(foreign.subscription), 0);
    thread_join(thread);
}

/* A thread that exits while it is subscribed; a destructor unsubscribes. */
static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;

static void unsubscribe_at_exit(void *subscription)
{
    must_equal(exitbus_unsubscribe(subscription), 0);
}

static void exit_key_make(void)
{
    must_equal(pthread_key_create(&exit_key, unsubscribe_at_exit), 0);
}

static void *receive_and_exit(void *argument)
{
    struct foreign *foreign = argument;
    struct journal *journal = journal_new(foreign->world, &foreign->random);
    foreign->subscription = journal_subscribe(foreign->world, journal, 0);
    must_equal(pthread_setspecific(exit_key, foreign->subscription), 0);
    must_equal(exitbus_subscription_ref(foreign->subscription), 0);
    for (unsigned i = random_below(&foreign->random, 10); i > 0; i--)
        must(receive_some(foreign->world, foreign->subscription, journal, 8) > 0);
    return NULL;
}

static void exit_while_subscribed(struct world *world, uint64_t *random)
{
    (void)random;
    pthread_once(&exit_key_once, exit_key_make);
    struct foreign foreign = {.world = world, .random = random_new(world)};
    thread_join(thread_start(receive_and_exit, &foreign));
    check_gives_nothing(foreign.subscription);
    must_equal(exitbus_subscription_unref(foreign.subscription), 0);
}

static void (*const lives[])(struct world *, uint64_t *) = {
    leave_in_the_loop, take_one_shot, leave_early, be_ended_by_another, exit_while_subscribed};
#define LIVES (sizeof lives / sizeof lives[0])

/* ------------------------------------------------------------------------- the world in motion */

/* Those who stay from the beginning to the end, and must have received everything. */
struct steady {
    struct world *world;
    struct exitbus_subscription *subscription;
    struct journal journal;
};

static void *receive_all(void *argument)
{
    struct steady *steady = argument;
    ssize_t count;
    while ((count = receive_some(steady->world, steady->subscription, &steady->journal, 8)) > 0)
        continue;
    must_equal(count, -ESHUTDOWN);
    must_equal(exitbus_subscription_unref(steady->subscription), 0);
    return NULL;
}

#define STEADY 3 /* all; all, shared by two threads; one exec */

struct churner {
    struct world *world;
    void (*life)(struct world *, uint64_t *); /* or NULL: any */
    unsigned count;
};

static void *come_and_go(void *argument)
{
    struct churner *churner = argument;
    uint64_t random = random_new(churner->world);
    for (unsigned i = 0; i < churner->count; i++) {
        if (churner->life)
            churner->life(churner->world, &random);
        else
            lives[random_below(&random, LIVES)](churner->world, &random);
    }
    return NULL;
}

/* Receivers 1 and 2 share a subscription: their journals together are complete. */
static void merge_shared(struct steady *one, struct steady *other)
{
    struct journal merged = one->journal;
    merged.events = NULL;
    merged.count = merged.capacity = 0;
    size_t a = 0, b = 0;
    while (a < one->journal.count || b < other->journal.count) {
        bool from_one =
            b == other->journal.count ||
            (a < one->journal.count && one->journal.events[a].seq < other->journal.events[b].seq);
        struct received *next = from_one ? &one->journal.events[a++] : &other->journal.events[b++];
        must(merged.count == 0 || next->seq != merged.events[merged.count - 1].seq);
        journal_write(&merged, &(struct exitbus_event){.seq = next->seq,
                                                       .user_us = next->publisher,
                                                       .system_us = next->number});
    }
    free(one->journal.events);
    one->journal = merged;
}

static void world_check(struct world *world, struct steady *steady)
{
    struct history history = history_merge(world);
    check_real_time(&history);
    for (size_t i = 1; i <= 2; i++) /* in order for each, though not complete */
        for (size_t k = 1; k < steady[i].journal.count; k++)
            must(steady[i].journal.events[k].seq > steady[i].journal.events[k - 1].seq);
    merge_shared(&steady[1], &steady[2]);
    check_journal(&steady[0].journal, &history, true);
    check_journal(&steady[1].journal, &history, true);
    check_journal(&steady[3].journal, &history, true);
    check(steady[0].journal.count == history.last);
    check(steady[3].journal.count > 0);
    for (size_t i = 0; i < STEADY + 1; i++)
        free(steady[i].journal.events);
    journals_check_and_free(world, &history);
    free(history.events);
}

static void steady_start(struct world *world, struct steady *steady, pthread_t *threads)
{
    const struct exitbus_topic exec = exitbus_topic_exec(containers[1], execs[2]);
    for (size_t i = 0; i < STEADY + 1; i++) {
        steady[i] = (struct steady){.world = world};
        steady[i].journal.topic = i < STEADY ? exitbus_topic_all() : exec;
        steady[i].journal.subject = (struct subject){.container = 1, .exec = 2};
        steady[i].subscription =
            i == 2 ? steady[1].subscription : journal_subscribe(world, &steady[i].journal, 0);
        check_ok(exitbus_subscription_ref(steady[i].subscription));
    }
    world->steady = steady[0].subscription;
    for (size_t i = 0; i < STEADY + 1; i++)
        threads[i] = thread_start(receive_all, &steady[i]);
}

/* When nothing is published any more: let the steady ones empty their queues, and end them. */
static void steady_end(struct steady *steady, pthread_t *threads)
{
    for (size_t i = 0; i < STEADY + 1; i++) {
        if (i == 2)
            continue;
        await(exitbus_subscription_pending(steady[i].subscription) == 0);
        check_ok(exitbus_unsubscribe(steady[i].subscription));
    }
    for (size_t i = 0; i < STEADY + 1; i++)
        thread_join(threads[i]);
}

static void allow_many_descriptors(void)
{
    struct rlimit limit;
    must_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    must_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

#define CHURNERS 3

static void run(enum way way, void (*life)(struct world *, uint64_t *), unsigned lives_of_each)
{
    allow_many_descriptors();
    static struct world world;
    world = (struct world){.bus = bus_new(), .way = way};
    atomic_store(&world.clock, 1);
    struct steady steady[STEADY + 1];
    pthread_t steady_threads[STEADY + 1], publishers[PUBLISHERS], churners[CHURNERS];
    steady_start(&world, steady, steady_threads);
    for (size_t i = 0; i < PUBLISHERS; i++)
        publishers[i] = thread_start(publisher, &world);
    struct churner churner = {.world = &world, .life = life, .count = lives_of_each};
    for (size_t i = 0; i < CHURNERS; i++)
        churners[i] = thread_start(come_and_go, &churner);
    for (size_t i = 0; i < CHURNERS; i++)
        thread_join(churners[i]);
    atomic_store(&world.stop, true);
    for (size_t i = 0; i < PUBLISHERS; i++)
        thread_join(publishers[i]);
    steady_end(steady, steady_threads);
    check_equal(stats_of(world.bus).subscriptions, 0);
    world_check(&world, steady);
    check_ok(exitbus_destroy(world.bus));
}

TEST_EACH_WAY(monitor_reliability, subscribers_come_and_go)
{
    run(way, NULL, scaled(400));
}

TEST_EACH_WAY(monitor_reliability, unsubscribe_right_after_a_receive)
{
    run(way, leave_in_the_loop, scaled(400));
}

TEST_EACH_WAY(monitor_reliability, unsubscribe_from_foreign_threads)
{
    run(way, be_ended_by_another, scaled(400));
}

TEST_EACH_WAY(monitor_reliability, threads_exit_while_subscribed)
{
    run(way, exit_while_subscribed, scaled(400));
}

TEST_EACH_WAY(monitor_reliability, one_shots_come_and_go)
{
    run(way, take_one_shot, scaled(400));
}
