/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One subscription's queue: order, growth over segments, wide events and the gaps they leave,
 * counts, closing, and above all that helpers, however late, never append an event twice.
 */
#include "queue/append.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/harness.h"
#include "support/records.h"

#include <sched.h>

struct fixture {
    struct account account;
    struct memory memory;
    struct queue_tail tail;
    struct queue_head head;
    struct first_segment first;
};

static void fixture_begin(struct fixture *fixture)
{
    static const size_t block_sizes[SEGMENT_CLASSES] = {SEGMENT_BYTES(4), SEGMENT_BYTES(16),
                                                        SEGMENT_BYTES(126)};
    check_ok(reclaim_init());
    account_init(&fixture->account);
    memory_init(&fixture->memory, &fixture->account.allocator, block_sizes, SEGMENT_CLASSES);
    memset((void *)&fixture->first, 0xa5, sizeof fixture->first);
    queue_init(&fixture->tail, &fixture->head, &fixture->first);
}

static void fixture_end(struct fixture *fixture)
{
    queue_destroy(&fixture->head, &fixture->memory);
    memory_stop_trimming(&fixture->memory);
    memory_wait_callbacks(&fixture->memory);
    memory_destroy(&fixture->memory);
    check_equal(atomic_load(&fixture->memory.bytes), 0);
    check_equal(atomic_load(&fixture->account.blocks), 0);
}

static int append(struct fixture *fixture, uint64_t seq, unsigned cells)
{
    struct exitbus_event event = event_make(seq, cells);
    struct record record;
    event_encode(&event, &record);
    must_equal(record_cells(record.words[0]), cells);
    reclaim_enter();
    int result = queue_append(&fixture->tail, &fixture->memory, seq, &record);
    reclaim_leave();
    return result;
}

static ssize_t take(struct fixture *fixture, struct exitbus_event *events, size_t capacity)
{
    reclaim_enter();
    ssize_t count = queue_take(&fixture->tail, &fixture->head, &fixture->memory, events, capacity);
    reclaim_leave();
    return count;
}

static uint64_t appended(struct fixture *fixture)
{
    reclaim_enter();
    uint64_t count = queue_appended(&fixture->tail);
    reclaim_leave();
    return count;
}

static uint64_t taken(struct fixture *fixture)
{
    reclaim_enter();
    uint64_t count = queue_taken(&fixture->head);
    reclaim_leave();
    return count;
}

/* ---------------------------------------------------------------------------- order and growth */

TEST(queue, empty_one_full_one_empty_one)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event event;
    check(queue_empty(&fixture.head));
    check_equal(take(&fixture, &event, 1), -EAGAIN);
    check_equal(append(&fixture, 7, 1), 0);
    check(!queue_empty(&fixture.head));
    check_equal(take(&fixture, &event, 1), 1);
    must_be_event(&event, 7, 1);
    check(queue_empty(&fixture.head));
    check_equal(take(&fixture, &event, 1), -EAGAIN);
    check_equal(atomic_load(&fixture.account.allocations), 0);
    fixture_end(&fixture);
}

TEST(queue, segments_grow)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    const uint32_t capacities[] = {1, 4, 16, 126, 126, 126};
    const uint64_t events = 1 + 4 + 16 + 3 * 126;
    for (uint64_t seq = 1; seq <= events; seq++)
        check_equal(append(&fixture, seq, 1), 0);
    const struct segment *segment = &fixture.first.segment;
    uint64_t before = 0;
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        check_equal(segment->capacity, capacities[i]);
        check_equal(segment->first_ordinal, before);
        check_equal(segment->base, before + 1);
        before += capacities[i];
        segment = atomic_load(&segment->next);
    }
    check(!segment);
    for (uint64_t seq = 1; seq <= events; seq++) {
        struct exitbus_event event;
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, seq, 1);
    }
    check(queue_empty(&fixture.head));
    fixture_end(&fixture);
}

