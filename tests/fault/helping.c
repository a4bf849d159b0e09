/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Threads stopped in the middle of a call, at each named step, for as long as the test lasts (G4,
 * and G1 and G2 while it happens): publishers, receivers, subscribers, unsubscribers, one and many.
 * In every scene all others publish, subscribe, receive and unsubscribe from beginning to end; what
 * a stopped publisher has ordered is in every queue by then, once, in one order; what it has not
 * ordered is nowhere. Then the stopped threads go on, and nothing has come twice.
 *
 * That nobody is held up shows in that the others come to their end at all.
 * system/programs/stepping.c does the same after each machine instruction.
 */
#include "support/harness.h"
#include "support/scene.h"

#include <string.h>

/* All steps that a publish can pass. The last three: for subscriptions that come and go under it.
 */
static const enum probe publish_steps[] = {
    PROBE_PUBLISH_SLOT_CLAIMED,
    PROBE_PUBLISH_SLOT_FILLED,
    PROBE_PUBLISH_ORDERED,
    PROBE_DELIVER_BEFORE_APPEND,
    PROBE_APPEND_PAYLOAD_WRITTEN,
    PROBE_APPEND_TAG_WRITTEN,
    PROBE_APPEND_HINT_WRITTEN,
    PROBE_APPEND_SEGMENT_LINKED,
    PROBE_APPEND_TAIL_MOVED,
    PROBE_DELIVER_BEFORE_WAKE,
    PROBE_WAKE_EPOCH_MOVED,
    PROBE_WAKE_DONE,
    PROBE_FD_WRITTEN,
    PROBE_PUBLISH_DISTRIBUTED,
    PROBE_PUBLISH_DONE,
};
#define PUBLISH_STEPS (sizeof publish_steps / sizeof publish_steps[0])

/* ThreadSanitizer makes all of it ten times as slow: one scene of three. */
#ifdef __SANITIZE_THREAD__
#define FEWER 3
#else
#define FEWER 1
#endif

/* The same numbers in every run. */
static uint64_t random_state = 88172645463325252u;

static unsigned chance(unsigned bound)
{
    return random_below(&random_state, bound);
}

/* ------------------------------------------------------------------------------ the scene */

enum shape { NARROW, WIDE_SHORT, WIDE_LONG, BATCH, SHAPES };

static char long_id[EXITBUS_ID_MAX + 1];

/* Those who receive the victim's events. */
enum { ALL_ASLEEP, ALL_BY_FD, PID_ASLEEP, PID_BY_FD, EXEC_ASLEEP, EXEC_BY_FD, READERS };

struct scene {
    struct exitbus *bus;
    enum shape shape;
    struct reader witness;
    struct reader readers[READERS];
};

static const char *victim_id(enum shape shape)
{
    if (!long_id[0])
        memset(long_id, 'v', EXITBUS_ID_MAX);
    return shape == WIDE_SHORT ? "v" : long_id;
}

static struct exitbus *new_bus(void)
{
    struct exitbus *bus;
    halt_hook_set();
    check_ok(exitbus_create(&bus, NULL));
    return bus;
}

/* The events of one victim's publish; returns how many. Their codes begin at `code`. */
static size_t victim_events(enum shape shape, int code, struct exitbus_event events[3])
{
    const char *id = victim_id(shape);
    events[0] =
        shape == NARROW || shape == BATCH ? pid_event(VICTIM_PID, code) : exec_event(id, id, code);
    if (shape != BATCH)
        return 1;
    events[1] = exec_event(id, id, code + 1);
    events[2] = pid_event(VICTIM_PID, code + 2);
    return 3;
}

static void publish_as_victim(struct scene *scene, int code, bool one)
{
    struct exitbus_event events[3];
    size_t count = victim_events(scene->shape, code, events);
    must_equal(exitbus_publish_batch(scene->bus, events, one ? 1 : count, NULL), 0);
}

/* Subscriptions, readers at rest, and `fill` events of the victim's kind behind them. */
static void scene_set(struct scene *scene, struct exitbus *bus, enum shape shape, unsigned fill)
{
    const char *id = victim_id(shape);
    const struct exitbus_topic topics[READERS] = {
        exitbus_topic_all(),           exitbus_topic_all(),        exitbus_topic_pid(VICTIM_PID),
        exitbus_topic_pid(VICTIM_PID), exitbus_topic_exec(id, id), exitbus_topic_container(id)};
    scene->bus = bus;
    scene->shape = shape;
    reader_init(&scene->witness, bus, exitbus_topic_all(), 0);
    for (size_t i = 0; i < READERS; i++) {
        reader_init(&scene->readers[i], bus, topics[i], 0);
        reader_start(&scene->readers[i], i % 2 ? BY_FD : ASLEEP);
    }
    for (unsigned i = 0; i < fill; i++)
        publish_as_victim(scene, FILL_CODE, true);
    witness_drain(&scene->witness);
    for (size_t i = 0; i < READERS; i++)
        reader_await_rest(&scene->readers[i],
                          expected_count(&scene->witness, &scene->readers[i].topic));
}

/* Compare what everybody has. */
static void scene_judge(struct scene *scene)
{
    witness_drain(&scene->witness);
    for (size_t i = 0; i < READERS; i++)
        judge_reader(&scene->witness, &scene->readers[i]);
}

