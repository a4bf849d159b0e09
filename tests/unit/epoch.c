/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Polled grace periods (G6): over when everybody who was inside a section has left it, and not
 * before; threads that come, go, end by force, or find no record; and what a pool makes of them.
 */
#include "memory/memory.h"
#include "support/allocator.h"
#include "support/harness.h"
#include "support/threads.h"

#include <stdbool.h>

struct visitor {
    pthread_t thread;
    _Atomic unsigned asked; /* sections to enter and leave: 1 enter, 2 leave, 3 enter … */
    _Atomic unsigned done;
    unsigned depth;
    struct epoch_record *record;
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    for (unsigned step = 1;; step++) {
        await(atomic_load(&visitor->asked) >= step);
        if (atomic_load(&visitor->asked) == UINT32_MAX)
            return NULL;
        for (unsigned i = 0; i < visitor->depth; i++)
            step % 2 == 1 ? epoch_enter() : epoch_leave();
        visitor->record = epoch_own;
        atomic_store(&visitor->done, step);
    }
}

static void visitor_start(struct visitor *visitor, unsigned depth)
{
    *visitor = (struct visitor){.depth = depth};
    visitor->thread = thread_start(visit, visitor);
}

static void visitor_step(struct visitor *visitor)
{
    unsigned step = atomic_load(&visitor->asked) + 1;
    atomic_store(&visitor->asked, step);
    await(atomic_load(&visitor->done) == step);
}

static void visitor_end(struct visitor *visitor)
{
    atomic_store(&visitor->asked, UINT32_MAX);
    thread_join(visitor->thread);
}

TEST(epoch, nobody_inside)
{
    struct epoch_grace grace;
    check_ok(reclaim_init());
    check(epoch_grace_begin(&grace));
    check(epoch_grace_over(&grace));
    epoch_enter();
    epoch_leave();
    check(epoch_grace_begin(&grace));
    check(epoch_grace_over(&grace));
    check(epoch_grace_over(&grace));
}

TEST(epoch, over_when_the_section_of_then_has_ended)
{
    struct epoch_grace first, second;
    struct visitor visitor;
    check_ok(reclaim_init());
    visitor_start(&visitor, 1);
    visitor_step(&visitor); /* in */
    check(epoch_grace_begin(&first));
    check(!epoch_grace_over(&first));
    visitor_step(&visitor); /* out */
    visitor_step(&visitor); /* in again: another section */
    check(epoch_grace_begin(&second));
    check(epoch_grace_over(&first));
    check(!epoch_grace_over(&second));
    visitor_step(&visitor);
    check(epoch_grace_over(&second));
    visitor_end(&visitor);
}

TEST(epoch, the_outermost_of_nested_sections_counts)
{
    struct epoch_grace grace;
    check_ok(reclaim_init());
    epoch_enter();
    epoch_enter();
    check(epoch_grace_begin(&grace));
    epoch_leave();
    check(!epoch_grace_over(&grace));
    epoch_enter();
    epoch_leave();
    check(!epoch_grace_over(&grace));
    epoch_leave();
    check(epoch_grace_over(&grace));
}

TEST(epoch, one_of_many_is_enough)
{
    struct visitor visitors[EPOCH_INSIDE_MAX];
    struct epoch_grace grace;
    check_ok(reclaim_init());
    for (size_t i = 0; i < EPOCH_INSIDE_MAX; i++) {
        visitor_start(&visitors[i], (unsigned)(1 + i % 3));
        visitor_step(&visitors[i]);
    }
    check(epoch_grace_begin(&grace));
    for (size_t i = 0; i < EPOCH_INSIDE_MAX; i++) {
        check(!epoch_grace_over(&grace));
        visitor_step(&visitors[i]);
    }
    check(epoch_grace_over(&grace));
    for (size_t i = 0; i < EPOCH_INSIDE_MAX; i++)
        visitor_end(&visitors[i]);
}

TEST(epoch, too_many_to_note)
{
    enum { MANY = EPOCH_INSIDE_MAX + 1 };
    struct visitor visitors[MANY];
    struct epoch_grace grace;
    check_ok(reclaim_init());
    for (size_t i = 0; i < MANY; i++) {
        visitor_start(&visitors[i], 1);
        visitor_step(&visitors[i]);
    }
    check(!epoch_grace_begin(&grace));
    visitor_step(&visitors[0]);
    check(epoch_grace_begin(&grace));
    for (size_t i = 1; i < MANY; i++)
        visitor_step(&visitors[i]);
    check(epoch_grace_over(&grace));
    for (size_t i = 0; i < MANY; i++)
        visitor_end(&visitors[i]);
}

/* ------------------------------------------------------------------------------ threads' records
 */

