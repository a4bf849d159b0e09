/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The pool of a bus: blocks belong to one user at a time, come back only after a grace period, and
 * what is not needed any more goes back to the allocator.
 */
#include "memory/pool.h"
#include "support/allocator.h"
#include "support/harness.h"

#include <sys/mman.h>
#include <unistd.h>

enum { SMALL, LARGE, CLASSES };
#define SMALL_BYTES ((size_t)320)
#define LARGE_BYTES ((size_t)4160)
#define SLAB_BYTES ((size_t)64 << 10)
#define RETIRED_TOGETHER 32
#define LITTLE ((size_t)512 << 10) /* as good as nothing */

struct fixture {
    struct account account;
    struct memory memory;
};

static void fixture_begin(struct fixture *fixture, bool counted)
{
    static const size_t block_sizes[CLASSES] = {SMALL_BYTES, LARGE_BYTES};
    check_ok(reclaim_init());
    account_init(&fixture->account);
    memory_init(&fixture->memory, counted ? &fixture->account.allocator : NULL, block_sizes,
                CLASSES);
    check_equal(atomic_load(&fixture->memory.bytes), 0);
}

static void fixture_end(struct fixture *fixture)
{
    memory_stop_trimming(&fixture->memory);
    memory_wait_callbacks(&fixture->memory);
    memory_destroy(&fixture->memory);
    check_equal(atomic_load(&fixture->memory.bytes), 0);
    check_equal(atomic_load(&fixture->account.blocks), 0);
}

static size_t bytes_of(struct fixture *fixture)
{
    return atomic_load(&fixture->memory.bytes);
}

static void *take(struct fixture *fixture, unsigned class)
{
    reclaim_enter();
    void *block = memory_alloc(&fixture->memory, class);
    reclaim_leave();
    return block;
}

/* What of a block is its user's: all behind the header. */
static void fill(void *block, size_t size, uint64_t pattern)
{
    uint64_t *words = (uint64_t *)((struct block *)block + 1);
    for (size_t i = 0; i < (size - sizeof(struct block)) / sizeof *words; i++)
        words[i] = pattern + i;
}

static bool filled(const void *block, size_t size, uint64_t pattern)
{
    const uint64_t *words = (const uint64_t *)((const struct block *)block + 1);
    for (size_t i = 0; i < (size - sizeof(struct block)) / sizeof *words; i++)
        if (words[i] != pattern + i)
            return false;
    return true;
}

TEST(memory, blocks_are_aligned_and_apart)
{
    struct fixture fixture;
    fixture_begin(&fixture, true);
    enum { BLOCKS = 1000 };
    static void *blocks[2 * BLOCKS];
    for (size_t i = 0; i < 2 * BLOCKS; i++) {
        blocks[i] = take(&fixture, i % CLASSES);
        check(blocks[i]);
        check_equal((uintptr_t)blocks[i] % CACHE_LINE, 0);
        fill(blocks[i], i % CLASSES == SMALL ? SMALL_BYTES : LARGE_BYTES, i << 32);
    }
    for (size_t i = 0; i < 2 * BLOCKS; i++)
        check(filled(blocks[i], i % CLASSES == SMALL ? SMALL_BYTES : LARGE_BYTES, i << 32));
    check(bytes_of(&fixture) >= BLOCKS * (SMALL_BYTES + LARGE_BYTES));
    check_equal(bytes_of(&fixture), atomic_load(&fixture.account.bytes));
    fixture_end(&fixture);
}

TEST(memory, what_is_given_is_taken_again)
{
    struct fixture fixture;
    fixture_begin(&fixture, true);
    void *first = take(&fixture, SMALL);
    size_t allocations = atomic_load(&fixture.account.allocations);
    for (unsigned i = 0; i < 10000; i++) {
        memory_free(&fixture.memory, SMALL, first);
        check(take(&fixture, SMALL) == first);
    }
    check_equal(atomic_load(&fixture.account.allocations), allocations);
    fixture_end(&fixture);
}

/* ------------------------------------------------------------------------------ grace periods */

static bool among(void *const *blocks, size_t count, const void *wanted)
{
    for (size_t i = 0; i < count; i++)
        if (blocks[i] == wanted)
            return true;
    return false;
}

struct reader {
    _Atomic bool inside;
    _Atomic bool leave;
};

