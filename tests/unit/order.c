/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The total order: every publish gets its place, respects real time, and is delivered at that place
 * by whoever comes by, with the same content. Here delivery is a table, indexed by seq.
 */
#include "bus/order.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/harness.h"

#include <semaphore.h>

/* What was delivered as one seq: two words of the event, 0 while it was not. */
struct delivered {
    _Atomic uint64_t publisher; /* user_us */
    _Atomic uint64_t number;    /* system_us */
};

struct fixture {
    struct account account;
    struct memory memory;
    struct order order;
    struct delivered *delivered;
    uint64_t capacity;
    _Atomic uint64_t lacks_memory; /* the seq from which on delivery fails; 0: none */
    _Atomic unsigned told;         /* events for which ORDER_WAKE_ONLY was said */
    _Atomic uint64_t deliveries;
};

#define WORD_OF(field) (offsetof(struct exitbus_event, field) / 8 - 1)

/* All who deliver a seq bring the same event, and everything below is there. */
static int deliver(void *context, uint64_t seq, const struct record *record)
{
    struct fixture *fixture = context;
    if (seq == ORDER_WAKE_ONLY) {
        must(order_stalled(&fixture->order)); /* who is told can find out */
        atomic_fetch_add(&fixture->told, 1);
        return 0;
    }
    must(seq >= 1 && seq < fixture->capacity);
    must(seq == 1 || atomic_load(&fixture->delivered[seq - 1].number) != 0);
    uint64_t failing = atomic_load(&fixture->lacks_memory);
    if (failing != 0 && seq >= failing)
        return -ENOMEM;
    atomic_fetch_add(&fixture->deliveries, 1);
    struct delivered *delivered = &fixture->delivered[seq];
    uint64_t publisher = record->words[WORD_OF(user_us)];
    uint64_t number = record->words[WORD_OF(system_us)];
    uint64_t before = 0;
    if (!atomic_compare_exchange_strong(&delivered->publisher, &before, publisher))
        must_equal(before, publisher);
    before = 0;
    if (!atomic_compare_exchange_strong(&delivered->number, &before, number))
        must_equal(before, number);
    if (record_key(record).kind == EXITBUS_EVENT_EXEC)
        must_equal(record_key(record).exec_id_size, number % EXITBUS_ID_MAX);
    return 0;
}

static void fixture_begin(struct fixture *fixture, uint64_t capacity)
{
    check_ok(reclaim_init());
    account_init(&fixture->account);
    const size_t size = sizeof(struct batch);
    memory_init(&fixture->memory, &fixture->account.allocator, &size, 1);
    order_init(&fixture->order, &fixture->memory, 0, deliver, fixture);
    fixture->delivered = calloc(capacity + 1, sizeof *fixture->delivered);
    check(fixture->delivered);
    fixture->capacity = capacity + 1;
    atomic_store(&fixture->lacks_memory, 0);
    atomic_store(&fixture->deliveries, 0);
    atomic_store(&fixture->told, 0);
}

static void fixture_end(struct fixture *fixture)
{
    order_destroy(&fixture->order);
    memory_stop_trimming(&fixture->memory);
    memory_wait_callbacks(&fixture->memory);
    memory_destroy(&fixture->memory);
    check_equal(atomic_load(&fixture->memory.bytes), 0);
    check_equal(atomic_load(&fixture->account.blocks), 0);
    free((void *)fixture->delivered);
}

static struct exitbus_event event_make(uint64_t publisher, uint64_t number)
{
    struct exitbus_event event = pid_event(1);
    if (number % 4 == 0) {
        event = exec_event("container", "");
        id_fill(event.exec_id, number % EXITBUS_ID_MAX, 'a');
    }
    event.user_us = publisher;
    event.system_us = number;
    return event;
}