/* A record that would not fit the next size of segment gets one that it fits. */
TEST(queue, wide_events_skip_small_segments)
{
    for (unsigned cells = 2; cells <= RECORD_CELLS_MAX; cells++) {
        struct fixture fixture;
        fixture_begin(&fixture);
        check_equal(append(&fixture, 5, cells), 0);
        const struct segment *second = atomic_load(&fixture.first.segment.next);
        check_equal(second->capacity, cells <= 4 ? 4 : 16);
        check_equal(second->first_ordinal, 0);
        struct exitbus_event event;
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, 5, cells);
        check_equal(append(&fixture, 6, 1), 0);
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, 6, 1);
        fixture_end(&fixture);
    }
}

/* Segments that were left with empty cells at their end. */
static size_t count_gaps(struct fixture *fixture)
{
    size_t gaps = 0;
    for (const struct segment *segment = &fixture->first.segment; atomic_load(&segment->next);
         segment = atomic_load(&segment->next))
        gaps += atomic_load(&segment_cell(segment, segment->capacity - 1)->tag) < segment->base;
    return gaps;
}

/* Seqs with holes, as a queue sees them whose topic matches some events only. */
#define SEQ_OF(number) (3 * (uint64_t)(number))

TEST(queue, wide_events_leave_gaps_that_nobody_sees)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    const unsigned events = 5000;
    for (unsigned i = 1; i <= events; i++)
        check_equal(append(&fixture, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
    check(count_gaps(&fixture) > 10);
    check_equal(appended(&fixture), events);
    for (unsigned i = 1; i <= events; i++) {
        struct exitbus_event event;
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, SEQ_OF(i), mixed_width(SEQ_OF(i)));
    }
    check(queue_empty(&fixture.head));
    fixture_end(&fixture);
}

/* With the receiver close behind, so that it stands at each gap before and after it becomes one. */
TEST(queue, gaps_are_crossed_as_they_come_to_be)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event event;
    for (unsigned i = 1; i <= 5000; i++) {
        check(queue_empty(&fixture.head));
        check_equal(take(&fixture, &event, 1), -EAGAIN);
        check_equal(append(&fixture, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
        check(!queue_empty(&fixture.head));
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, SEQ_OF(i), mixed_width(SEQ_OF(i)));
        check_equal(taken(&fixture), i);
    }
    fixture_end(&fixture);
}

TEST(queue, batches_are_consecutive)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    const unsigned events = 4000;
    struct exitbus_event batch[33];
    uint64_t random = 1;
    unsigned in = 0, out = 0;
    while (out < events) {
        for (unsigned i = random_below(&random, 64); i > 0 && in < events; i--, in++)
            check_equal(append(&fixture, SEQ_OF(in + 1), mixed_width(SEQ_OF(in + 1))), 0);
        size_t capacity = 1 + random_below(&random, 32);
        memset((void *)batch, 0x77, sizeof batch);
        ssize_t count = take(&fixture, batch, capacity);
        check_equal(count == -EAGAIN, in == out);
        if (count < 0)
            continue;
        check(count > 0 && (size_t)count <= capacity);
        for (ssize_t i = 0; i < count; i++) {
            out++;
            must_be_event(&batch[i], SEQ_OF(out), mixed_width(SEQ_OF(out)));
        }
        check_equal(batch[count].seq, 0x7777777777777777); /* not one written too many */
    }
    fixture_end(&fixture);
}

TEST(queue, counts)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event event;
    uint64_t in = 0, out = 0, random = 4711;
    for (unsigned step = 0; step < 4000; step++) {
        if (random_below(&random, 5) < 3) {
            in++;
            check_equal(append(&fixture, SEQ_OF(in), mixed_width(SEQ_OF(in))), 0);
        } else if (in > out) {
            out++;
            check_equal(take(&fixture, &event, 1), 1);
        }
        check_equal(appended(&fixture), in);
        check_equal(taken(&fixture), out);
    }
    check(in > out);
    fixture_end(&fixture);
}

/* ----------------------------------------------------------------------------------- closing */