static void *stay_inside(void *argument)
{
    struct reader *reader = argument;
    reclaim_enter();
    atomic_store(&reader->inside, true);
    await(atomic_load(&reader->leave));
    reclaim_leave();
    return NULL;
}

TEST(memory, retired_blocks_come_back_after_a_grace_period_only)
{
    struct fixture fixture;
    fixture_begin(&fixture, true);
    struct reader reader = {0};
    pthread_t thread = thread_start(stay_inside, &reader);
    await(atomic_load(&reader.inside));
    enum { RETIRED = 4 * RETIRED_TOGETHER };
    void *retired[RETIRED];
    for (size_t i = 0; i < RETIRED; i++)
        retired[i] = take(&fixture, SMALL);
    for (size_t i = 0; i < RETIRED; i++)
        memory_retire(&fixture.memory, SMALL, retired[i]);
    for (unsigned i = 0; i < 1000; i++)
        check(!among(retired, RETIRED, take(&fixture, SMALL)));
    check(memory_callbacks(&fixture.memory) > 0);

    atomic_store(&reader.leave, true);
    thread_join(thread);
    await(memory_callbacks(&fixture.memory) == 0);
    for (size_t i = 0; i < RETIRED; i++)
        check(among(retired, RETIRED, take(&fixture, SMALL)));
    check(!among(retired, RETIRED, take(&fixture, SMALL)));
    fixture_end(&fixture);
}

struct crowd {
    struct fixture fixture;
    _Atomic uint64_t numbers;
};

/* Take some, mark them, find the marks untouched, retire them. */
static void *take_and_retire(void *argument)
{
    struct crowd *crowd = argument;
    struct memory *memory = &crowd->fixture.memory;
    uint64_t number = atomic_fetch_add(&crowd->numbers, 1) + 1, random = number;
    for (unsigned round = 0; round < scaled(4000); round++) {
        void *blocks[8];
        size_t count = 1 + random_below(&random, 8);
        reclaim_enter();
        for (size_t i = 0; i < count; i++) {
            blocks[i] = memory_alloc(memory, SMALL);
            must(blocks[i]);
            fill(blocks[i], SMALL_BYTES, number << 48 | (uint64_t)round << 16 | i << 8);
        }
        for (size_t i = 0; i < count; i++) {
            must(filled(blocks[i], SMALL_BYTES, number << 48 | (uint64_t)round << 16 | i << 8));
            memory_retire(memory, SMALL, blocks[i]);
        }
        reclaim_leave();
        if (round % 256 == 255)
            reclaim_wait();
    }
    return NULL;
}

TEST(memory, a_block_has_one_user)
{
    static struct crowd crowd;
    fixture_begin(&crowd.fixture, true);
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        threads[i] = thread_start(take_and_retire, &crowd);
    for (size_t i = 0; i < 3; i++)
        thread_join(threads[i]);
    await(bytes_of(&crowd.fixture) <= LITTLE);
    fixture_end(&crowd.fixture);
}

/* ---------------------------------------------------------------------------------- giving back */

#define MANY 4000 /* large blocks: 16 MiB, so that slabs of 2 MiB come to be used as well */

static void give_back(bool counted, bool by_retiring)
{
    static void *blocks[2 * MANY];
    static struct fixture fixture;
    fixture_begin(&fixture, counted);
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < 2 * MANY; i++) {
            blocks[i] = take(&fixture, LARGE);
            check(blocks[i]);
        }
        check(bytes_of(&fixture) >= 2 * MANY * LARGE_BYTES);
        for (size_t i = 0; i < 2 * MANY; i++) {
            if (by_retiring)
                memory_retire(&fixture.memory, LARGE, blocks[i]);
            else
                memory_free(&fixture.memory, LARGE, blocks[i]);
        }
        /* The last slab is being cut from, and may be one of 2 MiB. */
        await(bytes_of(&fixture) <= LITTLE + ((size_t)2 << 20));
    }
    fixture_end(&fixture);
}

TEST(memory, given_blocks_go_back_to_the_allocator)
{
    give_back(true, false);
}

TEST(memory, retired_blocks_go_back_to_the_allocator)
{
    give_back(true, true);
}

TEST(memory, given_blocks_go_back_to_the_kernel)
{
    give_back(false, false);
}

