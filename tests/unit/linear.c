/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The check of short histories against the sequential specification: by hand, histories that are
 * allowed and such that are not; at random, what a simulated bus does, which must be allowed, and
 * spoiled versions of it, for which the verdict must be that of an oracle that tries every sequence
 * of points, the deliveries included.
 */
#include "../../stress/checks/linear.c"
#include "../../stress/checks/shrink.c"

#include "support/harness.h"

#define BUDGET 1000000

struct history {
    struct linear_operation operations[LINEAR_OPERATIONS_MAX];
    size_t count;
};

/* ------------------------------------------------------------------------------------ oracle */

/*
 * Written without a thought for speed, and with nothing from linear.c. Each publish has its order
 * point, and a delivery point for each subscription that was open and matched at the order point.
 */
enum due { NOT_DUE, DUE, DELIVERED };

#define ORACLE_OPERATIONS 16

struct oracle {
    const struct history *history;
    uint64_t now; /* the latest begin of what has been done */
    bool done[ORACLE_OPERATIONS];
    unsigned order[ORACLE_OPERATIONS], ordered;
    enum due due[ORACLE_OPERATIONS][LINEAR_SUBSCRIPTIONS_MAX];
    bool open[LINEAR_SUBSCRIPTIONS_MAX], closed[LINEAR_SUBSCRIPTIONS_MAX];
    uint32_t topics[LINEAR_SUBSCRIPTIONS_MAX];
    uint32_t got[LINEAR_SUBSCRIPTIONS_MAX][ORACLE_OPERATIONS];
    unsigned got_count[LINEAR_SUBSCRIPTIONS_MAX], taken[LINEAR_SUBSCRIPTIONS_MAX];
};

static bool oracle_receive(struct oracle *oracle, const struct linear_operation *operation)
{
    unsigned s = operation->subscription;
    bool any = oracle->taken[s] < oracle->got_count[s];
    if (operation->result == LINEAR_CLOSED)
        return oracle->closed[s];
    if (!oracle->open[s])
        return false;
    if (operation->result == LINEAR_EMPTY)
        return !any;
    return any && oracle->got[s][oracle->taken[s]++] == operation->value;
}

static bool oracle_do(struct oracle *oracle, unsigned i)
{
    const struct linear_operation *operation = &oracle->history->operations[i];
    unsigned s = operation->subscription;
    switch (operation->kind) {
    case LINEAR_PUBLISH:
        oracle->order[oracle->ordered++] = i;
        for (s = 0; s < LINEAR_SUBSCRIPTIONS_MAX; s++)
            if (oracle->open[s] && (oracle->topics[s] & 1u << operation->topic))
                oracle->due[i][s] = DUE;
        return true;
    case LINEAR_SUBSCRIBE:
        if (oracle->open[s] || oracle->closed[s])
            return false;
        oracle->open[s] = true;
        oracle->topics[s] = operation->topics;
        return true;
    case LINEAR_UNSUBSCRIBE:
        if (!oracle->open[s])
            return false;
        oracle->open[s] = false;
        oracle->closed[s] = true;
        return true;
    default:
        return oracle_receive(oracle, operation);
    }
}

static bool oracle_deliver(struct oracle *oracle, unsigned i, unsigned s)
{
    for (unsigned j = 0; oracle->order[j] != i; j++)
        if (oracle->due[oracle->order[j]][s] == DUE)
            return false;
    oracle->due[i][s] = DELIVERED;
    oracle->got[s][oracle->got_count[s]++] = oracle->history->operations[i].value;
    return true;
}

