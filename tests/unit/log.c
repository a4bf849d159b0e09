/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The log of a channel: where a cursor begins, that each gets everything from there on, which
 * segments are kept for the slowest, that they come back, and in what portions.
 */
#include "queue/append.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/harness.h"
#include "support/records.h"

struct fixture {
    struct account account;
    struct memory memory;
    struct queue_tail tail;
    struct log_first_segment first;
    uint64_t last; /* seq appended */
};

static void fixture_begin(struct fixture *fixture)
{
    static const size_t block_sizes[SEGMENT_CLASSES] = {SEGMENT_BYTES(4), SEGMENT_BYTES(16),
                                                        SEGMENT_BYTES(126)};
    *fixture = (struct fixture){0};
    check_ok(reclaim_init());
    account_init(&fixture->account);
    memory_init(&fixture->memory, &fixture->account.allocator, block_sizes, SEGMENT_CLASSES);
    memset((void *)&fixture->first, 0xa5, sizeof fixture->first);
    log_init(&fixture->tail, &fixture->first);
}

static void fixture_end(struct fixture *fixture)
{
    log_destroy(&fixture->tail, &fixture->memory);
    memory_stop_trimming(&fixture->memory);
    memory_wait_callbacks(&fixture->memory);
    memory_destroy(&fixture->memory);
    check_equal(atomic_load(&fixture->memory.bytes), 0);
    check_equal(atomic_load(&fixture->account.blocks), 0);
}

static void append(struct fixture *fixture, unsigned cells)
{
    struct exitbus_event event = event_make(++fixture->last, cells);
    struct record record;
    event_encode(&event, &record);
    reclaim_enter();
    must_equal(queue_append(&fixture->tail, &fixture->memory, fixture->last, &record), 0);
    reclaim_leave();
}

static void append_mixed(struct fixture *fixture)
{
    append(fixture, mixed_width(fixture->last + 1));
}

static uint64_t join(struct fixture *fixture, struct queue_head *head)
{
    reclaim_enter();
    uint64_t ordinal = log_join(&fixture->tail, head, &fixture->memory);
    reclaim_leave();
    return ordinal;
}

static void leave(struct fixture *fixture, struct queue_head *head)
{
    reclaim_enter();
    must(queue_close(head));
    log_leave(head, &fixture->memory);
    reclaim_leave();
}

static ssize_t take(struct fixture *fixture, struct queue_head *head, struct exitbus_event *events,
                    size_t capacity)
{
    reclaim_enter();
    ssize_t count = queue_take(&fixture->tail, head, &fixture->memory, events, capacity);
    reclaim_leave();
    return count;
}

/* Takes everything from `first` on, in batches, and returns with the cursor at the end. */
static void take_from(struct fixture *fixture, struct queue_head *head, uint64_t first,
                      size_t batch)
{
    struct exitbus_event events[64];
    ssize_t count;
    while ((count = take(fixture, head, events, batch)) > 0)
        for (ssize_t i = 0; i < count; i++, first++)
            must_be_event(&events[i], first, mixed_width(first));
    must_equal(count, -EAGAIN);
    must_equal(first, fixture->last + 1);
}

/* Segments that were sent on their way back, ever. */
static size_t retired(const struct fixture *fixture)
{
    size_t count = 0;
    for (unsigned class = 0; class < SEGMENT_CLASSES; class ++)
        count += atomic_load(&fixture->memory.pools[class].retired_count);
    return count;
}

/* Segments from the pool in the log, while the first one is still there. */
static size_t segments(const struct fixture *fixture)
{
    size_t count = 0;
    const struct segment *segment = &fixture->first.segment;
    while ((segment = atomic_load(&segment->next)))
        count++;
    return count;
}

/* -------------------------------------------------------------------------------------- cursors */