/* A pool that has a surplus, but no slab to give, does not keep the others from their turn. */
TEST(memory, every_pool_has_its_turn)
{
    static void *small[MANY], *large[MANY];
    static struct fixture fixture;
    fixture_begin(&fixture, true);
    for (size_t i = 0; i < MANY; i++) {
        small[i] = take(&fixture, SMALL);
        large[i] = take(&fixture, LARGE);
    }
    for (size_t i = 0; i < MANY; i++) {
        if (i % 90 != 0) /* about two in each slab stay */
            memory_free(&fixture.memory, SMALL, small[i]);
        memory_free(&fixture.memory, LARGE, large[i]);
    }
    await(bytes_of(&fixture) <= MANY * SMALL_BYTES + LITTLE + ((size_t)2 << 20));
    for (size_t i = 0; i < MANY; i += 90)
        memory_free(&fixture.memory, SMALL, small[i]);
    fixture_end(&fixture);
}

/* Traffic that goes on does not keep the memory of a burst that is over. */
TEST(memory, surplus_goes_back_while_some_is_in_use)
{
    static void *blocks[MANY];
    static struct fixture fixture;
    fixture_begin(&fixture, true);
    for (size_t i = 0; i < MANY; i++)
        blocks[i] = take(&fixture, LARGE);
    for (size_t i = 0; i < MANY; i++)
        memory_free(&fixture.memory, LARGE, blocks[i]);
    while (bytes_of(&fixture) > LITTLE + ((size_t)2 << 20))
        memory_free(&fixture.memory, LARGE, take(&fixture, LARGE));
    fixture_end(&fixture);
}

TEST(memory, slabs_in_use_stay)
{
    static void *blocks[MANY];
    static struct fixture fixture;
    fixture_begin(&fixture, true);
    for (size_t i = 0; i < MANY; i++) {
        blocks[i] = take(&fixture, LARGE);
        fill(blocks[i], LARGE_BYTES, i << 32);
    }
    size_t full = bytes_of(&fixture);
    /* One block in ninety stays: in about every sixth slab. */
    for (size_t i = 0; i < MANY; i++)
        if (i % 90 != 0)
            memory_free(&fixture.memory, LARGE, blocks[i]);
    await(bytes_of(&fixture) <= full / 2);
    for (size_t i = 0; i < MANY; i += 90)
        check(filled(blocks[i], LARGE_BYTES, i << 32));
    check(bytes_of(&fixture) >= MANY / 90 * LARGE_BYTES);
    for (size_t i = 0; i < MANY; i += 90)
        memory_free(&fixture.memory, LARGE, blocks[i]);
    await(bytes_of(&fixture) <= LITTLE);
    fixture_end(&fixture);
}

/* The first page that begins in a large block: has it gone back to the kernel? */
static bool page_is_gone(void *block)
{
    unsigned char resident = 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    void *inside = (void *)(((uintptr_t)block + page) & ~(page - 1));
    return mincore(inside, 1, &resident) < 0 || !(resident & 1);
}

/* Blocks of which a few stay, as with queues that are idle after a burst. */
#define BURST (4 * MANY)
#define STAYS_ONE_IN 300 /* somewhat more than half of what a large slab holds */
static void *burst[BURST];

static void burst_take(struct fixture *fixture)
{
    for (size_t i = 0; i < BURST; i++) {
        burst[i] = take(fixture, LARGE);
        fill(burst[i], LARGE_BYTES, i << 32);
    }
}

static void burst_free(struct fixture *fixture)
{
    for (size_t i = 0; i < BURST; i++)
        if (i % STAYS_ONE_IN != 0)
            memory_free(&fixture->memory, LARGE, burst[i]);
}

static void burst_free_rest(struct fixture *fixture)
{
    for (size_t i = 0; i < BURST; i += STAYS_ONE_IN) {
        check(filled(burst[i], LARGE_BYTES, i << 32));
        memory_free(&fixture->memory, LARGE, burst[i]);
    }
}

/* One block in use does not hold a huge page, and stays what it is. */
TEST(memory, free_pages_of_large_slabs_in_use_go_back)
{
    static struct fixture fixture;
    fixture_begin(&fixture, false);
    for (unsigned round = 0; round < 2; round++) {
        burst_take(&fixture);
        burst_free(&fixture);
        for (size_t i = BURST / 2; i < BURST; i += STAYS_ONE_IN / 2)
            if (i % STAYS_ONE_IN != 0)
                await(page_is_gone(burst[i]));
        burst_free_rest(&fixture);
    }
    fixture_end(&fixture);
}

