/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The subscriber lists: what is in is found, what has left is not, whoever else is at work. */
#include "bus/registry.h"
#include "support/harness.h"
#include "support/threads.h"

#include <sched.h>

struct fixture {
    struct memory memory;
    struct registry registry;
};

static void fixture_begin(struct fixture *fixture)
{
    check_ok(reclaim_init());
    memory_init(&fixture->memory, NULL, NULL, 0);
    check_ok(registry_init(&fixture->registry, &fixture->memory));
}

static void fixture_end(struct fixture *fixture)
{
    registry_destroy(&fixture->registry, &fixture->memory);
    check_equal(atomic_load(&fixture->memory.bytes), 0);
}

static size_t length(const registry_list *list)
{
    size_t count = 0;
    for (struct registry_node *node = registry_first(list); node; node = registry_next(node))
        count++;
    return count;
}

static bool contains(const registry_list *list, const struct registry_node *wanted)
{
    for (struct registry_node *node = registry_first(list); node; node = registry_next(node))
        if (node == wanted)
            return true;
    return false;
}

TEST(registry, nodes_come_and_go)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    registry_list *list = &fixture.registry.all;
    struct registry_node nodes[5];
    check(!registry_first(list));
    for (size_t i = 0; i < 5; i++)
        registry_insert(list, &nodes[i]);
    check_equal(length(list), 5);
    /* The middle, the last, the first, and then what is left. */
    const size_t order[] = {2, 0, 4, 1, 3};
    for (size_t i = 0; i < 5; i++) {
        check(contains(list, &nodes[order[i]]));
        check(registry_remove(list, &nodes[order[i]]));
        check(!contains(list, &nodes[order[i]]));
        check(!registry_remove(list, &nodes[order[i]]));
        check_equal(length(list), 4 - i);
    }
    check(!registry_first(list));
    fixture_end(&fixture);
}

TEST(registry, a_walker_that_stands_on_a_leaver_goes_on)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    registry_list *list = &fixture.registry.any_pid;
    struct registry_node nodes[4];
    for (size_t i = 0; i < 4; i++)
        registry_insert(list, &nodes[i]);
    struct registry_node *here = registry_first(list);
    check(here == &nodes[3]);
    check(registry_remove(list, &nodes[3]));
    check(registry_remove(list, &nodes[2]));
    check(registry_next(here) == &nodes[1]);
    check(registry_next(&nodes[1]) == &nodes[0]);
    fixture_end(&fixture);
}

TEST(registry, each_topic_has_its_list)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct registry *registry = &fixture.registry;
    check(registry_find(registry, EXITBUS_TOPIC_ALL, 7, 7) == &registry->all);
    check(registry_find(registry, EXITBUS_TOPIC_ANY_PID, 7, 7) == &registry->any_pid);
    check(registry_find(registry, EXITBUS_TOPIC_ANY_EXEC, 7, 7) == &registry->any_exec);
    check(registry_find(registry, EXITBUS_TOPIC_PID, 7, 8) == &registry->directory[7]);
    check(registry_find(registry, EXITBUS_TOPIC_PID, 65536 + 7, 8) == &registry->directory[7]);
    check(registry_find(registry, EXITBUS_TOPIC_CONTAINER, 7, 8) == &registry->ids[8]);
    check(registry_find(registry, EXITBUS_TOPIC_EXEC, 7, UINT64_MAX) == &registry->ids[32767]);
    for (size_t i = 0; i < REGISTRY_BUCKETS; i++)
        check(!registry_first(&registry->directory[i]));
    for (size_t i = 0; i < REGISTRY_ID_BUCKETS; i++)
        check(!registry_first(&registry->ids[i]));
    fixture_end(&fixture);
}