TEST(log, a_cursor_begins_at_the_end)
{
    for (unsigned before = 0; before < 400; before += 1 + before / 20) {
        struct fixture fixture;
        struct queue_head head;
        fixture_begin(&fixture);
        for (unsigned i = 0; i < before; i++)
            append_mixed(&fixture);
        check_equal(join(&fixture, &head), before);
        struct exitbus_event event;
        check_equal(take(&fixture, &head, &event, 1), -EAGAIN);
        check_equal(queue_taken(&head), before);
        check_equal(queue_appended(&fixture.tail), before);
        append_mixed(&fixture);
        check_equal(take(&fixture, &head, &event, 1), 1);
        must_be_event(&event, before + 1, mixed_width(before + 1));
        check_equal(queue_taken(&head), before + 1);
        leave(&fixture, &head);
        check_equal(take(&fixture, &head, &event, 1), -ESHUTDOWN);
        fixture_end(&fixture);
    }
}

TEST(log, each_cursor_gets_all)
{
    struct fixture fixture;
    struct queue_head heads[5];
    uint64_t first[5];
    fixture_begin(&fixture);
    for (unsigned c = 0; c < 5; c++) {
        first[c] = fixture.last + 1;
        check_equal(join(&fixture, &heads[c]), fixture.last);
        for (unsigned i = 0; i < 700; i++)
            append_mixed(&fixture);
    }
    for (unsigned c = 5; c-- > 0;)
        take_from(&fixture, &heads[c], first[c], 1 + 13 * c);
    for (unsigned c = 0; c < 5; c++)
        leave(&fixture, &heads[c]);
    fixture_end(&fixture);
}

/* ------------------------------------------------------------------------------------- segments */

/* 5,000 events, of which one cursor has taken all, and the other none. */
static void fall_behind(struct fixture *fixture, struct queue_head *slow, struct queue_head *fast)
{
    join(fixture, slow);
    join(fixture, fast);
    for (unsigned i = 0; i < 5000; i++)
        append_mixed(fixture);
    take_from(fixture, fast, 1, 64);
}

TEST(log, the_slowest_cursor_keeps_what_it_is_owed)
{
    struct fixture fixture;
    struct queue_head slow, fast;
    fixture_begin(&fixture);
    fall_behind(&fixture, &slow, &fast);
    check_equal(retired(&fixture), 0);
    size_t all = segments(&fixture);
    check(all > 20);
    take_from(&fixture, &slow, 1, 64);
    check_equal(retired(&fixture), all - 1); /* all but the one that both are in */
    leave(&fixture, &slow);
    leave(&fixture, &fast);
    check_equal(retired(&fixture), all - 1); /* the tail is still there */
    fixture_end(&fixture);
}

/* A cursor that leaves pays for a few of the segments that it has kept; a callback has the rest. */
TEST(log, a_slow_cursor_leaves_in_portions)
{
    struct fixture fixture;
    struct queue_head slow, fast;
    fixture_begin(&fixture);
    fall_behind(&fixture, &slow, &fast);
    size_t all = segments(&fixture);
    check_equal(retired(&fixture), 0);
    leave(&fixture, &slow);
    check(retired(&fixture) <= 8);
    memory_wait_callbacks(&fixture.memory);
    check_equal(retired(&fixture), all - 1);
    append_mixed(&fixture);
    struct exitbus_event event;
    check_equal(take(&fixture, &fast, &event, 1), 1);
    must_be_event(&event, 5001, mixed_width(5001));
    leave(&fixture, &fast);
    fixture_end(&fixture);
}

/* Without a cursor nothing is kept but the segment that is appended to. */
TEST(log, without_cursors_segments_go)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    for (unsigned i = 0; i < 5000; i++)
        append(&fixture, 1);
    const struct segment *last = atomic_load(&fixture.tail.segment);
    check_equal(last->first_ordinal + (last->capacity - 1u) >= 5000, true);
    check_equal(retired(&fixture), 1 + (5000 - 1 - 3 - 15 - 1) / 125 + 1);
    fixture_end(&fixture);
}