/* In a process whose memory does not shrink. */
static void idle_blocks_hold_little(struct fixture *fixture)
{
    burst_take(fixture);
    size_t full = bytes_of(fixture);
    burst_free(fixture);
    await(bytes_of(fixture) <= full / 4);
    await(atomic_load(&fixture->account.bytes) <= full / 4); /* the host's word, if it has one */
    burst_free_rest(fixture);
}

TEST(memory, pinned_slabs_of_a_host)
{
    static struct fixture fixture;
    fixture_begin(&fixture, true);
    idle_blocks_hold_little(&fixture);
    await(atomic_load(&fixture.account.bytes) == bytes_of(&fixture)); /* a trim may be at it */
    fixture_end(&fixture);
}

/*
 * Lock the memory of the process. Returns false where that needs a privilege, or a limit of some
 * 100 MiB; or under a sanitizer, which says that it is done, and does nothing.
 */
static bool lock_memory(int flags)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(page != MAP_FAILED);
    bool locked = mlockall(flags) == 0 && madvise(page, size, MADV_COLD) != 0;
    munmap(page, size);
    return locked;
}

TEST(memory, pinned_slabs_of_locked_memory)
{
    static struct fixture fixture;
    if (!lock_memory(MCL_CURRENT | MCL_FUTURE))
        return;
    fixture_begin(&fixture, false);
    idle_blocks_hold_little(&fixture);
    fixture_end(&fixture);
    check_ok(munlockall());
}

/* A slab that was made before the host locked its memory stays, and is counted in full. */
TEST(memory, locked_slabs_are_counted)
{
    static struct fixture fixture;
    fixture_begin(&fixture, false);
    burst_take(&fixture);
    if (lock_memory(MCL_CURRENT)) {
        burst_free(&fixture);
        await(!atomic_load(&fixture.memory.trimming));
        size_t held = 0;
        for (const struct slab *slab = atomic_load(&fixture.memory.slabs); slab; slab = slab->next)
            held += slab->size;
        check_equal(bytes_of(&fixture), held);
        check_ok(munlockall());
    }
    fixture_end(&fixture);
}

static struct {
    struct fixture *fixture;
    void *blocks[MANY];
    _Atomic size_t count;
} meanwhile;

/* All that is free, and the rest of the slab that blocks are being cut from. */
static void take_to_the_end(enum probe step)
{
    if (step != PROBE_TRIM_DECIDING || atomic_load(&meanwhile.count) > 0)
        return;
    struct pool *pool = &meanwhile.fixture->memory.pools[LARGE];
    const struct slab *slab = atomic_load(&pool->current);
    size_t count = 0;
    while (atomic_load(&pool->current) == slab) {
        must(count < MANY);
        void *block = take(meanwhile.fixture, LARGE);
        fill(block, LARGE_BYTES, count << 32);
        meanwhile.blocks[count++] = block;
    }
    atomic_store(&meanwhile.count, count);
}

/* A slab that seems to be free, and is cut to its end just when a trim decides about it. */
TEST(memory, slab_that_is_cut_from_meanwhile_stays)
{
    enum { BLOCKS = 305 }; /* the last slab holds more */
    static void *blocks[BLOCKS];
    static struct fixture fixture;
    fixture_begin(&fixture, true);
    meanwhile.fixture = &fixture;
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = take(&fixture, LARGE);
    size_t full = bytes_of(&fixture);
    __atomic_store_n(&exitbus_probe_hook, take_to_the_end, __ATOMIC_RELEASE);
    for (size_t i = BLOCKS; i-- > 0;) /* so that the last slab comes last */
        memory_free(&fixture.memory, LARGE, blocks[i]);
    await(atomic_load(&meanwhile.count) > 0 && bytes_of(&fixture) < full);
    reclaim_wait();
    __atomic_store_n(&exitbus_probe_hook, NULL, __ATOMIC_RELEASE);
    for (size_t i = 0; i < atomic_load(&meanwhile.count); i++) {
        check(filled(meanwhile.blocks[i], LARGE_BYTES, i << 32));
        memory_free(&fixture.memory, LARGE, meanwhile.blocks[i]);
    }
    fixture_end(&fixture);
}