/* Events number, number + 1 … of a publisher. */
static int publish(struct fixture *fixture, uint64_t publisher, uint64_t number, size_t count,
                   uint64_t *first_seq)
{
    struct exitbus_event events[EXITBUS_BATCH_MAX];
    for (size_t i = 0; i < count; i++)
        events[i] = event_make(publisher, number + i);
    reclaim_enter();
    int64_t first = count == 1 ? order_publish(&fixture->order, events)
                               : order_publish_batch(&fixture->order, events, count);
    reclaim_leave();
    if (first < 0)
        return (int)first;
    *first_seq = (uint64_t)first;
    return 0;
}

static void check_delivered(struct fixture *fixture, uint64_t seq, uint64_t publisher,
                            uint64_t number)
{
    check_equal(fixture->delivered[seq].publisher, publisher);
    check_equal(fixture->delivered[seq].number, number);
}

TEST(order, seqs_count_from_one)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 100);
    check_equal(order_count(&fixture.order), 0);
    check_equal(order_latest(&fixture.order), 0);
    for (uint64_t number = 1; number <= 50; number++) {
        uint64_t seq;
        check_equal(publish(&fixture, 1, number, 1, &seq), 0);
        check_equal(seq, number);
        check_equal(order_count(&fixture.order), number);
        check_equal(order_latest(&fixture.order), number);
        check_delivered(&fixture, seq, 1, number);
    }
    check_equal(fixture.deliveries, 50);
    check_equal(fixture.order.helped, 0);
    fixture_end(&fixture);
}

TEST(order, batches_are_consecutive)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 4000);
    uint64_t next = 1;
    for (size_t count = 1; count <= EXITBUS_BATCH_MAX; count++) {
        uint64_t seq;
        check_equal(publish(&fixture, 9, next, count, &seq), 0);
        check_equal(seq, next);
        for (size_t i = 0; i < count; i++)
            check_delivered(&fixture, seq + i, 9, next + i);
        next += count;
        check_equal(order_count(&fixture.order), next - 1);
    }
    fixture_end(&fixture);
}

/* ----------------------------------------------------------------------------- several publishers
 */

#define PUBLISHERS 4

struct crowd {
    struct fixture fixture;
    uint64_t publishes; /* of each thread */
    _Atomic uint64_t publishers;
    _Atomic uint64_t finished; /* the highest seq of a publish that has returned */
};

static void *publish_many(void *argument)
{
    struct crowd *crowd = argument;
    uint64_t publisher = atomic_fetch_add(&crowd->publishers, 1) + 1;
    uint64_t random = publisher, number = 1, last = 0;
    for (uint64_t i = 0; i < crowd->publishes; i++) {
        size_t count = random_below(&random, 8) == 0 ? 1 + random_below(&random, 20) : 1;
        /* What has returned before this publish begins comes before it (G2). */
        uint64_t earlier = atomic_load(&crowd->finished);
        uint64_t seq;
        must_equal(publish(&crowd->fixture, publisher, number, count, &seq), 0);
        must(seq > last && seq > earlier);
        last = seq + count - 1;
        /* Delivered on return, whoever did it, and with nothing in between. */
        for (size_t k = 0; k < count; k++) {
            must_equal(crowd->fixture.delivered[seq + k].publisher, publisher);
            must_equal(crowd->fixture.delivered[seq + k].number, number + k);
        }
        number += count;
        while (earlier < last && !atomic_compare_exchange_weak(&crowd->finished, &earlier, last))
            continue;
    }
    return NULL;
}