TEST(registry, single_topics_are_announced)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct registry *registry = &fixture.registry;
    const enum exitbus_topic_kind broad[] = {EXITBUS_TOPIC_ALL, EXITBUS_TOPIC_ANY_PID,
                                             EXITBUS_TOPIC_ANY_EXEC};
    for (size_t i = 0; i < 3; i++)
        registry_announce(registry, broad[i]);
    check(!registry->pids && !registry->containers && !registry->execs);
    registry_announce(registry, EXITBUS_TOPIC_PID);
    registry_announce(registry, EXITBUS_TOPIC_PID);
    check(registry->pids && !registry->containers && !registry->execs);
    registry_announce(registry, EXITBUS_TOPIC_CONTAINER);
    check(registry->pids && registry->containers && !registry->execs);
    registry_announce(registry, EXITBUS_TOPIC_EXEC);
    check(registry->pids && registry->containers && registry->execs);
    fixture_end(&fixture);
}

/* ------------------------------------------------------------------------------ all of them */

struct visited {
    const struct registry_node *nodes;
    size_t count;
    unsigned seen; /* a bit for each */
};

static void visit_node(struct registry_node *node, void *context)
{
    struct visited *visited = context;
    must(node >= visited->nodes && node < visited->nodes + visited->count);
    unsigned bit = 1u << (node - visited->nodes);
    must(!(visited->seen & bit)); /* once */
    visited->seen |= bit;
}

static unsigned visit(const struct registry *registry, const struct registry_node *nodes,
                      size_t count)
{
    struct visited visited = {nodes, count, 0};
    registry_visit(registry, visit_node, &visited);
    return visited.seen;
}

TEST(registry, every_node_is_visited)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct registry *registry = &fixture.registry;
    registry_list *lists[] = {&registry->all,
                              &registry->any_pid,
                              &registry->any_exec,
                              &registry->directory[0],
                              &registry->directory[REGISTRY_BUCKETS - 1],
                              &registry->ids[0],
                              &registry->ids[REGISTRY_ID_BUCKETS - 1],
                              &registry->members[0],
                              &registry->members[REGISTRY_MEMBER_LISTS - 1],
                              &registry->members[REGISTRY_MEMBER_LISTS / 2]};
    enum { LISTS = sizeof lists / sizeof lists[0] };
    struct registry_node nodes[LISTS];
    struct registry_node channel;
    check_equal(visit(registry, nodes, LISTS), 0);
    for (size_t i = 0; i < LISTS; i++) {
        registry_use(registry, lists[i]);
        registry_insert(lists[i], &nodes[i]);
        check_equal(visit(registry, nodes, LISTS), (2u << i) - 1);
    }
    registry_insert(registry_channels(registry, 0), &channel); /* of no subscription */
    check_equal(visit(registry, nodes, LISTS), (1u << LISTS) - 1);
    check(registry_remove(lists[3], &nodes[3]));
    check_equal(visit(registry, nodes, LISTS), ((1u << LISTS) - 1) & ~8u);
    fixture_end(&fixture);
}

/* Blocks of one slab have a list each, and slabs are spread over the regions. */
TEST(registry, members_are_spread)
{
    struct fixture fixture;
    fixture_begin(&fixture);
    struct registry *registry = &fixture.registry;
    const size_t block = 2 * CACHE_LINE, many = 100000;
    static uint8_t used[REGISTRY_MEMBER_LISTS];
    uint8_t most = 0;
    for (size_t i = 0; i < many; i++) {
        uintptr_t address = 0x7f1234500000 + i * block;
        size_t list = (size_t)(registry_members(registry, (void *)address) - registry->members);
        check(list < REGISTRY_MEMBER_LISTS);
        used[list]++;
        most = used[list] > most ? used[list] : most;
    }
    check(most <= 8);
    fixture_end(&fixture);
}

/* --------------------------------------------------------------------------------- concurrency */

#define STAYING 64
#define CHANGING 64 /* of each thread that changes the list */
#define CHANGERS 2
#define WALKERS 2

struct crowd {
    struct fixture fixture;
    struct registry_node staying[STAYING];
    struct registry_node changing[CHANGERS][CHANGING];
    _Atomic unsigned changers_left;
    _Atomic unsigned numbers;
    _Atomic size_t walks;
};

