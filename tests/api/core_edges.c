/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The edges of the bus itself: receivers beside stopped threads, inside sections and without
 * memory, and the end of a bus. Each test has the name of a fault that the bus once had.
 */
#include "bus/bus.h"
#include "support/allocator.h"
#include "support/events.h"
#include "support/halt.h"
#include "support/harness.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <urcu-bp.h>

/* --------------------------------------------------------------------------------- receivers */

/* A thread in one receive, which may be stopped on the way. */
struct receiver {
    struct exitbus_subscription *sub;
    int64_t timeout_ns;
    int result;
    struct halt halt;
    struct halt_note note;
    pthread_t thread;
};

static void *receive_once(void *argument)
{
    struct receiver *receiver = argument;
    struct exitbus_event event;
    halt_note_here = &receiver->note;
    halt_begin(&receiver->halt);
    receiver->result = exitbus_receive(receiver->sub, &event, receiver->timeout_ns);
    halt_end(&receiver->halt);
    return NULL;
}

static void receiver_start(struct receiver *receiver, struct exitbus_subscription *sub,
                           int64_t timeout_ns, enum probe step)
{
    *receiver = (struct receiver){.sub = sub, .timeout_ns = timeout_ns};
    halt_init(&receiver->halt, step, 0);
    receiver->thread = thread_start(receive_once, receiver);
}

static void receiver_await_sleep(struct receiver *receiver)
{
    await(atomic_load(&receiver->note.slept_at) > 0);
}

static int receiver_end(struct receiver *receiver)
{
    halt_release(&receiver->halt);
    thread_join(receiver->thread);
    return receiver->result;
}

/* A thread that publishes an event of pid 1, and is stopped on the way. */
struct publisher {
    struct exitbus *bus;
    struct halt halt;
    pthread_t thread;
};

static void *publish_halting(void *argument)
{
    struct publisher *publisher = argument;
    halt_begin(&publisher->halt);
    must_equal(exitbus_publish_pid(publisher->bus, 1, 0), 0);
    halt_end(&publisher->halt);
    return NULL;
}

static void publisher_stop(struct publisher *publisher, struct exitbus *bus, enum probe step)
{
    *publisher = (struct publisher){.bus = bus};
    halt_init(&publisher->halt, step, 0);
    publisher->thread = thread_start(publish_halting, publisher);
    check(halt_await(&publisher->halt));
}

static void publisher_end(struct publisher *publisher)
{
    halt_release(&publisher->halt);
    thread_join(publisher->thread);
}

/* ---------------------------------------------------------------------------------- one-shots */

static const enum probe before_wake[] = {PROBE_DELIVER_BEFORE_WAKE, PROBE_WAKE_EPOCH_MOVED};

/*
 * The publisher is stopped before it wakes the sleeper, and the receiver that came for the event is
 * stopped behind its take. No thread publishes any more, and the sleeper must wake.
 */
static void one_shot_sleeper(struct exitbus_topic topic, enum probe step)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe_flags(bus, topic, EXITBUS_SUBSCRIBE_ONE_SHOT);
    struct receiver sleeper, taker;
    struct publisher publisher;
    receiver_start(&sleeper, sub, -1, PROBE_COUNT);
    receiver_await_sleep(&sleeper);
    publisher_stop(&publisher, bus, step);
    receiver_start(&taker, sub, 0, PROBE_RECEIVE_TAKEN);
    (void)halt_await(&taker.halt); /* unless the sleeper, which it has woken, was faster */
    int result = receiver_end(&sleeper);
    int other = receiver_end(&taker);
    check((result == 0 && other == -ESHUTDOWN) || (result == -ESHUTDOWN && other == 0));
    publisher_end(&publisher);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(core_edges, one_shot_sleeper)
{
    halt_hook_set();
    for (size_t i = 0; i < sizeof before_wake / sizeof before_wake[0]; i++) {
        one_shot_sleeper(exitbus_topic_all(), before_wake[i]);
        one_shot_sleeper(exitbus_topic_pid(1), before_wake[i]);
    }
}