TEST(queue, closing)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event event;
    for (uint64_t seq = 1; seq <= 10; seq++)
        check_equal(append(&fixture, seq, 1), 0);
    check_equal(take(&fixture, &event, 1), 1);
    check(!queue_closed(&fixture.head));
    check(queue_close(&fixture.head));
    check(!queue_close(&fixture.head));
    check(queue_closed(&fixture.head));
    check(!queue_empty(&fixture.head));
    check_equal(take(&fixture, &event, 1), -ESHUTDOWN);
    check_equal(append(&fixture, 11, 1), 0);
    check_equal(take(&fixture, &event, 1), -ESHUTDOWN);
    check_equal(taken(&fixture), 1);
    check_equal(appended(&fixture), 11);
    fixture_end(&fixture);
}

TEST(queue, take_and_close)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event events[4];
    queue_set_one_shot(&fixture.head);
    check(queue_one_shot(&fixture.head));
    reclaim_enter();
    check_equal(queue_take(&fixture.tail, &fixture.head, &fixture.memory, events, 4), -EAGAIN);
    check(!queue_closed(&fixture.head));
    check_equal(append(&fixture, 1, 1), 0);
    check_equal(append(&fixture, 2, 1), 0);
    check_equal(queue_take(&fixture.tail, &fixture.head, &fixture.memory, events, 4), 1);
    check(queue_closed(&fixture.head));
    check_equal(queue_take(&fixture.tail, &fixture.head, &fixture.memory, events, 4), -ESHUTDOWN);
    reclaim_leave();
    must_be_event(&events[0], 1, 1);
    check_equal(taken(&fixture), 1);
    fixture_end(&fixture);
}

static struct fixture *interrupted;

/* Closes the queue when the receiver has copied an event but not yet taken it. */
static void close_after_copy(enum probe step)
{
    if (step == PROBE_RECEIVE_COPIED)
        queue_close(&interrupted->head);
}

TEST(queue, a_take_that_is_overtaken_by_close_fails)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    check_equal(append(&fixture, 1, 1), 0);
    interrupted = &fixture;
    exitbus_probe_hook = close_after_copy;
    struct exitbus_event event;
    check_equal(take(&fixture, &event, 1), -ESHUTDOWN);
    exitbus_probe_hook = NULL;
    check_equal(taken(&fixture), 0);
    fixture_end(&fixture);
}

/* ------------------------------------------------------------------------------- late helpers */

TEST(queue, appending_again_changes_nothing)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    for (unsigned i = 1; i <= 300; i++) {
        check_equal(append(&fixture, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
        for (unsigned late = 1; late <= i; late++) {
            check_equal(append(&fixture, SEQ_OF(late), mixed_width(SEQ_OF(late))), 0);
            check_equal(appended(&fixture), i);
        }
    }
    for (unsigned i = 1; i <= 300; i++) {
        struct exitbus_event event;
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, SEQ_OF(i), mixed_width(SEQ_OF(i)));
    }
    check(queue_empty(&fixture.head));
    fixture_end(&fixture);
}

/* The hint is written plainly, so a slow thread may put back any older one. */
TEST(queue, appending_again_with_an_old_hint_changes_nothing)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    enum { EVENTS = 120 };
    uint64_t hints[EVENTS + 1];
    for (unsigned i = 1; i <= EVENTS; i++) {
        check_equal(append(&fixture, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
        hints[i] = atomic_load(&fixture.tail.hint);
        for (unsigned old = 1; old <= i; old++) {
            for (unsigned late = 1; late <= i; late += i - late < 8 ? 1 : 5) {
                atomic_store(&fixture.tail.hint, hints[old]);
                check_equal(append(&fixture, SEQ_OF(late), mixed_width(SEQ_OF(late))), 0);
            }
        }
        check_equal(appended(&fixture), i);
        atomic_store(&fixture.tail.hint, hints[1 + i / 2]); /* for the next event, too */
    }
    for (unsigned i = 1; i <= EVENTS; i++) {
        struct exitbus_event event;
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, SEQ_OF(i), mixed_width(SEQ_OF(i)));
    }
    check(queue_empty(&fixture.head));
    fixture_end(&fixture);
}