TEST(order, one_total_order_of_several_publishers)
{
    static struct crowd crowd;
    crowd.publishes = scaled(40000);
    fixture_begin(&crowd.fixture, PUBLISHERS * crowd.publishes * 21);
    pthread_t threads[PUBLISHERS];
    for (size_t i = 0; i < PUBLISHERS; i++)
        threads[i] = thread_start(publish_many, &crowd);
    for (size_t i = 0; i < PUBLISHERS; i++)
        thread_join(threads[i]);
    uint64_t events = order_count(&crowd.fixture.order);
    uint64_t last[PUBLISHERS + 1] = {0};
    for (uint64_t seq = 1; seq <= events; seq++) {
        uint64_t publisher = crowd.fixture.delivered[seq].publisher;
        check(publisher >= 1 && publisher <= PUBLISHERS);
        check_equal(crowd.fixture.delivered[seq].number, ++last[publisher]);
    }
    check_equal(last[1] + last[2] + last[3] + last[4], events);
    check_equal(crowd.fixture.delivered[events + 1].number, 0);
    fixture_end(&crowd.fixture);
}

/* -------------------------------------------------------------------------------------- helping */

static _Thread_local bool stopped_thread;
static enum probe stop_at;
static sem_t stopped, go_on;

static void stop_thread(enum probe step)
{
    if (!stopped_thread || step != stop_at)
        return;
    stopped_thread = false;
    sem_post(&stopped);
    while (sem_wait(&go_on) != 0)
        continue;
}

struct stopped_publish {
    struct fixture *fixture;
    size_t count;
    uint64_t seq;
};

static void *publish_and_stop(void *argument)
{
    struct stopped_publish *publish_of = argument;
    stopped_thread = true;
    must_equal(publish(publish_of->fixture, 1, 1, publish_of->count, &publish_of->seq), 0);
    return NULL;
}

/* A publisher stops; others publish; its events are where the step at which it stopped says. */
static void stop_and_publish(enum probe step, size_t count, bool ordered, bool delivered)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 1000);
    sem_init(&stopped, 0, 0);
    sem_init(&go_on, 0, 0);
    stop_at = step;
    exitbus_probe_hook = stop_thread;
    struct stopped_publish first = {.fixture = &fixture, .count = count};
    pthread_t thread = thread_start(publish_and_stop, &first);
    while (sem_wait(&stopped) != 0)
        continue;
    check_equal(order_count(&fixture.order), ordered ? count : 0);
    uint64_t base = ordered ? count : 0;
    for (uint64_t number = 1; number <= 100; number++) {
        uint64_t seq;
        check_equal(publish(&fixture, 2, number, 1, &seq), 0);
        check_equal(seq, base + number);
        check_delivered(&fixture, seq, 2, number);
    }
    for (size_t i = 0; i < base; i++)
        check_delivered(&fixture, 1 + i, 1, 1 + i);
    check_equal(fixture.order.helped, ordered && !delivered ? 1 : 0);
    sem_post(&go_on);
    thread_join(thread);
    exitbus_probe_hook = NULL;
    check_equal(first.seq, ordered ? 1 : 101);
    for (size_t i = 0; i < count; i++)
        check_delivered(&fixture, first.seq + i, 1, 1 + i);
    check_equal(order_count(&fixture.order), 100 + count);
    fixture_end(&fixture);
}

TEST(order, a_stopped_publisher_is_helped)
{
    for (size_t count = 1; count <= 5; count += 4) {
        stop_and_publish(PROBE_PUBLISH_SLOT_CLAIMED, count, false, false);
        stop_and_publish(PROBE_PUBLISH_SLOT_FILLED, count, false, false);
        stop_and_publish(PROBE_PUBLISH_ORDERED, count, true, false);
        stop_and_publish(PROBE_PUBLISH_DISTRIBUTED, count, true, false);
        stop_and_publish(PROBE_PUBLISH_DONE, count, true, true);
    }
}

/* ------------------------------------------------------------------------------- out of memory */

static int finish_stalled(struct fixture *fixture)
{
    reclaim_enter();
    int result = order_finish_stalled(&fixture->order);
    reclaim_leave();
    return result;
}