/* Nobody is stopped any more: one event behind everything, a last judgement, and the end. */
static void scene_end(struct scene *scene)
{
    must_equal(exitbus_publish_pid(scene->bus, 1, LAST_CODE), 0);
    scene_judge(scene);
    for (size_t i = 0; i < READERS; i++)
        reader_stop(&scene->readers[i], true);
    for (size_t i = 0; i < READERS; i++) {
        judge_reader(&scene->witness, &scene->readers[i]);
        reader_free(&scene->readers[i]);
    }
    must_equal(exitbus_unsubscribe(scene->witness.subscription), 0);
    reader_free(&scene->witness);
}

/* ---------------------------------------------------------------------- stopped publishers */

struct publisher {
    struct scene *scene;
    struct halt halt;
    pthread_t thread;
    enum shape shape;
    int code;
    uint64_t seq;
};

static void *publisher_main(void *argument)
{
    struct publisher *publisher = argument;
    struct exitbus_event events[3];
    size_t count = victim_events(publisher->shape, publisher->code, events);
    halt_begin(&publisher->halt);
    int result = exitbus_publish_batch(publisher->scene->bus, events, count, &publisher->seq);
    halt_end(&publisher->halt);
    must_equal(result, 0);
    return NULL;
}

static void publisher_start(struct publisher *publisher, struct scene *scene, enum shape shape,
                            int number, enum probe step, unsigned passes)
{
    publisher->scene = scene;
    publisher->shape = shape;
    publisher->code = VICTIM_CODE + 10 * number;
    halt_init(&publisher->halt, step, passes);
    must(pthread_create(&publisher->thread, NULL, publisher_main, publisher) == 0);
}

/* The publisher's events are in the order together, or not at all. True if they are. */
static bool publisher_ordered(const struct publisher *publisher)
{
    const struct reader *witness = &publisher->scene->witness;
    unsigned count = publisher->shape == BATCH ? 3 : 1;
    unsigned first = occurrences(witness, publisher->code);
    must(first <= 1);
    for (unsigned i = 1; i < count; i++)
        must_equal(occurrences(witness, publisher->code + (int)i), first);
    return first == 1;
}

/* It has returned: its events are where it was told, next to each other, once. */
static void publisher_check_returned(const struct publisher *publisher)
{
    const struct reader *witness = &publisher->scene->witness;
    unsigned count = publisher->shape == BATCH ? 3 : 1;
    must(publisher_ordered(publisher));
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++)
        if (witness->log[i].exit_code == publisher->code)
            for (unsigned k = 0; k < count; k++)
                must(witness->log[i + k].seq == publisher->seq + k &&
                     witness->log[i + k].exit_code == publisher->code + (int)k);
}

static void publisher_finish(struct publisher *publisher)
{
    halt_release(&publisher->halt);
    must(pthread_join(publisher->thread, NULL) == 0);
}

static uint64_t helped(struct exitbus *bus)
{
    struct exitbus_stats stats;
    must_equal(exitbus_stats(bus, &stats), 0);
    return stats.helped;
}

/* One publisher stopped at one pass through a step. False if its call has ended before. */
static bool stop_one(struct exitbus *bus, enum probe step, unsigned passes, enum shape shape,
                     unsigned fill)
{
    struct scene scene;
    struct publisher publisher;
    scene_set(&scene, bus, shape, fill);
    uint64_t helped_before = helped(bus);
    publisher_start(&publisher, &scene, shape, 0, step, passes);
    bool stopped = halt_await(&publisher.halt);
    others_work(bus);
    scene_judge(&scene);
    bool ordered = step != PROBE_PUBLISH_SLOT_CLAIMED && step != PROBE_PUBLISH_SLOT_FILLED;
    must_equal(publisher_ordered(&publisher), ordered || !stopped);
    if (stopped && ordered && step != PROBE_PUBLISH_DONE)
        must(helped(bus) > helped_before);
    publisher_finish(&publisher);
    scene_judge(&scene);
    publisher_check_returned(&publisher);
    scene_end(&scene);
    return stopped;
}

/* Fills that bring the next event to both ends of a segment, or into the gap before one. */
static void stop_at_step(enum probe step)
{
    static const unsigned fills[] = {0, 1, 2, 3, 4, 5, 12, 20, 21};
    struct exitbus *bus = new_bus();
    unsigned stops = 0;
    for (size_t f = 0; f < sizeof fills / sizeof fills[0]; f += FEWER)
        for (enum shape shape = 0; shape < SHAPES; shape++)
            for (unsigned passes = 0; stop_one(bus, step, passes, shape, fills[f]); passes++)
                stops++;
    check(stops > 0);
    check_ok(exitbus_destroy(bus));
}

#define STOPPED_AT(name, step)                                                                     \
    TEST(stopped_publisher, name)                                                                  \
    {                                                                                              \
        stop_at_step(step);                                                                        \
    }

STOPPED_AT(slot_claimed, PROBE_PUBLISH_SLOT_CLAIMED)
STOPPED_AT(slot_filled, PROBE_PUBLISH_SLOT_FILLED)
STOPPED_AT(ordered, PROBE_PUBLISH_ORDERED)
STOPPED_AT(before_append, PROBE_DELIVER_BEFORE_APPEND)
STOPPED_AT(payload_written, PROBE_APPEND_PAYLOAD_WRITTEN)
STOPPED_AT(tag_written, PROBE_APPEND_TAG_WRITTEN)
STOPPED_AT(hint_written, PROBE_APPEND_HINT_WRITTEN)
STOPPED_AT(segment_linked, PROBE_APPEND_SEGMENT_LINKED)
STOPPED_AT(tail_moved, PROBE_APPEND_TAIL_MOVED)
STOPPED_AT(before_wake, PROBE_DELIVER_BEFORE_WAKE)
STOPPED_AT(epoch_moved, PROBE_WAKE_EPOCH_MOVED)
STOPPED_AT(wake_done, PROBE_WAKE_DONE)
STOPPED_AT(fd_written, PROBE_FD_WRITTEN)
STOPPED_AT(distributed, PROBE_PUBLISH_DISTRIBUTED)
STOPPED_AT(done, PROBE_PUBLISH_DONE)