static enum probe interrupted_step;
static unsigned interrupted_number; /* of the event that is being appended */

/* Between two steps of an append, other threads append the events before once more, and this one.
 */
static void append_in_between(enum probe step)
{
    if (step != interrupted_step)
        return;
    exitbus_probe_hook = NULL;
    for (unsigned late = interrupted_number > 4 ? interrupted_number - 4 : 1;
         late <= interrupted_number; late++)
        must_equal(append(interrupted, SEQ_OF(late), mixed_width(SEQ_OF(late))), 0);
}

/*
 * One thread is overtaken by others at the given step of each append, and goes on when they have
 * finished that event.
 */
static void interrupt_appends(enum probe step)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    interrupted = &fixture;
    interrupted_step = step;
    for (unsigned i = 1; i <= 300; i++) {
        interrupted_number = i;
        exitbus_probe_hook = append_in_between;
        check_equal(append(&fixture, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
        exitbus_probe_hook = NULL;
        check_equal(appended(&fixture), i);
    }
    for (unsigned i = 1; i <= 300; i++) {
        struct exitbus_event event;
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, SEQ_OF(i), mixed_width(SEQ_OF(i)));
    }
    check(queue_empty(&fixture.head));
    fixture_end(&fixture);
}

TEST(queue, helpers_at_each_step_of_an_append)
{
    interrupt_appends(PROBE_APPEND_PAYLOAD_WRITTEN);
    interrupt_appends(PROBE_APPEND_TAG_WRITTEN);
    interrupt_appends(PROBE_APPEND_HINT_WRITTEN);
    interrupt_appends(PROBE_APPEND_SEGMENT_LINKED);
    interrupt_appends(PROBE_APPEND_TAIL_MOVED);
}

/* Others finish the event that a thread is at, and go on with three more, before it wakes up. */
static void append_ahead(enum probe step)
{
    if (step != interrupted_step)
        return;
    exitbus_probe_hook = NULL;
    for (unsigned i = interrupted_number; i <= interrupted_number + 3; i++)
        must_equal(append(interrupted, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
}

TEST(queue, a_thread_that_slept_through_the_next_events)
{
    const enum probe steps[] = {PROBE_APPEND_PAYLOAD_WRITTEN, PROBE_APPEND_TAG_WRITTEN,
                                PROBE_APPEND_HINT_WRITTEN, PROBE_APPEND_SEGMENT_LINKED,
                                PROBE_APPEND_TAIL_MOVED};
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        struct fixture fixture;
        fixture_begin(&fixture);
        interrupted = &fixture;
        interrupted_step = steps[s];
        for (unsigned i = 1; i <= 300; i++) {
            interrupted_number = i;
            exitbus_probe_hook = append_ahead;
            check_equal(append(&fixture, SEQ_OF(i), mixed_width(SEQ_OF(i))), 0);
            bool slept = !exitbus_probe_hook;
            exitbus_probe_hook = NULL;
            check(appended(&fixture) >= i);
            check(!slept || appended(&fixture) >= i + 3);
        }
        uint64_t all = appended(&fixture);
        for (unsigned i = 1; i <= all; i++) {
            struct exitbus_event event;
            check_equal(take(&fixture, &event, 1), 1);
            must_be_event(&event, SEQ_OF(i), mixed_width(SEQ_OF(i)));
        }
        check(queue_empty(&fixture.head));
        fixture_end(&fixture);
    }
}

/* ------------------------------------------------------------------------------------- memory */

TEST(queue, out_of_memory_appends_nothing_and_can_be_repeated)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event event;
    check_equal(append(&fixture, 1, 1), 0);
    atomic_store(&fixture.account.refuse, true);
    check_equal(append(&fixture, 2, 1), -ENOMEM);
    check_equal(append(&fixture, 2, 1), -ENOMEM);
    check_equal(append(&fixture, 1, 1), 0); /* a late helper needs none */
    check_equal(appended(&fixture), 1);
    check_equal(take(&fixture, &event, 1), 1);
    check_equal(take(&fixture, &event, 1), -EAGAIN);
    atomic_store(&fixture.account.refuse, false);
    check_equal(append(&fixture, 2, 1), 0);
    check_equal(take(&fixture, &event, 1), 1);
    must_be_event(&event, 2, 1);
    fixture_end(&fixture);
}