static bool oracle_allows(const struct oracle *oracle)
{
    bool complete = true;
    for (unsigned i = 0; i < oracle->history->count; i++) {
        const struct linear_operation *operation = &oracle->history->operations[i];
        /* s is 0 for the operation itself, and then 1 + the subscription of a delivery */
        for (unsigned s = 0; s <= LINEAR_SUBSCRIPTIONS_MAX; s++) {
            if (s == 0 ? oracle->done[i] : oracle->due[i][s - 1] != DUE)
                continue;
            complete = false;
            if (operation->end_ns < oracle->now)
                return false;
            struct oracle next = *oracle;
            if (next.now < operation->begin_ns)
                next.now = operation->begin_ns;
            next.done[i] = true;
            if ((s == 0 ? oracle_do(&next, i) : oracle_deliver(&next, i, s - 1)) &&
                oracle_allows(&next))
                return true;
        }
    }
    return complete;
}

static enum linear_verdict oracle_verdict(const struct history *history)
{
    struct oracle oracle;
    memset(&oracle, 0, sizeof oracle);
    oracle.history = history;
    return oracle_allows(&oracle) ? LINEAR_YES : LINEAR_NO;
}

/* ---------------------------------------------------------------------------------- by hand */

static struct linear_operation *add(struct history *history, uint64_t begin, uint64_t end,
                                    enum linear_kind kind, enum linear_result result)
{
    check(history->count < LINEAR_OPERATIONS_MAX);
    struct linear_operation *operation = &history->operations[history->count++];
    *operation = (struct linear_operation){
        .begin_ns = begin, .end_ns = end, .kind = (uint8_t)kind, .result = (uint8_t)result};
    return operation;
}

static void publishes(struct history *history, uint64_t begin, uint64_t end, uint8_t topic,
                      uint32_t value)
{
    struct linear_operation *operation = add(history, begin, end, LINEAR_PUBLISH, LINEAR_OK);
    operation->topic = topic;
    operation->value = value;
}

static void subscribes(struct history *history, uint64_t begin, uint64_t end, uint8_t s,
                       uint32_t topics)
{
    struct linear_operation *operation = add(history, begin, end, LINEAR_SUBSCRIBE, LINEAR_OK);
    operation->subscription = s;
    operation->topics = topics;
}

static void unsubscribes(struct history *history, uint64_t begin, uint64_t end, uint8_t s)
{
    add(history, begin, end, LINEAR_UNSUBSCRIBE, LINEAR_OK)->subscription = s;
}

static void receives(struct history *history, uint64_t begin, uint64_t end, uint8_t s,
                     enum linear_result result, uint32_t value)
{
    struct linear_operation *operation = add(history, begin, end, LINEAR_RECEIVE, result);
    operation->subscription = s;
    operation->value = value;
}

static void gets(struct history *history, uint64_t begin, uint64_t end, uint8_t s, uint32_t value)
{
    receives(history, begin, end, s, LINEAR_VALUE, value);
}

static void gets_none(struct history *history, uint64_t begin, uint64_t end, uint8_t s)
{
    receives(history, begin, end, s, LINEAR_EMPTY, 0);
}

static void gets_closed(struct history *history, uint64_t begin, uint64_t end, uint8_t s)
{
    receives(history, begin, end, s, LINEAR_CLOSED, 0);
}

static enum linear_verdict verdict_of(const struct history *history)
{
    return linear_check(history->operations, history->count, BUDGET, NULL);
}

static void must_be(const struct history *history, enum linear_verdict verdict)
{
    struct linear_explanation why;
    check_equal(linear_check(history->operations, history->count, BUDGET, &why), verdict);
    check_equal(oracle_verdict(history), verdict);
    check(verdict == LINEAR_YES ? why.longest == history->count : why.longest < history->count);
    check(verdict == LINEAR_YES ? why.stuck_count == 0 : why.stuck_count > 0);
}

TEST(linear, empty_history)
{
    struct history history = {.count = 0};
    must_be(&history, LINEAR_YES);
}

TEST(linear, sequential)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    gets_none(&history, 2, 3, 0);
    publishes(&history, 4, 5, 0, 11);
    publishes(&history, 6, 7, 1, 12); /* does not match */
    publishes(&history, 8, 9, 0, 13);
    gets(&history, 10, 11, 0, 11);
    gets(&history, 12, 13, 0, 13);
    gets_none(&history, 14, 15, 0);
    unsubscribes(&history, 16, 17, 0);
    gets_closed(&history, 18, 19, 0);
    must_be(&history, LINEAR_YES);
}