/* The publisher meets a subscription that has not decided where it begins. */
static void *subscriber_main(void *argument);

struct subscriber {
    struct exitbus *bus;
    struct exitbus_topic topic;
    uint32_t flags;
    struct halt halt;
    pthread_t thread;
    struct reader reader;
};

static void subscriber_start(struct subscriber *subscriber, struct exitbus *bus,
                             struct exitbus_topic topic, uint32_t flags, enum probe step)
{
    *subscriber = (struct subscriber){.bus = bus, .topic = topic, .flags = flags};
    halt_init(&subscriber->halt, step, 0);
    must(pthread_create(&subscriber->thread, NULL, subscriber_main, subscriber) == 0);
}

/* Subscribes, and is then somebody whom the test can have read. */
static void *subscriber_main(void *argument)
{
    struct subscriber *subscriber = argument;
    halt_begin(&subscriber->halt);
    reader_init(&subscriber->reader, subscriber->bus, subscriber->topic, subscriber->flags);
    halt_end(&subscriber->halt);
    return NULL;
}

static void subscriber_finish(struct subscriber *subscriber)
{
    halt_release(&subscriber->halt);
    must(pthread_join(subscriber->thread, NULL) == 0);
}

/*
 * It has the end of what the witness has for its topic, without a gap: everything from `after` on
 * (events of the witness's log), and perhaps some before.
 */
static void judge_late(const struct scene *scene, struct subscriber *subscriber, unsigned after)
{
    struct reader *reader = &subscriber->reader;
    const struct reader *witness = &scene->witness;
    bool once = subscriber->flags & EXITBUS_SUBSCRIBE_ONE_SHOT;
    int result;
    while ((result = reader_take(reader, 0)) == 0)
        continue;
    must_equal(result, once ? -ESHUTDOWN : -EAGAIN);
    unsigned taken = atomic_load(&reader->note.taken), must_have = 0, at = 0;
    must(taken > 0);
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++) {
        const struct exitbus_event *event = &witness->log[i];
        if (!topic_takes(&reader->topic, event) || event->seq < reader->log[0].seq)
            continue;
        must_have += i >= after;
        if (!once || at == 0)
            must(at < taken && same_event(&reader->log[at++], event));
    }
    must_equal(at, taken);
    must(must_have > 0);
    for (unsigned i = 0; i < after; i++) /* the first that it must have is not beyond those */
        must(witness->log[i].seq < witness->log[after].seq);
    if (once)
        return;
    unsigned owed = 0;
    for (unsigned i = after; i < atomic_load(&witness->note.taken); i++)
        owed += topic_takes(&reader->topic, &witness->log[i]);
    must_equal(must_have, owed);
}

static void subscriber_free(struct subscriber *subscriber)
{
    must_equal(exitbus_unsubscribe(subscriber->reader.subscription), 0);
    reader_free(&subscriber->reader);
}

static struct exitbus_topic late_topic(unsigned which, enum shape shape)
{
    switch (which) {
    case 0:
        return exitbus_topic_all();
    case 1:
        return shape == NARROW ? exitbus_topic_any_pid() : exitbus_topic_any_exec();
    default:
        return shape == NARROW ? exitbus_topic_pid(VICTIM_PID)
                               : exitbus_topic_container(victim_id(shape));
    }
}

/*
 * Returns whether a subscribe passes a step. A subscription to a broad topic or a container gets a
 * cursor in a channel, unless it is a one-shot. The scene has made the channels of all events and
 * of the container.
 */
static bool subscribe_passes(enum probe step, unsigned which, enum shape shape, uint32_t flags)
{
    bool cursor = (which < 2 || shape != NARROW) && !(flags & EXITBUS_SUBSCRIBE_ONE_SHOT);
    switch (step) {
    case PROBE_CHANNEL_JOINED:
    case PROBE_LOG_TAIL_READ:
        return cursor;
    case PROBE_SUBSCRIBE_ORDER_READ:
        return !cursor || which == 1;
    case PROBE_SUBSCRIBE_STARTED:
        return !cursor;
    default:
        return true;
    }
}

/*
 * One subscriber stopped before it has decided where it begins, and a publisher deciding that.
 * Returns false if a receiver, which helps before it sleeps, has decided it first.
 */
static bool stop_deciding(struct exitbus *bus, unsigned which, uint32_t flags, enum shape shape,
                          bool publisher_first)
{
    struct scene scene;
    struct publisher publisher;
    struct subscriber subscriber;
    if (!subscribe_passes(PROBE_SUBSCRIBE_ORDER_READ, which, shape, flags))
        return true;
    scene_set(&scene, bus, shape, 1);
    enum probe before = subscribe_passes(PROBE_CHANNEL_JOINED, which, shape, flags)
                            ? PROBE_CHANNEL_JOINED
                            : PROBE_SUBSCRIBE_INSERTED;
    subscriber_start(&subscriber, bus, late_topic(which, shape), flags, before);
    must(halt_await(&subscriber.halt));
    publisher_start(&publisher, &scene, shape, 0, PROBE_SUBSCRIBE_ORDER_READ, 0);
    bool stopped = halt_await(&publisher.halt);
    others_work(bus);
    scene_judge(&scene);
    must(publisher_ordered(&publisher));
    if (publisher_first)
        publisher_finish(&publisher);
    subscriber_finish(&subscriber);
    unsigned after = atomic_load(&scene.witness.note.taken);
    publish_as_victim(&scene, LAST_CODE, true);
    if (!publisher_first)
        publisher_finish(&publisher);
    publish_as_victim(&scene, LAST_CODE, true);
    scene_judge(&scene);
    publisher_check_returned(&publisher);
    judge_late(&scene, &subscriber, after);
    subscriber_free(&subscriber);
    scene_end(&scene);
    return stopped;
}