/* The same for loops of either kind that wait for its descriptor. */
TEST(core_edges, one_shot_sleeper_in_a_loop)
{
    halt_hook_set();
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub =
        subscribe_flags(bus, exitbus_topic_pid(1), EXITBUS_SUBSCRIBE_ONE_SHOT);
    struct pollfd ready = {.fd = exitbus_subscription_fd(sub), .events = POLLIN};
    check_ok(ready.fd);
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    int edges = epoll_create1(EPOLL_CLOEXEC);
    check_ok(edges);
    check_equal(epoll_ctl(edges, EPOLL_CTL_ADD, ready.fd, &edge), 0);
    struct exitbus_event event;
    check_equal(exitbus_receive(sub, &event, 0), -EAGAIN);
    struct receiver taker;
    struct publisher publisher;
    publisher_stop(&publisher, bus, PROBE_DELIVER_BEFORE_WAKE);
    receiver_start(&taker, sub, 0, PROBE_RECEIVE_TAKEN);
    check(halt_await(&taker.halt));
    check_equal(poll(&ready, 1, -1), 1);
    check_equal(epoll_wait(edges, &edge, 1, -1), 1);
    check_equal(exitbus_receive(sub, &event, 0), -ESHUTDOWN);
    check_equal(receiver_end(&taker), 0);
    publisher_end(&publisher);
    check_equal(poll(&ready, 1, 0), 1); /* for good */
    close(edges);
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/* -------------------------------------------------------------------------------------- herds */

/*
 * Many sleep on one subscription, and an event comes. All that an event has woken are stopped
 * before they look, but for the one that went to sleep first, or last: that one gets the event,
 * though no thread publishes any more. So no fewer than all may be woken.
 */
static void herd(struct exitbus_topic topic, unsigned awake)
{
    enum { HERD = 8 };
    struct receiver receivers[HERD];
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, topic);
    check_ok(exitbus_subscription_ref(sub));
    for (unsigned i = 0; i < HERD; i++) {
        receiver_start(&receivers[i], sub, -1, i == awake ? PROBE_COUNT : PROBE_RECEIVE_WOKEN);
        receiver_await_sleep(&receivers[i]);
    }
    check_ok(exitbus_publish_pid(bus, 1, 0));
    check_equal(receiver_end(&receivers[awake]), 0);
    check_ok(exitbus_unsubscribe(sub));
    for (unsigned i = 0; i < HERD; i++)
        if (i != awake)
            check_equal(receiver_end(&receivers[i]), -ESHUTDOWN);
    check_ok(exitbus_subscription_unref(sub));
    check_ok(exitbus_destroy(bus));
}

TEST(core_edges, herd)
{
    halt_hook_set();
    for (unsigned awake = 0; awake < 8; awake += 7) {
        herd(exitbus_topic_all(), awake);
        herd(exitbus_topic_pid(1), awake);
    }
}

/* ----------------------------------------------------------------------------------- sections */

/* Receives inside a section get what is there, and never wait for what is not. */
static void receive_inside(void (*enter)(void), void (*leave)(void))
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_subscription *one = subscribe(bus, exitbus_topic_pid(1));
    struct exitbus_event event;
    uint64_t discarded = 0;
    enter();
    check_equal(exitbus_receive(all, &event, -1), -EDEADLK);
    check_equal(exitbus_receive(one, &event, INT64_MAX), -EDEADLK);
    check_equal(exitbus_receive_batch(one, &event, 1, -1), -EDEADLK);
    check_equal(exitbus_receive_pid(one, 1, &event, NULL, -1), -EDEADLK);
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    check_equal(stats_of(bus).sleeping_receivers, 0);
    check_ok(exitbus_publish_pid(bus, 1, 7));
    check_ok(exitbus_publish_pid(bus, 2, 8));
    check_equal(exitbus_receive(all, &event, -1), 0);
    check_equal(event.exit_code, 7);
    check_equal(exitbus_receive_pid(one, 1, &event, NULL, -1), 0);
    check_equal(event.exit_code, 7);
    check_equal(exitbus_receive_pid(all, 3, &event, &discarded, -1), -EDEADLK);
    check_equal(discarded, 1);
    leave();
    check_equal(exitbus_receive(all, &event, 1), -ETIMEDOUT);
    check_ok(exitbus_unsubscribe(one));
    enter();
    check_ok(exitbus_subscription_ref(all));
    check_ok(exitbus_unsubscribe(all));
    check_equal(exitbus_receive(all, &event, -1), -ESHUTDOWN);
    check_ok(exitbus_subscription_unref(all));
    leave();
    check_ok(exitbus_destroy(bus));
}

#ifdef EXITBUS_INLINE_URCU /* without it, a receive does not notice these */
static void host_enter(void)
{
    urcu_bp_read_lock();
}

static void host_leave(void)
{
    urcu_bp_read_unlock();
}

static void host_enter_twice(void)
{
    urcu_bp_read_lock();
    urcu_bp_read_lock();
}

static void host_leave_twice(void)
{
    urcu_bp_read_unlock();
    urcu_bp_read_unlock();
}
#endif