/* An ordered event without memory waits, is in nobody's way but that of publishes, and arrives. */
static void run_short(size_t count, bool finished_by_publish)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 100);
    uint64_t seq, last = 2 + count;
    check_equal(publish(&fixture, 1, 1, 1, &seq), 0);
    check(!order_stalled(&fixture.order));
    check_equal(finish_stalled(&fixture), 0);

    atomic_store(&fixture.lacks_memory, last);
    check_equal(publish(&fixture, 1, 2, count + 1, &seq), 0); /* all but its last are delivered */
    check_equal(seq, 2);
    check(order_stalled(&fixture.order));
    for (unsigned i = 0; i < 3; i++) {
        check_equal(publish(&fixture, 2, 1, 1, &seq), -ENOMEM);
        check_equal(finish_stalled(&fixture), -ENOMEM);
        check_equal(order_count(&fixture.order), last);
    }
    check_equal(fixture.delivered[last].number, 0);
    check_equal(atomic_load(&fixture.told), count + 1); /* once, by the first of these attempts */

    atomic_store(&fixture.lacks_memory, 0);
    if (!finished_by_publish) {
        check_equal(finish_stalled(&fixture), 0);
        check(!order_stalled(&fixture.order));
        check_delivered(&fixture, last, 1, last);
    }
    check_equal(publish(&fixture, 2, 1, 1, &seq), 0);
    check_equal(seq, last + 1);
    check_delivered(&fixture, last, 1, last);
    check_delivered(&fixture, last + 1, 2, 1);
    for (uint64_t i = 2; i < 30; i++) /* the slot that was left behind is in use again or free */
        check_equal(publish(&fixture, 2, i, 1, &seq), 0);
    check_equal(seq, last + 29);
    check_equal(atomic_load(&fixture.account.blocks), count > 0 ? 2 : 1);
    fixture_end(&fixture);
}

TEST(order, an_event_without_memory_is_finished_by_the_next_publish)
{
    run_short(0, true);
    run_short(3, true);
}

TEST(order, an_event_without_memory_is_finished_by_a_receiver)
{
    run_short(0, false);
    run_short(3, false);
}

TEST(order, no_memory_for_the_publish_itself)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 100);
    uint64_t seq = 77;
    atomic_store(&fixture.account.refuse, true);
    check_equal(publish(&fixture, 1, 1, 1, &seq), -ENOMEM);
    check_equal(order_count(&fixture.order), 0);
    atomic_store(&fixture.account.refuse, false);
    check_equal(publish(&fixture, 1, 1, 1, &seq), 0);
    atomic_store(&fixture.account.refuse, true);
    check_equal(publish(&fixture, 1, 2, 2, &seq), -ENOMEM); /* the batch's room */
    check_equal(publish(&fixture, 1, 2, 1, &seq), 0);
    check_equal(seq, 2);
    atomic_store(&fixture.account.refuse, false);
    check_equal(publish(&fixture, 1, 3, 2, &seq), 0);
    check_equal(seq, 3);
    check_equal(fixture.deliveries, 4);
    fixture_end(&fixture);
}

/* --------------------------------------------------------------------------------------- limits */

static int deliver_nothing(void *context, uint64_t seq, const struct record *record)
{
    (void)context;
    (void)seq;
    (void)record;
    return 0;
}

TEST(order, the_end_of_all_seqs)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 1);
    fixture.order.deliver = deliver_nothing;
    const uint64_t highest = ((uint64_t)1 << 47) - 1;
    /* As if all but three of them had been published: seq from bit 17 on, done in bit 0. */
    atomic_store(&fixture.order.word, (highest - 3) << 17 | 1);
    uint64_t seq = 0;
    check_equal(publish(&fixture, 1, 1, 4, &seq), -EOVERFLOW);
    check_equal(order_count(&fixture.order), highest - 3);
    check_equal(publish(&fixture, 1, 1, 2, &seq), 0);
    check_equal(seq, highest - 2);
    check_equal(publish(&fixture, 1, 1, 2, &seq), -EOVERFLOW);
    check_equal(publish(&fixture, 1, 1, 1, &seq), 0);
    check_equal(seq, highest);
    check_equal(publish(&fixture, 1, 1, 1, &seq), -EOVERFLOW);
    check_equal(order_count(&fixture.order), highest);
    fixture_end(&fixture);
}