TEST(stopped_publisher, deciding_where_another_begins)
{
    struct exitbus *bus = new_bus();
    for (unsigned which = 0; which < 3; which++)
        for (unsigned bits = 0; bits < 8; bits++)
            while (!stop_deciding(bus, which, bits & 1 ? EXITBUS_SUBSCRIBE_ONE_SHOT : 0,
                                  bits & 2 ? NARROW : WIDE_LONG, bits & 4))
                continue;
    check_ok(exitbus_destroy(bus));
}

/* A receiver that is about to sleep finishes an open turn itself, and needs no other publisher. */
static void receiver_helps(enum probe step)
{
    struct exitbus *bus = new_bus();
    for (unsigned which = 0; which < 2; which++) {
        struct scene scene = {.bus = bus};
        struct publisher publisher;
        struct exitbus_subscription *sub;
        struct exitbus_event event;
        struct exitbus_topic topic = which ? exitbus_topic_pid(VICTIM_PID) : exitbus_topic_all();
        must_equal(exitbus_subscribe(bus, topic, 0, &sub), 0);
        uint64_t helped_before = helped(bus);
        publisher_start(&publisher, &scene, NARROW, 0, step, 0);
        must(halt_await(&publisher.halt));
        must_equal(exitbus_receive(sub, &event, -1), 0);
        check_equal(event.exit_code, publisher.code);
        check_equal(helped(bus), helped_before + 1);
        publisher_finish(&publisher);
        check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
        must_equal(exitbus_unsubscribe(sub), 0);
    }
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_publisher, ordered_and_a_receiver_helps)
{
    receiver_helps(PROBE_PUBLISH_ORDERED);
}

TEST(stopped_publisher, before_append_and_a_receiver_helps)
{
    receiver_helps(PROBE_DELIVER_BEFORE_APPEND);
}

TEST(stopped_publisher, half_written_and_a_receiver_helps)
{
    receiver_helps(PROBE_APPEND_PAYLOAD_WRITTEN);
}

/*
 * The publisher takes out a one-shot subscription that has had its event; once more if a receiver,
 * which helps before it sleeps, has taken it out.
 */
static void stop_removing(enum probe step)
{
    struct exitbus *bus = new_bus();
    bool stopped;
    for (enum shape shape = NARROW; shape <= WIDE_LONG; shape += stopped) {
        struct scene scene;
        struct publisher publisher;
        struct exitbus_subscription *once[2];
        struct exitbus_event event;
        scene_set(&scene, bus, shape, 0);
        for (int i = 0; i < 2; i++)
            must_equal(
                exitbus_subscribe(bus, late_topic(2, shape), EXITBUS_SUBSCRIBE_ONE_SHOT, &once[i]),
                0);
        publish_as_victim(&scene, FILL_CODE, true);
        publisher_start(&publisher, &scene, shape, 0, step, 0);
        stopped = halt_await(&publisher.halt);
        others_work(bus);
        publish_as_victim(&scene, LAST_CODE, true);
        scene_judge(&scene);
        must(publisher_ordered(&publisher));
        check_ok(exitbus_receive(once[0], &event, -1));
        check_equal(event.exit_code, FILL_CODE);
        check_equal(exitbus_receive(once[0], &event, -1), -ESHUTDOWN);
        check_ok(exitbus_unsubscribe(once[0]));
        publisher_finish(&publisher);
        check_ok(exitbus_receive(once[1], &event, -1));
        check_equal(event.exit_code, FILL_CODE);
        check_ok(exitbus_unsubscribe(once[1]));
        scene_end(&scene);
    }
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_publisher, marking_a_spent_one_shot)
{
    stop_removing(PROBE_REGISTRY_MARKED);
}

TEST(stopped_publisher, having_removed_a_spent_one_shot)
{
    stop_removing(PROBE_UNSUBSCRIBE_REMOVED);
}

/* Several at once, one after the other or all together, each at some step of its own. */
static void stop_several(struct exitbus *bus, unsigned count, const enum probe *steps,
                         bool together)
{
    struct scene scene;
    struct publisher *publishers = calloc(count, sizeof *publishers);
    must(publishers);
    scene_set(&scene, bus, (enum shape)chance(SHAPES), chance(6));
    for (unsigned i = 0; i < count; i++) {
        publisher_start(&publishers[i], &scene, (enum shape)chance(SHAPES), (int)i, steps[i],
                        chance(4));
        if (!together)
            halt_await(&publishers[i].halt);
    }
    for (unsigned i = 0; together && i < count; i++)
        halt_await(&publishers[i].halt);
    others_work(bus);
    scene_judge(&scene);
    for (unsigned i = 0; i < count; i++)
        must(publisher_ordered(&publishers[i]) || halt_stopped(&publishers[i].halt));
    unsigned first = chance(count); /* let go in another order than they came */
    for (unsigned i = 0; i < count; i++) {
        publisher_finish(&publishers[(first + i) % count]);
        if (count <= 3)
            scene_judge(&scene);
    }
    scene_judge(&scene);
    for (unsigned i = 0; i < count; i++)
        publisher_check_returned(&publishers[i]);
    scene_end(&scene);
    free(publishers);
}