TEST(epoch, a_thread_that_ends_leaves_its_record_to_the_next)
{
    check_ok(reclaim_init());
    struct epoch_record *first = NULL;
    for (unsigned i = 0; i < 200; i++) {
        struct visitor visitor;
        visitor_start(&visitor, 1);
        visitor_step(&visitor);
        visitor_step(&visitor);
        if (i == 0)
            first = visitor.record;
        check(visitor.record == first);
        visitor_end(&visitor);
    }
}

static void *end_inside(void *record)
{
    epoch_enter();
    epoch_enter();
    *(struct epoch_record **)record = epoch_own;
    pthread_exit(NULL);
}

TEST(epoch, a_thread_that_ended_inside_has_left)
{
    struct epoch_record *record;
    struct epoch_grace grace;
    struct visitor next;
    check_ok(reclaim_init());
    thread_join(thread_start(end_inside, &record));
    check(epoch_grace_begin(&grace));
    check(epoch_grace_over(&grace));
    visitor_start(&next, 1); /* with the same record, it is noted again */
    visitor_step(&next);
    check(next.record == record);
    check(epoch_grace_begin(&grace));
    check(!epoch_grace_over(&grace));
    visitor_step(&next);
    check(epoch_grace_over(&grace));
    visitor_end(&next);
}

/* No key is left that would tell of a thread's end: while such threads are inside, none begins. */
TEST(epoch, shared_record)
{
    pthread_key_t key;
    while (pthread_key_create(&key, NULL) == 0)
        continue;
    struct visitor visitors[2];
    struct epoch_grace grace;
    check_ok(reclaim_init());
    for (size_t i = 0; i < 2; i++) {
        visitor_start(&visitors[i], 1);
        visitor_step(&visitors[i]);
        check(visitors[i].record == &epoch_shared_record);
    }
    check(!epoch_grace_begin(&grace));
    visitor_step(&visitors[0]);
    check(!epoch_grace_begin(&grace));
    visitor_step(&visitors[1]);
    check(epoch_grace_begin(&grace));
    visitor_step(&visitors[0]);
    check(epoch_grace_over(&grace));
    visitor_step(&visitors[0]);
    for (size_t i = 0; i < 2; i++)
        visitor_end(&visitors[i]);
}

/* However many threads of the shared record come and go, the worker's wait for them ends. */
static _Atomic bool shared_go_on;

static void *use_shared_record(void *entered)
{
    epoch_own = &epoch_shared_record;
    while (atomic_load(&shared_go_on)) {
        epoch_enter();
        atomic_fetch_add((_Atomic unsigned *)entered, 1);
        epoch_leave();
    }
    return NULL;
}

TEST(epoch, shared_record_never_at_rest)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    static _Atomic unsigned entered;
    check_ok(reclaim_init());
    atomic_store(&shared_go_on, true);
    for (size_t i = 0; i < THREADS; i++)
        threads[i] = thread_start(use_shared_record, &entered);
    await(atomic_load(&entered) > THREADS);
    for (unsigned i = 0; i < 20; i++)
        reclaim_wait();
    atomic_store(&shared_go_on, false);
    for (size_t i = 0; i < THREADS; i++)
        thread_join(threads[i]);
}

/* Many threads at once, then few: a look goes no farther than the highest record in use. */
TEST(epoch, threads_that_have_lived_cost_nothing)
{
    enum { MANY = 300 };
    static struct visitor visitors[MANY];
    check_ok(reclaim_init());
    for (size_t i = 0; i < MANY; i++) {
        visitor_start(&visitors[i], 1);
        visitor_step(&visitors[i]);
        visitor_step(&visitors[i]);
    }
    check_equal(epoch_span(), MANY);
    for (size_t i = 0; i < MANY; i++)
        visitor_end(&visitors[i]);
    check_equal(epoch_span(), 0);
    visitor_start(&visitors[0], 1);
    visitor_step(&visitors[0]);
    check_equal(epoch_span(), 1);
    visitor_step(&visitors[0]);
    visitor_end(&visitors[0]);
}

/* ------------------------------------------------------------------------------------- the pool */

enum { CLASS, CLASSES, BATCH = 32 };
#define BYTES ((size_t)320)
static const size_t sizes[CLASSES] = {BYTES};

static void memory_begin(struct memory *memory)
{
    check_ok(reclaim_init());
    memory_init(memory, NULL, sizes, CLASSES);
}

static void memory_done(struct memory *memory)
{
    memory_stop_trimming(memory);
    memory_wait_callbacks(memory);
    memory_destroy(memory);
    check_equal(atomic_load(&memory->bytes), 0);
}

static void take_and_retire_batch(struct memory *memory, void **blocks)
{
    reclaim_enter();
    for (size_t i = 0; i < BATCH; i++)
        check((blocks[i] = memory_alloc(memory, CLASS)));
    for (size_t i = 0; i < BATCH; i++)
        memory_retire(memory, CLASS, blocks[i]);
    reclaim_leave();
}

static bool among(void *const *blocks, const void *wanted)
{
    for (size_t i = 0; i < BATCH; i++)
        if (blocks[i] == wanted)
            return true;
    return false;
}