/* From here on as a thread for which there was no record, or as one that has one. */
static void use_shared_record(bool shared)
{
    epoch_own = shared ? &epoch_shared_record : &epoch_no_record;
}

static void mark_shared_slot(struct fixture *fixture, size_t slot_bytes, unsigned index, bool taken)
{
    char *slots = (char *)atomic_load(&fixture->order.chunks[0]);
    check(slots);
    atomic_store((_Atomic uint32_t *)(void *)(slots + index * slot_bytes), taken);
}

TEST(order, threads_without_a_number_share_slots)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 100);
    uint64_t seq;
    use_shared_record(true);
    check_equal(publish(&fixture, 1, 1, 1, &seq), 0);
    size_t slot_bytes = atomic_load(&fixture.memory.bytes) / ORDER_SHARED_SLOTS;
    for (unsigned i = 0; i < ORDER_SHARED_SLOTS; i++) {
        check_equal(publish(&fixture, 1, 2 + i, 1, &seq), 0);
        check_equal(seq, 2 + i);
        mark_shared_slot(&fixture, slot_bytes, i, true);
    }
    check_equal(publish(&fixture, 1, 90, 1, &seq), -EAGAIN);
    check_equal(order_count(&fixture.order), 1 + ORDER_SHARED_SLOTS);
    mark_shared_slot(&fixture, slot_bytes, 5, false);
    check_equal(publish(&fixture, 1, 90, 1, &seq), 0);
    check_equal(seq, 2 + ORDER_SHARED_SLOTS);
    for (unsigned i = 0; i < ORDER_SHARED_SLOTS; i++)
        mark_shared_slot(&fixture, slot_bytes, i, i != 7);
    use_shared_record(false);
    atomic_store(&fixture.account.refuse, true);
    check_equal(publish(&fixture, 1, 91, 1, &seq),
                0); /* has a number, but no memory for its slot */
    mark_shared_slot(&fixture, slot_bytes, 7, true);
    check_equal(publish(&fixture, 1, 92, 1, &seq), -EAGAIN);
    atomic_store(&fixture.account.refuse, false);
    check_equal(publish(&fixture, 1, 92, 1, &seq), 0);
    check_equal(seq, 4 + ORDER_SHARED_SLOTS);
    fixture_end(&fixture);
}

/* Ends while its turn is open: as by pthread_exit from a signal handler. */
static void *end_in_the_middle(void *argument)
{
    struct fixture *fixture = argument;
    uint64_t seq;
    atomic_store(&fixture->lacks_memory, 1);
    must_equal(publish(fixture, 1, 1, 1, &seq), 0);
    atomic_store(&fixture->lacks_memory, 0);
    return (void *)(uintptr_t)epoch_own->number;
}

static void *take_over(void *argument)
{
    uint64_t seq;
    must_equal(publish(argument, 2, 1, 1, &seq), 0);
    must_equal(seq, 2);
    return (void *)(uintptr_t)epoch_own->number;
}

TEST(order, a_turn_that_its_thread_has_left_open_is_finished_by_the_next_owner_of_the_slot)
{
    static struct fixture fixture;
    fixture_begin(&fixture, 100);
    void *first, *second;
    pthread_t thread = thread_start(end_in_the_middle, &fixture);
    must(pthread_join(thread, &first) == 0);
    check_equal(fixture.delivered[1].number, 0);
    thread = thread_start(take_over, &fixture);
    must(pthread_join(thread, &second) == 0);
    check(first == second); /* or this is a test of nothing */
    check_delivered(&fixture, 1, 1, 1);
    check_delivered(&fixture, 2, 2, 1);
    fixture_end(&fixture);
}