TEST(stopped_publishers, two_at_each_pair_of_steps)
{
    struct exitbus *bus = new_bus();
    for (size_t i = 0; i < PUBLISH_STEPS; i++)
        for (size_t k = i % FEWER; k < PUBLISH_STEPS; k += FEWER) {
            const enum probe steps[] = {publish_steps[i], publish_steps[k]};
            stop_several(bus, 2, steps, false);
        }
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_publishers, three_at_random_steps)
{
    struct exitbus *bus = new_bus();
    for (int round = 0; round < 250 / FEWER; round++) {
        enum probe steps[3];
        for (int i = 0; i < 3; i++)
            steps[i] = publish_steps[chance(PUBLISH_STEPS)];
        stop_several(bus, 3, steps, round % 2);
    }
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_publishers, a_hundred_at_random_steps)
{
    struct exitbus *bus = new_bus();
    for (int round = 0; round < 6; round++) {
        enum probe steps[100];
        for (int i = 0; i < 100; i++)
            steps[i] = publish_steps[chance(PUBLISH_STEPS)];
        stop_several(bus, 100, steps, round % 2);
    }
    check_ok(exitbus_destroy(bus));
}

/* Publishes twice, in batches, from the same slot; stops in both. */
struct rewriter {
    struct exitbus *bus;
    struct halt first, second;
    uint64_t second_seq;
};

static void *rewriter_main(void *argument)
{
    struct rewriter *rewriter = argument;
    struct exitbus_event first[] = {pid_event(1, OTHER_CODE), pid_event(2, OTHER_CODE)};
    struct exitbus_event second[] = {pid_event(3, OTHER_CODE), pid_event(VICTIM_PID, LAST_CODE)};
    halt_begin(&rewriter->first);
    must_equal(exitbus_publish_batch(rewriter->bus, first, 2, NULL), 0);
    halt_end(&rewriter->first);
    halt_begin(&rewriter->second);
    must_equal(exitbus_publish_batch(rewriter->bus, second, 2, &rewriter->second_seq), 0);
    halt_end(&rewriter->second);
    return NULL;
}

/*
 * A helper is stopped halfway through another's batch. Meanwhile that one finishes, and writes its
 * next batch where the helper has been reading; the helper must not take that for the old one.
 */
TEST(stopped_publishers, slot_rewritten_under_a_helper)
{
    struct exitbus *bus = new_bus();
    for (unsigned passes = 0; passes < 3; passes++) {
        struct scene scene;
        struct rewriter rewriter = {.bus = bus};
        struct publisher helper;
        scene_set(&scene, bus, WIDE_SHORT, 0);
        halt_init(&rewriter.first, PROBE_PUBLISH_ORDERED, 0);
        halt_init(&rewriter.second, PROBE_PUBLISH_SLOT_FILLED, 0);
        pthread_t thread = thread_start(rewriter_main, &rewriter);
        must(halt_await(&rewriter.first));
        publisher_start(&helper, &scene, WIDE_SHORT, 0, PROBE_DELIVER_BEFORE_WAKE, passes);
        must(halt_await(&helper.halt));
        halt_release(&rewriter.first);
        must(halt_await(&rewriter.second));
        publisher_finish(&helper);
        scene_judge(&scene);
        must_equal(occurrences(&scene.witness, LAST_CODE), 0);
        must_equal(atomic_load(&scene.readers[PID_ASLEEP].note.taken), 0);
        halt_release(&rewriter.second);
        thread_join(thread);
        scene_judge(&scene);
        publisher_check_returned(&helper);
        must_equal(atomic_load(&scene.readers[PID_ASLEEP].note.taken), 1);
        must_equal(scene.readers[PID_ASLEEP].log[0].seq, rewriter.second_seq + 1);
        scene_end(&scene);
    }
    check_ok(exitbus_destroy(bus));
}

/*
 * A helper is stopped halfway through another's event, which is finished by others meanwhile, and
 * more after it. Then somebody subscribes, and the helper comes by before that one has decided
 * where it begins: not with the event that the helper still has in its hands.
 */
static void late_helper(struct exitbus *bus, enum shape shape, uint32_t flags)
{
    struct scene scene;
    struct publisher owner, helper;
    struct subscriber subscriber;
    scene_set(&scene, bus, shape, 0);
    publisher_start(&owner, &scene, shape, 0, PROBE_PUBLISH_ORDERED, 0);
    must(halt_await(&owner.halt));
    publisher_start(&helper, &scene, shape, 1, PROBE_DELIVER_BEFORE_WAKE, 0);
    must(halt_await(&helper.halt));
    publisher_finish(&owner);
    publish_as_victim(&scene, FILL_CODE, true);
    publish_as_victim(&scene, FILL_CODE, true);
    scene_judge(&scene);
    unsigned before = atomic_load(&scene.witness.note.taken);
    subscriber_start(&subscriber, bus, late_topic(2, shape), flags, PROBE_SUBSCRIBE_INSERTED);
    must(halt_await(&subscriber.halt));
    publisher_finish(&helper);
    subscriber_finish(&subscriber);
    scene_judge(&scene);
    unsigned after = atomic_load(&scene.witness.note.taken);
    publish_as_victim(&scene, LAST_CODE, true);
    scene_judge(&scene);
    judge_late(&scene, &subscriber, after);
    must(subscriber.reader.log[0].seq > scene.witness.log[before - 1].seq);
    publisher_check_returned(&owner);
    publisher_check_returned(&helper);
    subscriber_free(&subscriber);
    scene_end(&scene);
}