TEST(linear, overlapping_publishes_in_either_order)
{
    for (uint32_t first = 11; first <= 12; first++) {
        struct history history = {.count = 0};
        subscribes(&history, 0, 1, 0, 1);
        publishes(&history, 2, 6, 0, 11);
        publishes(&history, 3, 7, 0, 12);
        gets(&history, 8, 9, 0, first);
        gets(&history, 10, 11, 0, 23 - first);
        gets_none(&history, 12, 13, 0);
        must_be(&history, LINEAR_YES);
    }
}

TEST(linear, one_queue_has_it_before_the_other)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    subscribes(&history, 0, 1, 1, 1);
    publishes(&history, 2, 10, 0, 11);
    gets(&history, 3, 4, 0, 11);
    gets_none(&history, 5, 6, 1);
    gets(&history, 7, 8, 1, 11);
    must_be(&history, LINEAR_YES);
    history.operations[2].end_ns = 5; /* equal times are concurrent */
    must_be(&history, LINEAR_YES);
    history.operations[2].end_ns = 4;
    must_be(&history, LINEAR_NO);
}

TEST(linear, what_is_behind_an_event_there_is_there)
{
    /* 12 is behind 11 for subscription 0. Its publish has ended: subscription 1 has both. */
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    subscribes(&history, 0, 1, 1, 1);
    publishes(&history, 2, 20, 0, 11);
    publishes(&history, 5, 6, 0, 12);
    gets(&history, 3, 4, 0, 11);
    gets_none(&history, 7, 8, 1);
    must_be(&history, LINEAR_NO);
    history.operations[3].end_ns = 7;
    must_be(&history, LINEAR_YES);
}

TEST(linear, empty_when_another_event_is_received_already)
{
    /* In the order 12, 11, 12 must have been delivered before 11 was taken. */
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 20, 0, 11);
    publishes(&history, 2, 20, 0, 12);
    gets(&history, 3, 4, 0, 11);
    gets_none(&history, 5, 6, 0);
    gets(&history, 7, 8, 0, 12);
    must_be(&history, LINEAR_YES);
}

TEST(linear, subscribe_during_publish)
{
    struct history history = {.count = 0};
    subscribes(&history, 2, 6, 0, 1);
    publishes(&history, 3, 5, 0, 11);
    gets_none(&history, 7, 8, 0);
    must_be(&history, LINEAR_YES);
    gets(&history, 7, 8, 0, 11);
    must_be(&history, LINEAR_YES);
    history.operations[3].begin_ns = history.operations[3].end_ns = 9;
    must_be(&history, LINEAR_NO); /* it was to be had at 8 already, or never */
    history.operations[2].begin_ns = 5;
    must_be(&history, LINEAR_YES);
}

TEST(linear, unsubscribe_during_receive)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    unsubscribes(&history, 5, 8, 0);
    gets(&history, 6, 7, 0, 11);
    must_be(&history, LINEAR_YES);
    gets_closed(&history, 6, 7, 0);
    must_be(&history, LINEAR_YES);
    gets_none(&history, 5, 7, 0);
    must_be(&history, LINEAR_YES);
    history.count = 3;
    gets_closed(&history, 6, 7, 0);
    must_be(&history, LINEAR_YES);
    gets_none(&history, 6, 7, 0);
    must_be(&history, LINEAR_NO);
}

TEST(linear, publish_to_a_closed_subscription)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    unsubscribes(&history, 2, 9, 0);
    publishes(&history, 3, 4, 0, 11);
    gets_none(&history, 5, 6, 0);
    must_be(&history, LINEAR_NO);
    gets_closed(&history, 10, 11, 0);
    must_be(&history, LINEAR_NO);
    history.operations[3].result = LINEAR_CLOSED;
    must_be(&history, LINEAR_YES);
}