/* Blocks are taken and used while slabs are on their way back. */
TEST(memory, use_goes_on_while_slabs_go_back)
{
    static void *blocks[MANY];
    static struct crowd crowd;
    struct fixture *fixture = &crowd.fixture;
    fixture_begin(fixture, true);
    pthread_t thread = thread_start(take_and_retire, &crowd);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < MANY; i++) {
            blocks[i] = take(fixture, SMALL);
            fill(blocks[i], SMALL_BYTES, i << 32);
        }
        for (size_t i = 0; i < MANY; i++) {
            check(filled(blocks[i], SMALL_BYTES, i << 32));
            memory_retire(&fixture->memory, SMALL, blocks[i]);
        }
        reclaim_wait();
    }
    thread_join(thread);
    await(bytes_of(fixture) <= LITTLE);
    fixture_end(fixture);
}

/* ---------------------------------------------------------------------------------- the allocator
 */

TEST(memory, raw_memory_is_counted)
{
    struct fixture fixture;
    fixture_begin(&fixture, true);
    const size_t alignments[] = {CACHE_LINE, 4096, (size_t)2 << 20};
    for (size_t i = 0; i < 3; i++) {
        size_t size = 3 * alignments[i];
        void *raw = memory_map(&fixture.memory, size, alignments[i]);
        check_equal((uintptr_t)raw % alignments[i], 0);
        check_equal(bytes_of(&fixture), size);
        memory_unmap(&fixture.memory, raw, size);
        check_equal(bytes_of(&fixture), 0);
    }
    /* Of an odd size, whole lines: the allocator may rely on multiples of the alignment. */
    void *raw = memory_map(&fixture.memory, 1000, CACHE_LINE);
    check_equal(bytes_of(&fixture), 1024);
    memory_unmap(&fixture.memory, raw, 1000);
    fixture_end(&fixture);
}

TEST(memory, the_default_allocator_aligns_and_zeroes)
{
    struct fixture fixture;
    fixture_begin(&fixture, false);
    const size_t alignments[] = {CACHE_LINE, 4096, 65536, (size_t)2 << 20};
    for (size_t i = 0; i < 4; i++) {
        char *raw = memory_map(&fixture.memory, SLAB_BYTES, alignments[i]);
        check(raw);
        check_equal((uintptr_t)raw % alignments[i], 0);
        for (size_t at = 0; at < SLAB_BYTES; at++)
            check_equal(raw[at], 0);
        memset(raw, 1, SLAB_BYTES);
        memory_unmap(&fixture.memory, raw, SLAB_BYTES);
    }
    fixture_end(&fixture);
}

TEST(memory, out_of_memory)
{
    struct fixture fixture;
    fixture_begin(&fixture, true);
    atomic_store(&fixture.account.refuse, true);
    check(!take(&fixture, SMALL));
    check(!memory_map(&fixture.memory, 4096, CACHE_LINE));
    check_equal(bytes_of(&fixture), 0);
    atomic_store(&fixture.account.refuse, false);
    void *block = take(&fixture, SMALL);
    check(block);
    /* What the slab still has needs no allocator; then there is no more, until one comes back. */
    atomic_store(&fixture.account.refuse, true);
    for (size_t i = 1; i < (SLAB_BYTES - 2 * CACHE_LINE) / SMALL_BYTES; i++)
        check(take(&fixture, SMALL));
    for (unsigned i = 0; i < 3; i++)
        check(!take(&fixture, SMALL));
    check(!take(&fixture, LARGE));
    memory_free(&fixture.memory, SMALL, block);
    check(take(&fixture, SMALL) == block);
    fixture_end(&fixture);
}

static void *allocate_too_high(void *context, size_t size, size_t alignment)
{
    (void)size;
    (void)alignment;
    ++*(int *)context;
    return (void *)((uintptr_t)1 << 48);
}

static void release_too_high(void *context, void *memory, size_t size)
{
    must((uintptr_t)memory == (uintptr_t)1 << 48);
    must_equal(size, 4096);
    --*(int *)context;
}

/* Addresses that could not be packed into a word with an index are given back at once. */
TEST(memory, addresses_of_more_than_48_bits_are_refused)
{
    int out = 0;
    const struct exitbus_allocator allocator = {allocate_too_high, release_too_high, &out};
    const size_t block_size = SMALL_BYTES;
    struct memory memory;
    memory_init(&memory, &allocator, &block_size, 1);
    check(!memory_map(&memory, 4096, CACHE_LINE));
    check_equal(out, 0);
    check_equal(atomic_load(&memory.bytes), 0);
}