TEST(stopped_publishers, late_helper_meets_a_new_subscription)
{
    struct exitbus *bus = new_bus();
    for (enum shape shape = NARROW; shape <= WIDE_LONG; shape++) {
        late_helper(bus, shape, 0);
        late_helper(bus, shape, EXITBUS_SUBSCRIBE_ONE_SHOT);
    }
    check_ok(exitbus_destroy(bus));
}

/* ----------------------------------------------------------------------- stopped receivers */

enum manner { TRY, WAIT, TAKE_BATCH, POLL, MANNERS };

/* A thread that receives on a subscription which it shares with others. */
struct receiver {
    struct reader reader; /* its subscription is the shared one */
    enum manner manner;
    struct halt halt;
    pthread_t thread;
};

static int receiver_take(struct receiver *receiver)
{
    struct reader *reader = &receiver->reader;
    struct halt_note *note = &reader->note;
    if (receiver->manner != TAKE_BATCH)
        return reader_take(reader, receiver->manner == WAIT ? -1 : 0);
    unsigned taken = atomic_load(&note->taken);
    ssize_t got = exitbus_receive_batch(reader->subscription, &reader->log[taken], 3, -1);
    if (got > 0)
        atomic_store(&note->taken, taken + (unsigned)got);
    return got < 0 ? (int)got : 0;
}

static void *receiver_main(void *argument)
{
    struct receiver *receiver = argument;
    struct reader *reader = &receiver->reader;
    halt_note_here = &reader->note;
    halt_begin(&receiver->halt);
    int fd = receiver->manner == POLL ? exitbus_subscription_fd(reader->subscription) : -1;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    int result;
    while ((result = receiver_take(receiver)) != -ESHUTDOWN) {
        if (result == 0)
            continue;
        must_equal(result, -EAGAIN);
        if (receiver->manner == POLL) {
            atomic_store(&reader->drained_at, atomic_load(&reader->note.taken) + 1);
            must(poll(&polled, 1, -1) == 1);
        } else {
            sched_yield();
        }
    }
    halt_end(&receiver->halt);
    return NULL;
}

/* Every event of the witness is with exactly one of them, and each has them in order. */
static void judge_shared(const struct reader *witness, struct reader *const *sharers,
                         unsigned count)
{
    unsigned at[8] = {0};
    for (unsigned i = 0; i < atomic_load(&witness->note.taken); i++) {
        unsigned found = 0;
        for (unsigned s = 0; s < count; s++)
            if (at[s] < atomic_load(&sharers[s]->note.taken) &&
                sharers[s]->log[at[s]].seq == witness->log[i].seq) {
                must(same_event(&sharers[s]->log[at[s]++], &witness->log[i]));
                found++;
            }
        must_equal(found, 1);
    }
    for (unsigned s = 0; s < count; s++)
        must_equal(at[s], atomic_load(&sharers[s]->note.taken));
}

static unsigned taken_by(struct reader *const *sharers, unsigned count)
{
    unsigned sum = 0;
    for (unsigned s = 0; s < count; s++)
        sum += atomic_load(&sharers[s]->note.taken);
    return sum;
}

/* Until the receiver has stopped: give it one event after the other, each after it has come to
 * rest. False if it does not stop. */
static bool lure(struct scene *scene, struct receiver *receiver, unsigned fill)
{
    struct halt_note *note = &receiver->reader.note;
    for (unsigned given = fill;; given++) {
        await(halt_stopped(&receiver->halt) || atomic_load(&note->slept_at) == given + 1 ||
              atomic_load(&receiver->reader.drained_at) == given + 1 ||
              (receiver->manner == TRY && atomic_load(&note->taken) == given));
        if (halt_stopped(&receiver->halt))
            return true;
        if (given == fill + 8)
            return false;
        publish_as_victim(scene, FILL_CODE, true);
    }
}

/* Events that a thread stopped at a step may have taken without having been able to tell. */
static unsigned may_hold(const struct receiver *receiver)
{
    if (!halt_stopped(&receiver->halt))
        return 0;
    switch (receiver->halt.step) {
    case PROBE_RECEIVE_TAKEN:
    case PROBE_FD_CLEARING:
    case PROBE_FD_ARMED:
    case PROBE_CHANNEL_ANNOUNCED:
        return receiver->manner == TAKE_BATCH ? 3 : 1;
    default:
        return 0;
    }
}

static bool stop_receiver(struct exitbus *bus, enum probe step, unsigned passes, enum manner manner,
                          enum shape shape, unsigned fill)
{
    struct scene scene;
    struct receiver receiver = {.manner = manner};
    struct reader sharing[2];
    struct reader *sharers[] = {&receiver.reader, &sharing[0], &sharing[1]};
    scene_set(&scene, bus, shape, 0);
    reader_init(&receiver.reader, bus, exitbus_topic_all(), 0);
    unsigned before = atomic_load(&scene.witness.note.taken);
    must_equal(before, 0);
    for (int i = 0; i < 2; i++) {
        sharing[i] = (struct reader){.topic = receiver.reader.topic,
                                     .subscription = receiver.reader.subscription,
                                     .log = malloc(LOG_MAX * sizeof *sharing[i].log)};
        must(sharing[i].log);
    }
    for (unsigned i = 0; i < fill; i++)
        publish_as_victim(&scene, FILL_CODE, true);
    halt_init(&receiver.halt, step, passes);
    must(exitbus_subscription_ref(receiver.reader.subscription) == 0);
    must(pthread_create(&receiver.thread, NULL, receiver_main, &receiver) == 0);
    bool stopped = lure(&scene, &receiver, fill);