TEST(linear, lost)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    gets_none(&history, 4, 5, 0);
    must_be(&history, LINEAR_NO);
    struct linear_explanation why;
    check_equal(linear_check(history.operations, history.count, BUDGET, &why), LINEAR_NO);
    check_equal(why.longest, 2);
    check_equal(why.stuck_count, 1);
    check_equal(why.stuck[0], 2);
}

TEST(linear, lost_between_others)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    publishes(&history, 4, 5, 0, 12);
    publishes(&history, 6, 7, 0, 13);
    gets(&history, 8, 9, 0, 11);
    gets(&history, 10, 11, 0, 13);
    must_be(&history, LINEAR_NO);
    struct linear_explanation why;
    check_equal(linear_check(history.operations, history.count, BUDGET, &why), LINEAR_NO);
    check_equal(why.longest, 5);
    check_equal(why.stuck_count, 1);
    check_equal(why.stuck[0], 5);
}

TEST(linear, twice)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    gets(&history, 4, 5, 0, 11);
    gets(&history, 4, 5, 0, 11);
    must_be(&history, LINEAR_NO);
}

TEST(linear, two_orders)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    subscribes(&history, 0, 1, 1, 1);
    publishes(&history, 2, 20, 0, 11);
    publishes(&history, 2, 20, 0, 12);
    gets(&history, 3, 4, 0, 11);
    gets(&history, 5, 6, 0, 12);
    gets(&history, 3, 4, 1, 12);
    must_be(&history, LINEAR_NO);
    gets(&history, 5, 6, 1, 11);
    must_be(&history, LINEAR_NO);
    history.operations[6].end_ns = 6;
    history.operations[7].begin_ns = 3; /* now 11 may have come first */
    must_be(&history, LINEAR_YES);
}

TEST(linear, against_real_time)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    publishes(&history, 4, 5, 0, 12);
    gets(&history, 6, 7, 0, 12);
    gets(&history, 8, 9, 0, 11);
    must_be(&history, LINEAR_NO);
    history.operations[2].begin_ns = 3;
    must_be(&history, LINEAR_YES);
}

TEST(linear, value_after_unsubscribe)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    unsubscribes(&history, 4, 5, 0);
    gets(&history, 6, 7, 0, 11);
    must_be(&history, LINEAR_NO);
    history.operations[2].end_ns = 12;
    must_be(&history, LINEAR_YES);
    gets_closed(&history, 4, 5, 0); /* unsubscribe was before that one */
    must_be(&history, LINEAR_NO);
}

TEST(linear, other_topic)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 5);
    publishes(&history, 2, 3, 1, 11);
    gets(&history, 4, 5, 0, 11);
    must_be(&history, LINEAR_NO);
    history.operations[1].topic = 2;
    must_be(&history, LINEAR_YES);
}

TEST(linear, never_published)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    gets(&history, 4, 5, 0, 12);
    must_be(&history, LINEAR_NO);
    history.operations[2].value = 0;
    must_be(&history, LINEAR_NO);
}

TEST(linear, before_its_publish)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    gets(&history, 2, 3, 0, 11);
    publishes(&history, 4, 5, 0, 11);
    must_be(&history, LINEAR_NO);
}

TEST(linear, from_before_subscribe)
{
    struct history history = {.count = 0};
    publishes(&history, 0, 1, 0, 11);
    subscribes(&history, 2, 3, 0, 1);
    gets(&history, 4, 5, 0, 11);
    must_be(&history, LINEAR_NO);
    history.operations[1].begin_ns = 1;
    must_be(&history, LINEAR_YES);
}

TEST(linear, undecided)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 1);
    publishes(&history, 2, 3, 0, 11);
    check_equal(linear_check(history.operations, history.count, 1, NULL), LINEAR_UNDECIDED);
    check_equal(linear_check(history.operations, 65, BUDGET, NULL), LINEAR_UNDECIDED);
    history.operations[0].subscription = LINEAR_SUBSCRIPTIONS_MAX;
    check_equal(verdict_of(&history), LINEAR_UNDECIDED);
    history.operations[0].subscription = 0;
    history.operations[1].begin_ns = 4;
    check_equal(verdict_of(&history), LINEAR_UNDECIDED);
    history.operations[1].begin_ns = 2;
    history.operations[1].result = LINEAR_VALUE;
    check_equal(verdict_of(&history), LINEAR_UNDECIDED);
}