/* Take one; is it one of these? */
static bool take_one_of(struct memory *memory, void *const *blocks)
{
    reclaim_enter();
    void *block = memory_alloc(memory, CLASS);
    reclaim_leave();
    check(block);
    return among(blocks, block);
}

TEST(epoch, a_batch_comes_back_as_soon_as_the_section_has_ended)
{
    static struct memory memory;
    void *blocks[BATCH];
    memory_begin(&memory);
    take_and_retire_batch(&memory, blocks);
    for (size_t i = 0; i < BATCH; i++)
        check(take_one_of(&memory, blocks)); /* without the worker, which takes its time */
    check(!take_one_of(&memory, blocks));
    memory_done(&memory);
}

/* Whoever is at limbo has been stopped there for ever: blocks come back by the worker. */
TEST(epoch, nobody_waits_for_limbo)
{
    static struct memory memory;
    void *blocks[BATCH];
    memory_begin(&memory);
    atomic_store(&memory.limbo.busy, 1);
    take_and_retire_batch(&memory, blocks);
    await(memory_callbacks(&memory) == 0);
    for (size_t i = 0; i < BATCH; i++)
        check(take_one_of(&memory, blocks));
    atomic_store(&memory.limbo.busy, 0);
    memory_done(&memory);
}

TEST(epoch, too_many_inside_and_blocks_come_back_late)
{
    enum { MANY = EPOCH_INSIDE_MAX + 1 };
    struct visitor visitors[MANY];
    static struct memory memory;
    void *blocks[BATCH];
    memory_begin(&memory);
    for (size_t i = 0; i < MANY; i++) {
        visitor_start(&visitors[i], 1);
        visitor_step(&visitors[i]);
    }
    take_and_retire_batch(&memory, blocks);
    check(!atomic_load(&memory.limbo.occupied));
    for (size_t i = 0; i < MANY; i++) {
        check(memory_callbacks(&memory) > 0); /* the worker waits for the last of them */
        visitor_step(&visitors[i]);
        visitor_end(&visitors[i]);
    }
    await(memory_callbacks(&memory) == 0);
    for (size_t i = 0; i < BATCH; i++)
        check(take_one_of(&memory, blocks));
    memory_done(&memory);
}

/* Limbo is occupied, and whoever was at it was ended by force: no look follows the other for ever.
 */
TEST(epoch, a_lost_holder_keeps_nobody_looking)
{
    static struct memory memory;
    void *blocks[BATCH];
    memory_begin(&memory);
    reclaim_enter();
    for (size_t i = 0; i < BATCH; i++)
        check((blocks[i] = memory_alloc(&memory, CLASS)));
    for (size_t i = 0; i < BATCH; i++)
        memory_retire(&memory, CLASS, blocks[i]);
    check(atomic_load(&memory.limbo.occupied));
    atomic_store(&memory.limbo.busy, 1);
    reclaim_leave();
    memory_done(&memory);
}

/* There is no memory but what was retired, and that does not make up a batch. */
TEST(epoch, the_last_blocks_come_back_when_there_is_nothing_else)
{
    enum { LIMIT = 64 << 10, MANY = 1000 };
    static struct account account;
    static struct memory memory;
    void *blocks[MANY];
    check_ok(reclaim_init());
    account_init(&account);
    memory_init(&memory, &account.allocator, sizes, CLASSES);
    reclaim_enter();
    check((blocks[0] = memory_alloc(&memory, CLASS)));
    atomic_store(&account.refuse, true);
    size_t count = 1;
    while (count < MANY && (blocks[count] = memory_alloc(&memory, CLASS)))
        count++;
    reclaim_leave();
    check(count < MANY);
    reclaim_enter();
    for (size_t i = 0; i < 5; i++)
        memory_retire(&memory, CLASS, blocks[i]);
    reclaim_leave();
    for (size_t i = 0; i < 5; i++) {
        void *block = NULL;
        while (!block) { /* at the latest after a grace period */
            reclaim_enter();
            block = memory_alloc(&memory, CLASS);
            reclaim_leave();
        }
    }
    memory_done(&memory);
}

/* When traffic has ended limbo empties by itself, and then nothing runs. */
TEST(epoch, limbo_is_empty_at_rest)
{
    static struct memory memory;
    struct visitor visitor;
    void *blocks[BATCH];
    memory_begin(&memory);
    visitor_start(&visitor, 1);
    visitor_step(&visitor);
    take_and_retire_batch(&memory, blocks);
    check(atomic_load(&memory.limbo.occupied));
    check(memory_callbacks(&memory) > 0);
    visitor_step(&visitor);
    await(memory_callbacks(&memory) == 0);
    check(!atomic_load(&memory.limbo.occupied));
    check_equal(atomic_load(&memory.pools[CLASS].free_count), BATCH);
    visitor_end(&visitor);
    memory_done(&memory);
}