/* Segments that come round again bring their old tags, which must pass for empty. */
TEST(queue, segments_are_used_again)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct exitbus_event event;
    const uint64_t events = 30000;
    for (uint64_t seq = 1; seq <= events; seq++) {
        check_equal(append(&fixture, seq, 1), 0);
        check_equal(take(&fixture, &event, 1), 1);
        must_be_event(&event, seq, 1);
        if (seq % 1000 == 0) /* about a batch of retired segments */
            await(memory_callbacks(&fixture.memory) == 0);
    }
    check_equal(appended(&fixture), events);
    /* The segments of all events at once would take 32 slabs. */
    check(atomic_load(&fixture.account.allocations) < 16);
    fixture_end(&fixture);
}

/* ---------------------------------------------------------------------------------- concurrency */

struct crowd {
    struct fixture fixture;
    uint64_t events;
    bool wide;
    _Atomic uint8_t *received; /* times, by seq */
    _Atomic uint64_t total;
};

static unsigned crowd_width(const struct crowd *crowd, uint64_t seq)
{
    return crowd->wide ? mixed_width(seq) : 1;
}

/* One of several threads that all append every event. */
static void *append_all(void *argument)
{
    struct crowd *crowd = argument;
    for (uint64_t seq = 1; seq <= crowd->events; seq++)
        must_equal(append(&crowd->fixture, seq, crowd_width(crowd, seq)), 0);
    return NULL;
}

static void *take_many(void *argument)
{
    struct crowd *crowd = argument;
    struct exitbus_event events[8];
    uint64_t last = 0, random = (uintptr_t)&events;
    while (atomic_load(&crowd->total) < crowd->events) {
        ssize_t count = take(&crowd->fixture, events, 1 + random_below(&random, 8));
        if (count == -EAGAIN) {
            sched_yield();
            continue;
        }
        must(count > 0);
        for (ssize_t i = 0; i < count; i++) {
            must(events[i].seq > last);
            last = events[i].seq;
            must(last <= crowd->events);
            must_be_event(&events[i], last, crowd_width(crowd, last));
            must_equal(atomic_fetch_add(&crowd->received[last], 1), 0);
        }
        atomic_fetch_add(&crowd->total, (uint64_t)count);
    }
    return NULL;
}

static void run_crowd(unsigned appenders, unsigned receivers, bool wide, uint64_t events)
{
    static struct crowd crowd;
    fixture_begin(&crowd.fixture);
    crowd.events = events;
    crowd.wide = wide;
    crowd.received = calloc(events + 1, sizeof *crowd.received);
    must(crowd.received);
    pthread_t threads[16];
    must(appenders + receivers <= 16);
    for (unsigned i = 0; i < appenders + receivers; i++)
        threads[i] = thread_start(i < appenders ? append_all : take_many, &crowd);
    for (unsigned i = 0; i < appenders + receivers; i++)
        thread_join(threads[i]);
    for (uint64_t seq = 1; seq <= events; seq++)
        check_equal(crowd.received[seq], 1);
    check(queue_empty(&crowd.fixture.head));
    check_equal(appended(&crowd.fixture), events);
    check_equal(taken(&crowd.fixture), events);
    free((void *)crowd.received);
    fixture_end(&crowd.fixture);
}

TEST(queue, many_receivers_take_each_event_once)
{
    run_crowd(1, 4, false, scaled(200000));
}

TEST(queue, many_receivers_take_each_wide_event_once)
{
    run_crowd(1, 3, true, scaled(100000));
}

TEST(queue, several_helpers_append_each_event_once)
{
    run_crowd(3, 1, false, scaled(200000));
}

TEST(queue, several_helpers_append_each_wide_event_once)
{
    run_crowd(3, 3, true, scaled(100000));
}