    reader_start(&sharing[0], ASLEEP);
    reader_start(&sharing[1], BY_FD);
    others_work(bus);
    scene_judge(&scene);
    unsigned all = atomic_load(&scene.witness.note.taken);
    await(taken_by(sharers, 3) + may_hold(&receiver) >= all);
    halt_release(&receiver.halt);
    publish_as_victim(&scene, LAST_CODE, true);
    scene_judge(&scene);
    await(taken_by(sharers, 3) == atomic_load(&scene.witness.note.taken));
    must_equal(exitbus_unsubscribe(receiver.reader.subscription), 0);
    must(pthread_join(receiver.thread, NULL) == 0);
    for (int i = 0; i < 2; i++)
        reader_stop(&sharing[i], false);
    judge_shared(&scene.witness, sharers, 3);
    must(exitbus_subscription_unref(receiver.reader.subscription) == 0);
    for (int i = 0; i < 3; i++)
        reader_free(sharers[i]);
    scene_end(&scene);
    return stopped;
}

static void stop_receiver_at(enum probe step)
{
    static const unsigned fills[] = {0, 1, 5};
    struct exitbus *bus = new_bus();
    unsigned stops = 0;
    for (size_t f = 0; f < sizeof fills / sizeof fills[0]; f++)
        for (enum shape shape = NARROW; shape <= WIDE_LONG; shape++)
            for (enum manner manner = 0; manner < MANNERS; manner++)
                for (unsigned passes = 0; passes < 3; passes += FEWER)
                    stops += stop_receiver(bus, step, passes, manner, shape, fills[f]);
    check(stops > 0);
    check_ok(exitbus_destroy(bus));
}

#define RECEIVER_AT(name, step)                                                                    \
    TEST(stopped_receiver, name)                                                                   \
    {                                                                                              \
        stop_receiver_at(step);                                                                    \
    }

RECEIVER_AT(copied, PROBE_RECEIVE_COPIED)
RECEIVER_AT(taken, PROBE_RECEIVE_TAKEN)
RECEIVER_AT(head_moved, PROBE_RECEIVE_HEAD_MOVED)
RECEIVER_AT(before_sleep, PROBE_RECEIVE_BEFORE_SLEEP)
RECEIVER_AT(woken, PROBE_RECEIVE_WOKEN)
RECEIVER_AT(fd_clearing, PROBE_FD_CLEARING)
RECEIVER_AT(fd_armed, PROBE_FD_ARMED)
RECEIVER_AT(cursor_counted, PROBE_LOG_CURSOR_COUNTED)
RECEIVER_AT(channel_announced, PROBE_CHANNEL_ANNOUNCED)

/* The receiver of a one-shot subscription, which takes it out of the registry. */
static void stop_last_receive(enum probe step)
{
    struct exitbus *bus = new_bus();
    for (enum shape shape = NARROW; shape <= WIDE_LONG; shape++) {
        struct scene scene;
        struct receiver receiver = {.manner = TRY};
        struct exitbus_event event;
        scene_set(&scene, bus, shape, 0);
        reader_init(&receiver.reader, bus, late_topic(2, shape), EXITBUS_SUBSCRIBE_ONE_SHOT);
        publish_as_victim(&scene, FILL_CODE, true);
        halt_init(&receiver.halt, step, 0);
        must(pthread_create(&receiver.thread, NULL, receiver_main, &receiver) == 0);
        check(halt_await(&receiver.halt));
        others_work(bus);
        publish_as_victim(&scene, OTHER_CODE, true);
        scene_judge(&scene);
        check_equal(exitbus_receive(receiver.reader.subscription, &event, -1), -ESHUTDOWN);
        halt_release(&receiver.halt);
        must(pthread_join(receiver.thread, NULL) == 0);
        check_equal(atomic_load(&receiver.reader.note.taken), 1);
        check_equal(receiver.reader.log[0].exit_code, FILL_CODE);
        check_ok(exitbus_unsubscribe(receiver.reader.subscription));
        reader_free(&receiver.reader);
        scene_end(&scene);
    }
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_receiver, one_shot_taken)
{
    stop_last_receive(PROBE_RECEIVE_TAKEN);
}

TEST(stopped_receiver, one_shot_marked)
{
    stop_last_receive(PROBE_REGISTRY_MARKED);
}

TEST(stopped_receiver, one_shot_removed)
{
    stop_last_receive(PROBE_UNSUBSCRIBE_REMOVED);
}

/* --------------------------------------------------------------------- stopped subscribers */

static void stop_subscriber(struct exitbus *bus, enum probe step, unsigned which, uint32_t flags,
                            enum shape shape)
{
    struct scene scene;
    struct subscriber subscriber;
    scene_set(&scene, bus, shape, 1);
    subscriber_start(&subscriber, bus, late_topic(which, shape), flags, step);
    must(halt_await(&subscriber.halt));
    others_work(bus);
    publish_as_victim(&scene, OTHER_CODE, true);
    scene_judge(&scene);
    subscriber_finish(&subscriber);
    unsigned after = atomic_load(&scene.witness.note.taken);
    publish_as_victim(&scene, LAST_CODE, true);
    publish_as_victim(&scene, LAST_CODE, true);
    others_work(bus);
    scene_judge(&scene);
    judge_late(&scene, &subscriber, after);
    subscriber_free(&subscriber);
    scene_end(&scene);
}