/* As many operations as there may be, all concurrent. */
TEST(linear, full)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 9, 0, 1);
    while (history.count < LINEAR_OPERATIONS_MAX - 1) {
        publishes(&history, 0, 9, 0, (uint32_t)history.count);
        gets(&history, history.count, 100, 0, (uint32_t)history.count - 1);
        history.operations[history.count - 1].value = history.operations[history.count - 2].value;
    }
    gets_none(&history, 101, 102, 0);
    check_equal(verdict_of(&history), LINEAR_YES);
    history.operations[history.count - 1].result = LINEAR_VALUE;
    check_equal(verdict_of(&history), LINEAR_NO);
}

/* --------------------------------------------------------------------------- a simulated bus */

static uint64_t random_next(uint64_t *random) /* splitmix64 */
{
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned below(uint64_t *random, unsigned limit)
{
    return (unsigned)(random_next(random) % limit);
}

struct size {
    unsigned threads, operations, subscriptions; /* operations: of all threads together */
};

enum phase { IDLE, INVOKED, ORDERED, EFFECTIVE };

struct simulated_queue {
    uint32_t topics;
    bool known, leaving; /* subscribe has returned; unsubscribe is invoked */
    bool claimed, open;
    unsigned appended[LINEAR_OPERATIONS_MAX]; /* operations */
    unsigned count, taken;
};

struct simulation {
    struct history history;
    struct size size;
    uint64_t random, clock;
    unsigned order[LINEAR_OPERATIONS_MAX], ordered;
    bool due[LINEAR_OPERATIONS_MAX][LINEAR_SUBSCRIPTIONS_MAX];
    struct simulated_queue queues[LINEAR_SUBSCRIPTIONS_MAX];
    enum phase phases[LINEAR_OPERATIONS_MAX]; /* of threads */
    unsigned current[LINEAR_OPERATIONS_MAX];
};

/* A clock that does not always advance. */
static uint64_t tick(struct simulation *simulation)
{
    return simulation->clock += below(&simulation->random, 3);
}

static void invoke(struct simulation *simulation, unsigned thread)
{
    struct history *history = &simulation->history;
    unsigned s = below(&simulation->random, simulation->size.subscriptions);
    struct simulated_queue *queue = &simulation->queues[s];
    unsigned choice = below(&simulation->random, 100);
    simulation->current[thread] = (unsigned)history->count;
    simulation->phases[thread] = INVOKED;
    uint64_t now = tick(simulation);
    if (!queue->claimed && choice < 50) {
        queue->claimed = true;
        subscribes(history, now, now, (uint8_t)s, 1 + below(&simulation->random, 7));
    } else if (queue->known && !queue->leaving && choice >= 95) {
        queue->leaving = true;
        unsubscribes(history, now, now, (uint8_t)s);
    } else if (queue->known && choice < 60) {
        gets_none(history, now, now, (uint8_t)s);
    } else {
        publishes(history, now, now, (uint8_t)below(&simulation->random, 3),
                  100 + (uint32_t)history->count);
    }
    history->operations[history->count - 1].thread = thread;
}

static void take_effect(struct simulation *simulation, unsigned i)
{
    struct linear_operation *operation = &simulation->history.operations[i];
    struct simulated_queue *queue = &simulation->queues[operation->subscription];
    switch (operation->kind) {
    case LINEAR_SUBSCRIBE:
        queue->open = true;
        queue->topics = operation->topics;
        break;
    case LINEAR_UNSUBSCRIBE:
        queue->open = false;
        break;
    case LINEAR_PUBLISH:
        simulation->order[simulation->ordered++] = i;
        for (unsigned s = 0; s < simulation->size.subscriptions; s++)
            simulation->due[i][s] = simulation->queues[s].open &&
                                    (simulation->queues[s].topics >> operation->topic & 1) != 0;
        break;
    default:
        operation->result = !queue->open                  ? LINEAR_CLOSED
                            : queue->taken < queue->count ? LINEAR_VALUE
                                                          : LINEAR_EMPTY;
        if (operation->result == LINEAR_VALUE)
            operation->value =
                simulation->history.operations[queue->appended[queue->taken++]].value;
        break;
    }
}

/* Deliver to one queue, if those before have been. True if it has been to all. */
static bool deliver(struct simulation *simulation, unsigned i)
{
    unsigned s = below(&simulation->random, simulation->size.subscriptions);
    bool turn = simulation->due[i][s];
    for (unsigned j = 0; simulation->order[j] != i; j++)
        turn = turn && !simulation->due[simulation->order[j]][s];
    if (turn) {
        struct simulated_queue *queue = &simulation->queues[s];
        queue->appended[queue->count++] = i;
        simulation->due[i][s] = false;
    }
    for (s = 0; s < simulation->size.subscriptions; s++)
        if (simulation->due[i][s])
            return false;
    return true;
}

/* One step of a thread; false if it has nothing to do any more. */
static bool step(struct simulation *simulation, unsigned thread)
{
    unsigned i = simulation->current[thread];
    struct linear_operation *operation = &simulation->history.operations[i];
    switch (simulation->phases[thread]) {
    case IDLE:
        if (simulation->history.count == simulation->size.operations)
            return false;
        invoke(simulation, thread);
        return true;
    case INVOKED:
        take_effect(simulation, i);
        simulation->phases[thread] = operation->kind == LINEAR_PUBLISH ? ORDERED : EFFECTIVE;
        return true;
    case ORDERED:
        if (deliver(simulation, i))
            simulation->phases[thread] = EFFECTIVE;
        return true;
    default:
        operation->end_ns = tick(simulation);
        if (operation->kind == LINEAR_SUBSCRIBE)
            simulation->queues[operation->subscription].known = true;
        simulation->phases[thread] = IDLE;
        return true;
    }
}

static struct history simulate(uint64_t seed, struct size size)
{
    static struct simulation simulation;
    memset(&simulation, 0, sizeof simulation);
    simulation.random = seed;
    simulation.size = size;
    bool busy = true;
    while (busy) {
        busy = simulation.history.count < size.operations;
        for (unsigned thread = 0; thread < size.threads; thread++)
            busy = busy || simulation.phases[thread] != IDLE;
        /* Now and then, one gets ahead. */
        unsigned thread = below(&simulation.random, size.threads);
        unsigned steps = below(&simulation.random, 8) == 0 ? 12 : 1;
        while (steps-- > 0)
            step(&simulation, thread);
    }
    return simulation.history;
}

/* ------------------------------------------------------------------------------- spoiling it */

/* A random receive with this result, of that subscription (or any: -1); NULL: none found. */
static struct linear_operation *pick(struct history *history, uint64_t *random,
                                     enum linear_result result, int s)
{
    for (int attempt = 0; attempt < 20; attempt++) {
        struct linear_operation *operation =
            &history->operations[below(random, (unsigned)history->count)];
        if (operation->kind == LINEAR_RECEIVE && operation->result == result &&
            (s < 0 || operation->subscription == s))
            return operation;
    }
    return NULL;
}

static bool swap_values(struct history *history, uint64_t *random)
{
    struct linear_operation *one = pick(history, random, LINEAR_VALUE, -1);
    if (!one)
        return false;
    struct linear_operation *other = pick(history, random, LINEAR_VALUE, one->subscription);
    if (!other || (one->begin_ns <= other->end_ns && other->begin_ns <= one->end_ns))
        return false;
    uint32_t value = one->value;
    one->value = other->value;
    other->value = value;
    return true;
}

static bool drop(struct history *history, uint64_t *random)
{
    struct linear_operation *operation = pick(history, random, LINEAR_VALUE, -1);
    if (!operation)
        return false;
    if (below(random, 2) == 0)
        operation->result = LINEAR_EMPTY;
    else
        *operation = history->operations[--history->count];
    return true;
}

static bool duplicate(struct history *history, uint64_t *random)
{
    struct linear_operation *from = pick(history, random, LINEAR_VALUE, -1);
    struct linear_operation *to = from ? pick(history, random, LINEAR_EMPTY, -1) : NULL;
    if (!to)
        return false;
    to->result = LINEAR_VALUE;
    to->value = from->value;
    return true;
}

/* Not wrong for certain, but near what the intervals allow. */
static bool shift(struct history *history, uint64_t *random)
{
    struct linear_operation *operation =
        &history->operations[below(random, (unsigned)history->count)];
    uint64_t length = operation->end_ns - operation->begin_ns;
    uint64_t begin = operation->begin_ns + below(random, 9);
    operation->begin_ns = begin < 4 ? 0 : begin - 4;
    operation->end_ns = operation->begin_ns + below(random, 1 + (unsigned)length);
    return true;
}

static bool change_result(struct history *history, uint64_t *random)
{
    struct linear_operation *operation = pick(history, random, LINEAR_EMPTY, -1);
    if (!operation)
        return false;
    operation->result = LINEAR_CLOSED;
    return true;
}

typedef bool spoil(struct history *history, uint64_t *random);
static spoil *const spoils[] = {swap_values, drop, duplicate, shift, change_result};
#define SPOILS (sizeof spoils / sizeof *spoils)

/* -------------------------------------------------------------------------------- at random */

TEST(linear, what_the_simulated_bus_does)
{
    const struct size sizes[] = {{2, 7, 2}, {3, 24, 2}, {4, 48, 3}, {8, 64, 3}, {4, 64, 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t seed = 0; seed < 2000; seed++) {
            struct history history = simulate(seed, sizes[i]);
            check_equal(history.count, sizes[i].operations);
            check_equal(verdict_of(&history), LINEAR_YES);
        }
}

TEST(linear, verdicts_of_the_oracle)
{
    unsigned verdicts[SPOILS][2] = {{0}};
    for (uint64_t seed = 0; seed < 20000; seed++) {
        unsigned more = (unsigned)(seed % 3);
        struct history whole = simulate(seed, (struct size){2 + more, 5 + more, 2});
        if (seed % 10 == 0)
            check_equal(oracle_verdict(&whole), LINEAR_YES);
        for (size_t i = 0; i < SPOILS; i++) {
            uint64_t random = seed;
            struct history history = whole;
            if (!spoils[i](&history, &random))
                continue;
            enum linear_verdict expected = oracle_verdict(&history);
            check_equal(verdict_of(&history), expected);
            verdicts[i][expected]++;
        }
    }
    for (size_t i = 0; i < SPOILS; i++) {
        check(verdicts[i][LINEAR_NO] > 20);
        if (spoils[i] == drop || spoils[i] == shift)
            check(verdicts[i][LINEAR_YES] > 50);
    }
}

/* The search without looking ahead is simpler, and must come to the same verdict. */
TEST(linear, looking_ahead_loses_nothing)
{
    unsigned compared[2] = {0};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct history whole = simulate(seed, (struct size){3, 20, 3});
        for (size_t i = 0; i < SPOILS; i++) {
            uint64_t random = seed;
            struct history history = whole;
            if (!spoils[i](&history, &random))
                continue;
            static struct search search;
            memset(&search, 0, sizeof search);
            search.budget = BUDGET;
            take_in(&search, history.operations, history.count);
            relate(&search);
            relate_receives(&search);
            enum linear_verdict verdict = run(&search, false);
            check(verdict != LINEAR_UNDECIDED);
            check_equal(run(&search, true), verdict);
            compared[verdict]++;
        }
    }
    check(compared[LINEAR_YES] > 1000 && compared[LINEAR_NO] > 1000);
}

/* A receive that gets again what an earlier one has got is wrong, whatever the rest. */
TEST(linear, spoiled_long_histories)
{
    unsigned spoiled = 0;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct history history = simulate(seed, (struct size){4, 48, 3});
        uint64_t random = seed;
        struct linear_operation *one = pick(&history, &random, LINEAR_VALUE, -1);
        struct linear_operation *other =
            one ? pick(&history, &random, LINEAR_EMPTY, one->subscription) : NULL;
        if (!other)
            continue;
        other->result = LINEAR_VALUE;
        other->value = one->value;
        check_equal(verdict_of(&history), LINEAR_NO);
        spoiled++;
    }
    check(spoiled > 500);
}