/* Every node that stays is met once in each walk. */
static void *walker(void *argument)
{
    struct crowd *crowd = argument;
    while (atomic_load(&crowd->changers_left) > 0 || atomic_load(&crowd->walks) < 10) {
        uint64_t seen = 0;
        reclaim_enter();
        for (struct registry_node *node = registry_first(&crowd->fixture.registry.all); node;
             node = registry_next(node)) {
            if (node < crowd->staying || node >= crowd->staying + STAYING)
                continue;
            uint64_t bit = (uint64_t)1 << (node - crowd->staying);
            must(!(seen & bit));
            seen |= bit;
        }
        reclaim_leave();
        must(seen == UINT64_MAX);
        atomic_fetch_add(&crowd->walks, 1);
    }
    return NULL;
}

static void shuffle(size_t *order, size_t count, uint64_t *random)
{
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t i = count; i > 1; i--) {
        size_t other = random_below(random, (uint32_t)i), kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

/* Put all of one's nodes in, take them out in random order; they may come again a period later. */
static void *changer(void *argument)
{
    struct crowd *crowd = argument;
    registry_list *list = &crowd->fixture.registry.all;
    unsigned number = atomic_fetch_add(&crowd->numbers, 1);
    struct registry_node *nodes = crowd->changing[number];
    uint64_t random = 0x9e3779b97f4a7c15ULL + number;
    for (unsigned round = 0; round < scaled(160); round++) {
        size_t order[CHANGING];
        shuffle(order, CHANGING, &random);
        reclaim_enter();
        for (size_t i = 0; i < CHANGING; i++)
            registry_insert(list, &nodes[i]);
        for (size_t i = 0; i < CHANGING; i++) {
            must(contains(list, &nodes[order[i]]));
            must(registry_remove(list, &nodes[order[i]]));
            must(!contains(list, &nodes[order[i]]));
        }
        reclaim_leave();
        reclaim_wait();
    }
    atomic_fetch_sub(&crowd->changers_left, 1);
    return NULL;
}

TEST(registry, walkers_meet_all_that_stay)
{
    static struct crowd crowd;
    fixture_begin(&crowd.fixture);
    registry_list *list = &crowd.fixture.registry.all;
    for (size_t i = 0; i < STAYING; i++)
        registry_insert(list, &crowd.staying[i]);
    atomic_store(&crowd.changers_left, CHANGERS);
    pthread_t threads[CHANGERS + WALKERS];
    for (size_t i = 0; i < CHANGERS + WALKERS; i++)
        threads[i] = thread_start(i < CHANGERS ? changer : walker, &crowd);
    for (size_t i = 0; i < CHANGERS + WALKERS; i++)
        thread_join(threads[i]);
    check_equal(length(list), STAYING);
    fixture_end(&crowd.fixture);
}

struct contest {
    registry_list list;
    struct registry_node nodes[4096];
    _Atomic size_t removed;
    _Atomic unsigned ready;
};

static void *remover(void *argument)
{
    struct contest *contest = argument;
    atomic_fetch_add(&contest->ready, 1);
    while (atomic_load(&contest->ready) < 3)
        sched_yield();
    reclaim_enter();
    for (size_t i = 0; i < 4096; i++)
        if (registry_remove(&contest->list, &contest->nodes[i]))
            atomic_fetch_add(&contest->removed, 1);
    reclaim_leave();
    return NULL;
}

/* Neighbours leave at the same time, and each is taken out by one of three. */
TEST(registry, one_of_several_removers_wins)
{
    static struct contest contest;
    check_ok(reclaim_init());
    for (size_t i = 0; i < 4096; i++)
        registry_insert(&contest.list, &contest.nodes[4095 - i]);
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        threads[i] = thread_start(remover, &contest);
    for (size_t i = 0; i < 3; i++)
        thread_join(threads[i]);
    check_equal(atomic_load(&contest.removed), 4096);
    check(!registry_first(&contest.list));
}