static void stop_subscriber_at(enum probe step)
{
    struct exitbus *bus = new_bus();
    for (unsigned which = 0; which < 3; which++)
        for (enum shape shape = NARROW; shape <= WIDE_LONG; shape++)
            for (uint32_t flags = 0; flags <= EXITBUS_SUBSCRIBE_ONE_SHOT; flags++)
                for (int again = 0; again < 4 && subscribe_passes(step, which, shape, flags);
                     again += FEWER)
                    stop_subscriber(bus, step, which, flags, shape);
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_subscriber, channel_joined)
{
    stop_subscriber_at(PROBE_CHANNEL_JOINED);
}

TEST(stopped_subscriber, tail_read)
{
    stop_subscriber_at(PROBE_LOG_TAIL_READ);
}

TEST(stopped_subscriber, inserted)
{
    stop_subscriber_at(PROBE_SUBSCRIBE_INSERTED);
}

TEST(stopped_subscriber, order_read)
{
    stop_subscriber_at(PROBE_SUBSCRIBE_ORDER_READ);
}

TEST(stopped_subscriber, started)
{
    stop_subscriber_at(PROBE_SUBSCRIBE_STARTED);
}

/* ------------------------------------------------------------------- stopped unsubscribers */

struct unsubscriber {
    struct exitbus_subscription *subscription;
    struct halt halt;
    pthread_t thread;
};

static void *unsubscriber_main(void *argument)
{
    struct unsubscriber *unsubscriber = argument;
    halt_begin(&unsubscriber->halt);
    must_equal(exitbus_unsubscribe(unsubscriber->subscription), 0);
    halt_end(&unsubscriber->halt);
    return NULL;
}

static void unsubscriber_start(struct unsubscriber *unsubscriber,
                               struct exitbus_subscription *subscription, enum probe step)
{
    unsubscriber->subscription = subscription;
    halt_init(&unsubscriber->halt, step, 0);
    must(pthread_create(&unsubscriber->thread, NULL, unsubscriber_main, unsubscriber) == 0);
    must(halt_await(&unsubscriber->halt));
}

static void unsubscriber_finish(struct unsubscriber *unsubscriber)
{
    halt_release(&unsubscriber->halt);
    must(pthread_join(unsubscriber->thread, NULL) == 0);
}

/* A subscription with events in it and threads that wait on it, given up halfway. */
static void stop_unsubscriber(struct exitbus *bus, enum probe step, unsigned which,
                              enum shape shape)
{
    struct scene scene;
    struct unsubscriber unsubscriber;
    struct reader asleep, by_fd;
    struct exitbus_event event;
    scene_set(&scene, bus, shape, 0);
    reader_init(&asleep, bus, late_topic(which, shape), 0);
    reader_init(&by_fd, bus, late_topic(which, shape), 0);
    reader_start(&asleep, ASLEEP);
    reader_start(&by_fd, BY_FD);
    publish_as_victim(&scene, FILL_CODE, true);
    reader_await_rest(&asleep, 1);
    reader_await_rest(&by_fd, 1);
    struct unsubscriber other;
    must(exitbus_subscription_ref(asleep.subscription) == 0);
    unsubscriber_start(&unsubscriber, asleep.subscription, step);
    unsubscriber_start(&other, by_fd.subscription, step); /* its neighbour in the list */
    if (step != PROBE_UNSUBSCRIBE_CLOSED) {               /* those who wait are awake by now */
        must(pthread_join(asleep.thread, NULL) == 0);
        must(pthread_join(by_fd.thread, NULL) == 0);
    }
    others_work(bus);
    publish_as_victim(&scene, OTHER_CODE, true);
    scene_judge(&scene);
    must_equal(exitbus_receive(asleep.subscription, &event, -1), -ESHUTDOWN);
    must_equal(exitbus_receive(asleep.subscription, &event, 0), -ESHUTDOWN);
    unsubscriber_finish(&unsubscriber);
    others_work(bus);
    unsubscriber_finish(&other);
    if (step == PROBE_UNSUBSCRIBE_CLOSED) {
        must(pthread_join(asleep.thread, NULL) == 0);
        must(pthread_join(by_fd.thread, NULL) == 0);
    }
    must_equal(atomic_load(&asleep.note.taken), 1);
    must_equal(atomic_load(&by_fd.note.taken), 1);
    for (int i = 0; i < 2; i++) /* its thread's, and the test's */
        must(exitbus_subscription_unref(asleep.subscription) == 0);
    must(exitbus_subscription_unref(by_fd.subscription) == 0);
    reader_free(&asleep);
    reader_free(&by_fd);
    scene_end(&scene);
}

static void stop_unsubscriber_at(enum probe step)
{
    struct exitbus *bus = new_bus();
    for (unsigned which = 0; which < 3; which++)
        for (enum shape shape = NARROW; shape <= WIDE_LONG; shape++)
            for (int again = 0; again < 4; again += FEWER)
                stop_unsubscriber(bus, step, which, shape);
    check_ok(exitbus_destroy(bus));
}

TEST(stopped_unsubscriber, closed)
{
    stop_unsubscriber_at(PROBE_UNSUBSCRIBE_CLOSED);
}

TEST(stopped_unsubscriber, woken)
{
    stop_unsubscriber_at(PROBE_UNSUBSCRIBE_WOKEN);
}

TEST(stopped_unsubscriber, marked)
{
    stop_unsubscriber_at(PROBE_REGISTRY_MARKED);
}

TEST(stopped_unsubscriber, removed)
{
    stop_unsubscriber_at(PROBE_UNSUBSCRIBE_REMOVED);
}
