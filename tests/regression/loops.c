/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Event loops of every kind over real children, by the public interface alone: each exit comes
 * once, no loop is stuck, and hardly any wake-up is for nothing (G13). For children that are
 * watched or not, with the reaper in a thread of its own or in the loop itself.
 */
#include "support/children.h"
#include "support/harness.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>

enum loop { LEVEL_ALL, LEVEL_ONE, EDGE_ALL };
enum reaper { WATCHED, ALL, POLLED_WATCHED, POLLED_ALL };

struct world {
    struct exitbus *bus;
    struct exitbus_subscription *all;
    struct exitbus_reaper *reaper;
    enum loop loop;
    enum reaper kind;
    unsigned children, at_once;
    long gap_ns;              /* between the starts of two lots; 0: when the last lot has come */
    _Atomic unsigned started; /* by a thread of its own, if there is a gap */
    unsigned exits, wake_ups, empty;
    int set;
};

static bool is_polled(const struct world *world)
{
    return world->kind == POLLED_WATCHED || world->kind == POLLED_ALL;
}

static bool is_watched(const struct world *world)
{
    return world->kind == WATCHED || world->kind == POLLED_WATCHED;
}

static void start_child(struct world *world)
{
    pid_t pid = vfork();
    if (pid == 0) {
        char *argv[] = {TINY_CHILD, "3", NULL};
        execv(TINY_CHILD, argv);
        _exit(127);
    }
    must(pid > 0);
    if (is_watched(world))
        must_equal(exitbus_reaper_watch(world->reaper, pid), 0);
}

static void *start_children(void *argument)
{
    struct world *world = argument;
    while (atomic_load(&world->started) < world->children) {
        for (unsigned i = 0; i < world->at_once; i++)
            start_child(world);
        atomic_fetch_add(&world->started, world->at_once);
        nanosleep(&(struct timespec){.tv_nsec = world->gap_ns}, NULL);
    }
    return NULL;
}

static void add(struct world *world, int fd, uint32_t key)
{
    struct epoll_event event = {
        .events = EPOLLIN | (world->loop == EDGE_ALL && key == 0 ? (uint32_t)EPOLLET : 0),
        .data.u32 = key};
    must(fd >= 0);
    must_equal(epoll_ctl(world->set, EPOLL_CTL_ADD, fd, &event), 0);
}

static void receive(struct world *world)
{
    struct exitbus_event event;
    unsigned before = world->exits;
    int result;
    while ((result = exitbus_receive(world->all, &event, 0)) == 0) {
        must_equal(event.exit_code, 3);
        world->exits++;
        if (world->loop == LEVEL_ONE)
            break;
    }
    must(result == 0 || result == -EAGAIN);
    world->wake_ups++;
    world->empty += world->exits == before;
}

static void run(struct world *world)
{
    pthread_t starter = 0;
    world->bus = bus_new();
    world->all = subscribe(world->bus, exitbus_topic_any_pid());
    world->reaper =
        reaper_of(world->bus, is_watched(world) ? EXITBUS_REAPER_WATCHED : EXITBUS_REAPER_ALL,
                  is_polled(world) ? EXITBUS_REAPER_POLLED : 0);
    world->set = epoll_create1(EPOLL_CLOEXEC);
    add(world, exitbus_subscription_fd(world->all), 0);
    if (is_polled(world))
        add(world, exitbus_reaper_fd(world->reaper), 1);
    if (world->gap_ns > 0)
        starter = thread_start(start_children, world);
    while (world->exits < world->children) {
        struct epoll_event event;
        if (world->gap_ns == 0 && world->exits == atomic_load(&world->started)) {
            for (unsigned i = 0; i < world->at_once; i++)
                start_child(world);
            atomic_fetch_add(&world->started, world->at_once);
        }
        if (epoll_wait(world->set, &event, 1, -1) != 1)
            continue; /* a signal */
        if (event.data.u32 == 1)
            must(exitbus_reaper_poll(world->reaper) >= 0);
        else
            receive(world);
    }
    if (world->gap_ns > 0)
        thread_join(starter);
    check_equal(world->exits, world->children);
    if (world->empty * 20 > world->children + 60)
        fprintf(stderr, "reaper %d, loop %d: %u exits, %u wake-ups, %u for nothing\n", world->kind,
                world->loop, world->exits, world->wake_ups, world->empty);
    check(world->empty * 20 <= world->children + 60);
    close(world->set);
    check_ok(exitbus_unsubscribe(world->all));
    check_ok(exitbus_reaper_stop(world->reaper));
    check_ok(exitbus_destroy(world->bus));
    check(no_children());
}

/* 500 children, some at a time; and 5,000 in pairs, each pair when the last has come. */
#define LOOPS(name, kind_)                                                                         \
    TEST(loops, level_triggered_children_##name)                                                   \
    {                                                                                              \
        for (enum loop loop_ = LEVEL_ALL; loop_ <= LEVEL_ONE; loop_++)                             \
            run(&(struct world){.loop = loop_,                                                     \
                                .kind = kind_,                                                     \
                                .children = scaled(500),                                           \
                                .at_once = 1,                                                      \
                                .gap_ns = 1000000});                                               \
    }                                                                                              \
    TEST(loops, edge_triggered_children_##name)                                                    \
    {                                                                                              \
        run(&(struct world){                                                                       \
            .loop = EDGE_ALL, .kind = kind_, .children = scaled(5000) / 2 * 2, .at_once = 2});     \
    }

LOOPS(watched, WATCHED)
LOOPS(all, ALL)
LOOPS(polled_watched, POLLED_WATCHED)
LOOPS(polled_all, POLLED_ALL)

/* On one core, where whoever is woken runs in the place of its waker. */

TEST(loops, level_triggered_children_on_one_core)
{
    cpu_set_t allowed, one;
    must_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            CPU_SET(cpu, &one);
    must_equal(sched_setaffinity(0, sizeof one, &one), 0);
    for (enum reaper kind = WATCHED; kind <= ALL; kind++)
        for (enum loop loop = LEVEL_ALL; loop <= LEVEL_ONE; loop++)
            run(&(struct world){.loop = loop,
                                .kind = kind,
                                .children = scaled(500),
                                .at_once = 1,
                                .gap_ns = 1000000});
}