static void library_enter(void)
{
    reclaim_enter();
}

static void library_leave(void)
{
    reclaim_leave();
}

TEST(core_edges, receive_in_section)
{
#ifdef EXITBUS_INLINE_URCU
    receive_inside(host_enter, host_leave);
    receive_inside(host_enter_twice, host_leave_twice);
#endif
    receive_inside(library_enter, library_leave);
}

/* A thread that has a record in liburcu, and one without any record, are not taken for inside. */
static void *receive_outside(void *sub)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(sub, &event, 1), -ETIMEDOUT);
    urcu_bp_read_lock();
    urcu_bp_read_unlock();
    must_equal(exitbus_receive(sub, &event, 1), -ETIMEDOUT);
    return NULL;
}

TEST(core_edges, receive_outside_a_section)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *sub = subscribe(bus, exitbus_topic_all());
    thread_join(thread_start(receive_outside, sub));
    check_ok(exitbus_unsubscribe(sub));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------------------- memory */

/* A bus of which one more event of pid 1 lacks memory. */
struct lacking {
    struct account account;
    struct exitbus *bus;
    struct exitbus_subscription *sub;
    _Atomic unsigned events;
    int end; /* what the loop has ended with */
};

/* The loop of the guide. */
static void *receive_all(void *of)
{
    struct lacking *lacking = of;
    struct exitbus_event event;
    while ((lacking->end = exitbus_receive(lacking->sub, &event, -1)) == 0)
        atomic_fetch_add(&lacking->events, 1);
    return NULL;
}

static void lacking_begin(struct lacking *lacking)
{
    account_init(&lacking->account);
    lacking->bus = account_bus(&lacking->account);
    lacking->sub = subscribe(lacking->bus, exitbus_topic_pid(1));
    check_ok(exitbus_publish_pid(lacking->bus, 1, 0));
}

/* Tries to get memory that were made in vain. */
static size_t refused(const struct lacking *lacking)
{
    return atomic_load(&lacking->account.refused);
}

static void await_refused(const struct lacking *lacking)
{
    size_t before = refused(lacking);
    await(refused(lacking) > before);
}

/* A receive in a section tries once to finish the event, as one does that may not wait. */
TEST(core_edges, receive_in_section_without_memory)
{
    static struct lacking lacking;
    struct exitbus_event event;
    lacking_begin(&lacking);
    check_ok(exitbus_receive(lacking.sub, &event, 0));
    atomic_store(&lacking.account.refuse, true);
    check_ok(exitbus_publish_pid(lacking.bus, 1, 7));
    library_enter();
    check_equal(exitbus_receive(lacking.sub, &event, -1), -EDEADLK);
    atomic_store(&lacking.account.refuse, false);
    check_equal(exitbus_receive(lacking.sub, &event, -1), 0);
    check_equal(event.exit_code, 7);
    library_leave();
    check_ok(exitbus_unsubscribe(lacking.sub));
    check_ok(exitbus_destroy(lacking.bus));
    account_await_empty(&lacking.account);
}

/*
 * An event lacks memory. A receive that waits goes on waiting, and tries again by itself: the event
 * comes when there is memory, though no thread publishes.
 */
TEST(core_edges, loop_ends_on_enomem)
{
    static struct lacking lacking;
    struct exitbus_event event;
    lacking_begin(&lacking);
    struct exitbus_subscription *other = subscribe(lacking.bus, exitbus_topic_pid(2));
    check_ok(exitbus_subscription_ref(lacking.sub));
    pthread_t loop = thread_start(receive_all, &lacking);
    await(atomic_load(&lacking.events) == 1 && stats_of(lacking.bus).sleeping_receivers == 1);
    atomic_store(&lacking.account.refuse, true);
    check_ok(exitbus_publish_pid(lacking.bus, 1, 0));
    for (int i = 0; i < 3; i++)
        await_refused(&lacking);
    check_equal(exitbus_receive(other, &event, 0), -ENOMEM);
    check_equal(exitbus_receive(other, &event, 1), -ETIMEDOUT);
    check_equal(exitbus_publish_pid(lacking.bus, 2, 0), -ENOMEM);
    check_equal(stats_of(lacking.bus).sleeping_receivers, 1);
    check_equal(atomic_load(&lacking.events), 1);
    atomic_store(&lacking.account.refuse, false);
    await(atomic_load(&lacking.events) == 2);
    check_equal(exitbus_receive(other, &event, 0), -EAGAIN); /* nothing is lacking any more */
    check_ok(exitbus_unsubscribe(lacking.sub));
    thread_join(loop);
    check_equal(lacking.end, -ESHUTDOWN);
    check_ok(exitbus_subscription_unref(lacking.sub));
    check_ok(exitbus_unsubscribe(other));
    check_ok(exitbus_destroy(lacking.bus));
    account_await_empty(&lacking.account);
}