/* ------------------------------------------------------------------------------------ shrinking */

/* A lost event, among others that two subscriptions received as they should. */
static struct history lost_among_others(void)
{
    struct history history = {.count = 0};
    subscribes(&history, 0, 1, 0, 7);
    subscribes(&history, 2, 3, 1, 7);
    publishes(&history, 4, 9, 0, 11);
    publishes(&history, 5, 8, 1, 12);
    gets(&history, 10, 11, 0, 11);
    gets(&history, 12, 13, 0, 12);
    gets_none(&history, 14, 15, 0);
    gets(&history, 16, 17, 1, 11);
    gets_none(&history, 18, 19, 1);
    unsubscribes(&history, 20, 21, 0);
    gets_closed(&history, 22, 23, 0);
    for (size_t i = 0; i < history.count; i++)
        history.operations[i].thread = (uint32_t)i % 2;
    return history;
}

TEST(shrink, to_what_is_wrong)
{
    struct history history = lost_among_others();
    must_be(&history, LINEAR_NO);
    history.count = shrink(history.operations, history.count, BUDGET);
    check_equal(history.count, 3);
    check_equal(history.operations[0].kind, LINEAR_SUBSCRIBE);
    check_equal(history.operations[0].subscription, 1);
    check_equal(history.operations[1].value, 12);
    check_equal(history.operations[2].result, LINEAR_EMPTY);
    must_be(&history, LINEAR_NO);
}