/* What was a log's segment comes back as a queue's, where cell 0 is for events, and the reverse. */
TEST(log, segments_change_hands)
{
    struct fixture fixture;
    struct queue_head cursor;
    struct queue_tail tail;
    struct queue_head head;
    struct first_segment first;
    fixture_begin(&fixture);
    queue_init(&tail, &head, &first);
    join(&fixture, &cursor);
    struct exitbus_event events[64];
    uint64_t took = 0;
    for (unsigned round = 0; round < 300; round++) {
        uint64_t begin = fixture.last + 1;
        for (unsigned i = 0; i < 150; i++) {
            append_mixed(&fixture);
            struct exitbus_event event = event_make(fixture.last, mixed_width(fixture.last));
            struct record record;
            event_encode(&event, &record);
            reclaim_enter();
            must_equal(queue_append(&tail, &fixture.memory, fixture.last, &record), 0);
            reclaim_leave();
        }
        take_from(&fixture, &cursor, begin, 64);
        for (;;) {
            reclaim_enter();
            ssize_t count = queue_take(&tail, &head, &fixture.memory, events, 64);
            reclaim_leave();
            if (count < 0)
                break;
            for (ssize_t i = 0; i < count; i++)
                must_be_event(&events[i], took + 1 + (uint64_t)i,
                              mixed_width(took + 1 + (uint64_t)i));
            took += (uint64_t)count;
        }
        must_equal(took, fixture.last);
    }
    leave(&fixture, &cursor);
    queue_destroy(&head, &fixture.memory);
    fixture_end(&fixture);
}

/* -------------------------------------------------------------------------------------- threads */

#define THREADS 4
#define ROUNDS 3000

struct shared {
    struct fixture fixture;
    _Atomic uint64_t appended; /* seq of the last event whose append has returned */
    _Atomic bool over;
    struct queue_head head; /* of two receivers */
    _Atomic uint8_t taken[1 << 20];
    _Atomic uint64_t taken_count;
};

static void *come_and_go(void *argument)
{
    struct shared *shared = argument;
    struct exitbus_event events[8];
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct queue_head head;
        uint64_t before = atomic_load(&shared->appended);
        join(&shared->fixture, &head);
        uint64_t after = atomic_load(&shared->appended), next = 0;
        for (unsigned batch = 0; batch < round % 40; batch++) {
            ssize_t count = take(&shared->fixture, &head, events, 1 + round % 8);
            if (count < 0) {
                must_equal(count, -EAGAIN);
                sched_yield();
                continue;
            }
            if (next == 0) {
                next = events[0].seq;
                /* None from before the join, and all whose append began after it: event after + 1
                 * may have been on its way. */
                must(next > before && next <= after + 2);
            }
            for (ssize_t i = 0; i < count; i++, next++)
                must_be_event(&events[i], next, mixed_width(next));
        }
        leave(&shared->fixture, &head);
    }
    return NULL;
}

static void *share_a_cursor(void *argument)
{
    struct shared *shared = argument;
    struct exitbus_event events[16];
    for (;;) {
        bool over = atomic_load(&shared->over);
        ssize_t count = take(&shared->fixture, &shared->head, events, 16);
        for (ssize_t i = 0; i < count; i++) {
            must_be_event(&events[i], events[i].seq, mixed_width(events[i].seq));
            must_equal(atomic_fetch_add(&shared->taken[events[i].seq], 1), 0);
        }
        if (count > 0)
            atomic_fetch_add(&shared->taken_count, (uint64_t)count);
        else if (over)
            return NULL;
        else
            sched_yield();
    }
}

TEST(log, cursors_come_and_go)
{
    static struct shared the_shared;
    struct shared *shared = &the_shared;
    pthread_t threads[THREADS];
    fixture_begin(&shared->fixture);
    join(&shared->fixture, &shared->head);
    for (unsigned i = 0; i < 2; i++)
        threads[i] = thread_start(share_a_cursor, shared);
    for (unsigned i = 2; i < THREADS; i++)
        threads[i] = thread_start(come_and_go, shared);
    for (unsigned i = 0; i < 200000; i++) {
        append_mixed(&shared->fixture);
        atomic_store(&shared->appended, shared->fixture.last);
        if (i % 64 == 0)
            sched_yield();
    }
    atomic_store(&shared->over, true);
    for (unsigned i = 0; i < THREADS; i++)
        thread_join(threads[i]);
    check_equal(atomic_load(&shared->taken_count), shared->fixture.last);
    leave(&shared->fixture, &shared->head);
    fixture_end(&shared->fixture);
}