/* Receivers that wait for memory do not wake one another: each tries in its own time. */
TEST(core_edges, waiting_for_memory_is_quiet)
{
    static struct lacking lacking;
    struct exitbus_event event;
    lacking_begin(&lacking);
    pthread_t loop = thread_start(receive_all, &lacking);
    await(atomic_load(&lacking.events) == 1 && stats_of(lacking.bus).sleeping_receivers == 1);
    atomic_store(&lacking.account.refuse, true);
    check_ok(exitbus_publish_pid(lacking.bus, 1, 0)); /* has woken the loop */
    await_refused(&lacking);
    await_refused(&lacking); /* it is announced again */
    uint32_t epoch = atomic_load(&lacking.sub->wake_receiver.epoch);
    for (int i = 0; i < 3; i++)
        check_equal(exitbus_publish_pid(lacking.bus, 1, 0), -ENOMEM);
    check_equal(exitbus_receive(lacking.sub, &event, 0), -ENOMEM);
    check_equal(exitbus_receive(lacking.sub, &event, 1), -ETIMEDOUT);
    await_refused(&lacking);
    check_equal(atomic_load(&lacking.sub->wake_receiver.epoch), epoch);
    check_ok(exitbus_destroy(lacking.bus));
    thread_join(loop);
    check_equal(lacking.end, -ESHUTDOWN);
    check_ok(exitbus_unsubscribe(lacking.sub));
    account_await_empty(&lacking.account);
}

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/*
 * An event lacks memory for one subscription. The receivers of others, which have had the event,
 * wait for the next. Trying to finish the event wakes them, but they do not try in their turn: all
 * of them together try once for each nap. A receive with a timeout ends in time.
 */
TEST(core_edges, waiting_for_memory_takes_turns)
{
    enum { WAITERS = 8, NAP_MS = 200 };
    static struct lacking lacking;
    struct exitbus_event event;
    struct exitbus_subscription *others[WAITERS];
    struct receiver waiters[WAITERS];
    lacking_begin(&lacking);
    for (int i = 0; i < WAITERS; i++)
        others[i] = subscribe(lacking.bus, exitbus_topic_pid(1));
    struct exitbus_subscription *own = subscribe(lacking.bus, exitbus_topic_pid(1));
    atomic_store(&lacking.account.refuse, true);
    check_ok(exitbus_publish_pid(lacking.bus, 1, 0));
    for (int i = 0; i < WAITERS; i++)
        check_ok(exitbus_receive(others[i], &event, 0));
    check_ok(exitbus_receive(own, &event, 0));
    size_t before = refused(&lacking);
    check_equal(exitbus_receive(own, &event, 0), -ENOMEM);
    size_t each = refused(&lacking) - before;
    check(each > 0);
    for (int i = 0; i < WAITERS; i++)
        receiver_start(&waiters[i], others[i], -1, PROBE_COUNT);
    await(stats_of(lacking.bus).sleeping_receivers == WAITERS);
    await_refused(&lacking);
    int64_t start_ms = clock_ms();
    before = refused(&lacking);
    check_equal(exitbus_receive(own, &event, 3 * NAP_MS * 1000000LL), -ETIMEDOUT);
    size_t tries = (refused(&lacking) - before) / each;
    check(tries <= (size_t)((clock_ms() - start_ms) / NAP_MS + 2));
    check_ok(exitbus_destroy(lacking.bus));
    for (int i = 0; i < WAITERS; i++) {
        check_equal(receiver_end(&waiters[i]), -ESHUTDOWN);
        check_ok(exitbus_unsubscribe(others[i]));
    }
    check_ok(exitbus_unsubscribe(own));
    check_ok(exitbus_unsubscribe(lacking.sub));
    account_await_empty(&lacking.account);
}

/* ---------------------------------------------------------------------------- end of the bus */

/*
 * A publisher that is stopped before it has looked at the bus: by the page fault on its argument.
 */
enum { PAGE_BYTES = 1 << 16 }; /* a multiple of every page size */
static char *argument;
static sem_t at_argument, past_argument;

static void hold_up(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    char *at = info->si_addr;
    must(at >= argument && at < argument + PAGE_BYTES);
    sem_post(&at_argument);
    halt_wait(&past_argument);
    must_equal(mprotect(argument, PAGE_BYTES, PROT_READ | PROT_WRITE), 0);
}