TEST(shrink, lanes)
{
    struct history history = lost_among_others();
    struct linear_explanation why;
    char *text;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    history.count = shrink(history.operations, history.count, BUDGET);
    linear_check(history.operations, history.count, BUDGET, &why);
    shrink_print(file, history.operations, history.count, &why);
    fclose(file);
    check_equal(strcmp(text, "  thread 0              |3=|\n"
                             "  thread 1  |1=|  |2=|\n"
                             "   1  subscribe 1 to topics 0x07\n"
                             "   2  publish event 12, topic 1\n"
                             "   3  receive 1: nothing   <- has no place\n"),
                0);
    free(text);
}

/* What may be left out, in a history that is allowed, leaves one that is. */
TEST(shrink, blames_no_bus_that_is_right)
{
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct history history = simulate(seed, (struct size){4, 40, 3}), rest;
        for (size_t i = 0; i < history.count; i++) {
            rest.count = without(history.operations, history.count, i, rest.operations);
            check_equal(verdict_of(&rest), LINEAR_YES);
        }
    }
}

/* Nothing more may go; and what has been wrong still is. */
TEST(shrink, to_the_last)
{
    size_t before = 0, after = 0;
    for (uint64_t seed = 0; seed < 1000; seed++)
        for (size_t i = 0; i < SPOILS; i++) {
            struct history history = simulate(seed, (struct size){4, 40, 3}), rest;
            uint64_t random = seed;
            if (!spoils[i](&history, &random) || verdict_of(&history) != LINEAR_NO)
                continue;
            before += history.count;
            history.count = shrink(history.operations, history.count, BUDGET);
            after += history.count;
            check_equal(verdict_of(&history), LINEAR_NO);
            for (size_t j = 0; j < history.count; j++) {
                rest.count = without(history.operations, history.count, j, rest.operations);
                check(rest.count == history.count || verdict_of(&rest) == LINEAR_YES);
            }
        }
    check(after > 0 && after * 5 < before);
}