static void argument_begin(void)
{
    sem_init(&at_argument, 0, 0);
    sem_init(&past_argument, 0, 0);
    argument = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(argument != MAP_FAILED);
    argument[0] = 'c';
    struct sigaction action = {.sa_sigaction = hold_up, .sa_flags = SA_SIGINFO};
    must_equal(sigaction(SIGSEGV, &action, NULL), 0);
    must_equal(mprotect(argument, PAGE_BYTES, PROT_NONE), 0);
}

struct late {
    struct account account;
    struct exitbus *bus;
    struct exitbus_subscription *held;
};

/* Everything that can be called with the handle of a destroyed bus that a subscription keeps. */
static void call_destroyed(struct exitbus *bus)
{
    struct exitbus_event event = pid_event(1);
    struct exitbus_subscription *sub;
    struct exitbus_reaper *reaper;
    struct exitbus_stats stats;
    char *argv[] = {"true", NULL};
    struct exitbus_spawn_options spawn = {.argv = argv, .flags = EXITBUS_SPAWN_SEARCH_PATH};
    struct exitbus_reaper_options watched = {.mode = EXITBUS_REAPER_WATCHED};
    pid_t pid;
    must_equal(exitbus_publish(bus, &event, NULL), -ESHUTDOWN);
    must_equal(exitbus_publish_batch(bus, &event, 1, NULL), -ESHUTDOWN);
    must_equal(exitbus_publish_pid(bus, 1, 0), -ESHUTDOWN);
    must_equal(exitbus_publish_wait(bus, 1, 0, NULL), -ESHUTDOWN);
    for (uint32_t flags = 0; flags <= EXITBUS_SUBSCRIBE_ONE_SHOT; flags++) {
        must_equal(exitbus_subscribe(bus, exitbus_topic_all(), flags, &sub), -ESHUTDOWN);
        must_equal(exitbus_subscribe(bus, exitbus_topic_pid(1), flags, &sub), -ESHUTDOWN);
    }
    must_equal(exitbus_spawn(bus, &spawn, &pid, &sub), -ESHUTDOWN);
    must_equal(exitbus_reaper_start(bus, &watched, &reaper), -ESHUTDOWN);
    must_equal(exitbus_stats(bus, &stats), 0);
    must_equal(exitbus_destroy(bus), -ESHUTDOWN);
}

static void *publish_late(void *of)
{
    struct late *late = of;
    must_equal(exitbus_publish_exec(late->bus, argument, "", 0), -ESHUTDOWN);
    call_destroyed(late->bus);
    must_equal(exitbus_subscription_unref(late->held), 0);
    return NULL;
}

/* The publisher holds a reference to a subscription: so the bus is there when it goes on. */
TEST(core_edges, destroy_races_publish)
{
    static struct late late;
    account_init(&late.account);
    late.bus = account_bus(&late.account);
    late.held = subscribe(late.bus, exitbus_topic_pid(2));
    check_ok(exitbus_subscription_ref(late.held));
    argument_begin();
    pthread_t publisher = thread_start(publish_late, &late);
    halt_wait(&at_argument);
    check_ok(exitbus_unsubscribe(late.held));
    check_ok(exitbus_destroy(late.bus));
    check(atomic_load(&late.account.blocks) > 0);
    sem_post(&past_argument);
    thread_join(publisher);
    account_await_empty(&late.account);
}

#ifndef PLAIN_RUNNER /* whose tests are forked processes: there only our own sections count */
static void *publish_in_section(void *of)
{
    struct late *late = of;
    urcu_bp_read_lock();
    must_equal(exitbus_publish_exec(late->bus, argument, "", 0), -ESHUTDOWN);
    must(atomic_load(&late->account.blocks) > 0);
    urcu_bp_read_unlock();
    return NULL;
}

static void *destroy(void *bus)
{
    must_equal(exitbus_destroy(bus), 0);
    return NULL;
}

/* The publisher is in a read-side section of its own since before: destroy waits for its end. */
TEST(core_edges, destroy_races_publish_in_a_section)
{
    static struct late late;
    account_init(&late.account);
    late.bus = account_bus(&late.account);
    argument_begin();
    pthread_t publisher = thread_start(publish_in_section, &late);
    halt_wait(&at_argument);
    pthread_t destroyer = thread_start(destroy, late.bus);
    await(bus_closed(late.bus));
    sem_post(&past_argument);
    thread_join(publisher);
    thread_join(destroyer);
    account_await_empty(&late.account);
}
#endif
