/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The descriptor of a subscription in event loops (G13): level- and edge-triggered, one event for
 * each wake-up or until -EAGAIN. No wake-up is lost, and hardly any is for nothing: counted here,
 * on one core and on all. With publishers, receivers and closers stopped at each step; with
 * descriptors that others have closed; and how soon they come back.
 */
#include "support/events.h"
#include "support/halt.h"
#include "support/harness.h"

#include "base/sys.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum loop { LEVEL_ALL, LEVEL_ONE, POLL_ALL, POLL_ONE, EDGE_ALL, LOOPS };

/* A consumer with its loop, and what it has seen. */
struct consumer {
    struct exitbus_subscription *subscription;
    enum loop loop;
    uint64_t want; /* events, then it ends */
    int fd, set;
    uint64_t events, wake_ups, empty;
};

static void consumer_open(struct consumer *consumer)
{
    struct epoll_event event = {.events =
                                    EPOLLIN | (consumer->loop == EDGE_ALL ? (uint32_t)EPOLLET : 0)};
    consumer->fd = exitbus_subscription_fd(consumer->subscription);
    must(consumer->fd >= 0);
    consumer->set = epoll_create1(EPOLL_CLOEXEC);
    must_equal(epoll_ctl(consumer->set, EPOLL_CTL_ADD, consumer->fd, &event), 0);
}

/* True if it was woken in time. */
static bool consumer_wait(struct consumer *consumer, int timeout_ms)
{
    int count;
    struct epoll_event event;
    struct pollfd pollfd = {.fd = consumer->fd, .events = POLLIN};
    do
        count = consumer->loop == POLL_ALL || consumer->loop == POLL_ONE
                    ? poll(&pollfd, 1, timeout_ms)
                    : epoll_wait(consumer->set, &event, 1, timeout_ms);
    while (count < 0 && errno == EINTR);
    return count == 1;
}

/* One pass of the loop; false: nothing has woken it. */
static bool consumer_pass(struct consumer *consumer, int timeout_ms)
{
    struct exitbus_event event;
    uint64_t before = consumer->events;
    int result;
    if (!consumer_wait(consumer, timeout_ms))
        return false;
    consumer->wake_ups++;
    bool one = consumer->loop == LEVEL_ONE || consumer->loop == POLL_ONE;
    do {
        result = exitbus_receive(consumer->subscription, &event, 0);
        consumer->events += result == 0;
    } while (result == 0 && !one);
    must(result == 0 || result == -EAGAIN || result == -ESHUTDOWN);
    consumer->empty += consumer->events == before && result != -ESHUTDOWN;
    return true;
}

static void *consumer_run(void *argument)
{
    struct consumer *consumer = argument;
    while (consumer->events < consumer->want)
        must(consumer_pass(consumer, -1));
    return NULL;
}

static void consumer_close(struct consumer *consumer)
{
    close(consumer->set);
}

static void publish_to(struct exitbus *bus, pid_t pid)
{
    must_equal(exitbus_publish_pid(bus, pid, 0), 0);
}

/* ------------------------------------------------------------------------------------- edges */

struct burst {
    struct exitbus *bus;
    unsigned events;
};

/* With pauses of all lengths in between, so that they end at every place of the consumer's loop. */
static void *burst_run(void *argument)
{
    struct burst *burst = argument;
    for (unsigned i = 1; i <= burst->events; i++) {
        publish_to(burst->bus, (pid_t)i);
        for (unsigned pause = i % 577; pause > 0; pause--)
            ck_pr_stall();
        if (i % 97 == 0)
            sched_yield();
    }
    return NULL;
}

/* Every event comes, or this hangs. */
static void edge_run(unsigned events, unsigned publishers)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct consumer consumer = {
        .subscription = all, .loop = EDGE_ALL, .want = (uint64_t)events * publishers};
    struct burst burst = {bus, events};
    pthread_t threads[4];
    consumer_open(&consumer);
    for (unsigned i = 0; i < publishers; i++)
        threads[i] = thread_start(burst_run, &burst);
    consumer_run(&consumer);
    for (unsigned i = 0; i < publishers; i++)
        thread_join(threads[i]);
    check_equal(consumer.events, consumer.want);
    consumer_close(&consumer);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

#define EDGE_RUNS(n)                                                                               \
    TEST(descriptor, edge_triggered_hangs_##n)                                                     \
    {                                                                                              \
        edge_run(scaled(1000000) / n, n);                                                          \
    }
EDGE_RUNS(1)
EDGE_RUNS(2)
EDGE_RUNS(4)

/* One of a thousand runs that are all beginning: there it hung soonest. */
TEST(descriptor, edge_triggered_hangs)
{
    for (unsigned i = 0; i < scaled(1000); i++)
        edge_run(20, 1);
}

/* The header: after -EAGAIN the next publish makes an edge, wherever an earlier one is stopped. */
struct halted_publish {
    struct exitbus *bus;
    struct halt halt;
    pid_t pid;
};

static void *publish_halted(void *argument)
{
    struct halted_publish *publish = argument;
    halt_begin(&publish->halt);
    publish_to(publish->bus, publish->pid);
    halt_end(&publish->halt);
    return NULL;
}

static const enum probe signal_steps[] = {PROBE_DELIVER_BEFORE_WAKE, PROBE_FD_STATE_READ,
                                              PROBE_FD_ANNOUNCED, PROBE_FD_WRITTEN};
#define SIGNAL_STEPS (sizeof signal_steps / sizeof signal_steps[0])

TEST(descriptor, edge_after_a_publisher_that_stopped)
{
    for (size_t s = 0; s < SIGNAL_STEPS; s++)
        for (enum loop loop = 0; loop < LOOPS; loop++) {
            struct exitbus *bus = bus_new();
            struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
            struct consumer consumer = {.subscription = all, .loop = loop};
            struct halted_publish publish = {.bus = bus, .pid = 1};
            halt_hook_set();
            consumer_open(&consumer);
            halt_init(&publish.halt, signal_steps[s], 0);
            pthread_t thread = thread_start(publish_halted, &publish);
            check(halt_await(&publish.halt));
            struct exitbus_event event;
            /* It has written, or the receiver comes by for some other reason. */
            if (!consumer_pass(&consumer, 0))
                consumer.events += exitbus_receive(all, &event, 0) == 0;
            check_equal(consumer.events, 1);
            check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
            check(!consumer_wait(&consumer, 0));
            for (pid_t pid = 2; pid < 10; pid++) {
                publish_to(bus, pid);
                check(consumer_pass(&consumer, -1));
                check_equal(consumer.events, pid);
                check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
                check(!consumer_wait(&consumer, 0));
            }
            check_equal(consumer.empty, 0);
            halt_release(&publish.halt);
            thread_join(thread);
            while (consumer_pass(&consumer, 0))
                continue;
            check(consumer.empty <= 1);
            publish_to(bus, 10);
            check(consumer_pass(&consumer, -1));
            check_equal(consumer.events, 10);
            consumer_close(&consumer);
            check_ok(exitbus_unsubscribe(all));
            check_ok(exitbus_destroy(bus));
        }
}

/* A receiver stops for good in the middle of its clearing: others are woken all the same. */
struct halted_receive {
    struct exitbus_subscription *subscription;
    struct halt halt;
    int result;
};

static void *receive_halted(void *argument)
{
    struct halted_receive *receive = argument;
    struct exitbus_event event;
    halt_begin(&receive->halt);
    receive->result = exitbus_receive(receive->subscription, &event, 0);
    halt_end(&receive->halt);
    return NULL;
}

static const enum probe clear_steps[] = {PROBE_FD_BEFORE_CLEARING, PROBE_FD_CLEARING,
                                             PROBE_FD_ARMED, PROBE_FD_TAKEN};
#define CLEAR_STEPS (sizeof clear_steps / sizeof clear_steps[0])

TEST(descriptor, woken_beside_a_receiver_that_stopped)
{
    for (size_t s = 0; s < CLEAR_STEPS; s++)
        for (enum loop loop = 0; loop < LOOPS; loop++) {
            struct exitbus *bus = bus_new();
            struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
            struct consumer consumer = {.subscription = all, .loop = loop};
            struct halted_receive receive = {.subscription = all};
            struct exitbus_event event;
            halt_hook_set();
            consumer_open(&consumer);
            publish_to(bus, 1);
            halt_init(&receive.halt, clear_steps[s], 0);
            pthread_t thread = thread_start(receive_halted, &receive);
            check(halt_await(&receive.halt));
            while (consumer_pass(&consumer, 0))
                continue;
            check(consumer.empty <= 1);
            consumer.empty = 0;
            for (unsigned i = 1; i < 10; i++) {
                publish_to(bus, (pid_t)i + 1);
                check(consumer_pass(&consumer, -1));
                check_equal(consumer.events, i);
                check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
                check(!consumer_wait(&consumer, 0));
            }
            check_equal(consumer.empty, 0);
            /* The one that goes on takes no token that somebody else needs. */
            publish_to(bus, 11);
            halt_release(&receive.halt);
            thread_join(thread);
            check_equal(receive.result, 0);
            check(consumer_pass(&consumer, -1));
            check_equal(consumer.events, 10);
            check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
            check(!consumer_wait(&consumer, 0));
            consumer_close(&consumer);
            check_ok(exitbus_unsubscribe(all));
            check_ok(exitbus_destroy(bus));
        }
}

/* So many that they can't be counted. */
TEST(descriptor, woken_beside_very_many_that_stopped)
{
    enum { MANY = 300 };
    for (int publishers = 0; publishers < 2; publishers++) {
        static struct halted_publish publishes[MANY];
        static struct halted_receive receives[MANY];
        static pthread_t threads[MANY];
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
        struct exitbus_event event;
        halt_hook_set();
        struct consumer consumer = {.subscription = all, .loop = EDGE_ALL};
        struct consumer level = {.subscription = all, .loop = LEVEL_ALL};
        consumer_open(&consumer);
        consumer_open(&level);
        for (unsigned i = 0; i < MANY; i++) {
            if (publishers) {
                publishes[i] = (struct halted_publish){.bus = bus, .pid = 1};
                halt_init(&publishes[i].halt, PROBE_FD_WRITTEN, 0);
                threads[i] = thread_start(publish_halted, &publishes[i]);
                check(halt_await(&publishes[i].halt));
                while (exitbus_receive(all, &event, 0) == 0)
                    continue;
            } else {
                publish_to(bus, 1);
                receives[i] = (struct halted_receive){.subscription = all};
                halt_init(&receives[i].halt, PROBE_FD_ARMED, 0);
                threads[i] = thread_start(receive_halted, &receives[i]);
                (void)halt_await(&receives[i].halt); /* those that aren't counted take nothing */
            }
        }
        while (consumer_pass(&consumer, 0) || exitbus_receive(all, &event, 0) == 0)
            continue;
        for (int rounds = 0; rounds < 2; rounds++) {
            for (unsigned i = 0; i < 5; i++) {
                consumer.events = level.events = 0;
                publish_to(bus, 2);
                check(consumer_pass(&consumer, -1));
                check_equal(consumer.events, 1);
                publish_to(bus, 2);
                check(consumer_pass(&level, -1));
                check(level.events == 1);
                check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
                while (consumer_pass(&consumer, 0))
                    continue;
            }
            for (unsigned i = 0; i < MANY && rounds == 0; i++) {
                halt_release(publishers ? &publishes[i].halt : &receives[i].halt);
                thread_join(threads[i]);
            }
            while (consumer_pass(&consumer, 0) || exitbus_receive(all, &event, 0) == 0)
                continue; /* what the publishers had not yet ordered */
        }
        consumer_close(&consumer);
        consumer_close(&level);
        check_ok(exitbus_unsubscribe(all));
        check_ok(exitbus_destroy(bus));
    }
}

/* ---------------------------------------------------------------------- wake-ups for nothing */

struct pace {
    struct exitbus *bus;
    unsigned events;
    long gap_ns;
};

/* One event for each expiry. */
static void *pace_run(void *argument)
{
    struct pace *pace = argument;
    struct itimerspec period = {.it_value = {.tv_nsec = pace->gap_ns},
                                .it_interval = {.tv_nsec = pace->gap_ns}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    must_equal(timerfd_settime(timer, 0, &period, NULL), 0);
    for (unsigned i = 1; i <= pace->events; i++) {
        uint64_t expiries;
        must_equal(read(timer, &expiries, sizeof expiries), (ssize_t)sizeof expiries);
        publish_to(pace->bus, (pid_t)i);
    }
    close(timer);
    return NULL;
}

static void pin_to_one_core(void)
{
    cpu_set_t allowed, one;
    must_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &one);
            break;
        }
    must_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

static void check_empty(const struct consumer *consumer, const char *where)
{
    if (consumer->empty * 20 > consumer->want + 60)
        fprintf(stderr, "%s, loop %d: %llu events, %llu wake-ups, %llu for nothing\n", where,
                consumer->loop, (unsigned long long)consumer->events,
                (unsigned long long)consumer->wake_ups, (unsigned long long)consumer->empty);
    check(consumer->empty * 20 <= consumer->want + 60);
}

static void count_empty(const char *where)
{
    static const struct {
        unsigned events;
        long gap_ns;
    } paces[] = {{4000, 50 * 1000}, {1000, 500 * 1000}, {100, 5 * 1000 * 1000}};
    for (enum loop loop = 0; loop < LOOPS; loop++)
        for (size_t i = 0; i < sizeof paces / sizeof paces[0]; i++) {
            struct exitbus *bus = bus_new();
            struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
            unsigned events = scaled(paces[i].events) + 20;
            struct pace pace = {bus, events, paces[i].gap_ns};
            struct consumer consumer = {.subscription = all, .loop = loop, .want = events};
            consumer_open(&consumer);
            pthread_t thread = thread_start(pace_run, &pace);
            consumer_run(&consumer);
            thread_join(thread);
            check_empty(&consumer, where);
            consumer_close(&consumer);
            check_ok(exitbus_unsubscribe(all));
            check_ok(exitbus_destroy(bus));
        }
}

TEST(descriptor, level_triggered_spins)
{
    count_empty("all cores");
}

TEST(descriptor, level_triggered_spins_on_one_core)
{
    pin_to_one_core();
    count_empty("one core");
}

/* ----------------------------------------------------------------- somebody else's descriptor */

/* The number of the subscription's descriptor becomes another's. */
enum other { OTHER_CLOSED, OTHER_TIMER, OTHER_PIPE_FULL, OTHER_READ_ONLY, OTHER_DIRECTORY, OTHERS };

static int open_other(enum other other)
{
    int fds[2];
    switch (other) {
    case OTHER_TIMER:
        return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    case OTHER_PIPE_FULL:
        must_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
        while (write(fds[1], "12345678", 8) > 0)
            continue;
        must(fcntl(fds[0], F_DUPFD_CLOEXEC, 100) >= 100); /* stays open, whatever becomes of that */
        return fds[1];
    case OTHER_READ_ONLY:
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    case OTHER_DIRECTORY:
        return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    default:
        return -1;
    }
}

TEST(descriptor, fd_number_reused)
{
    for (enum other other = 0; other < OTHERS; other++) {
        struct exitbus *bus = bus_new();
        struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
        struct exitbus_event event;
        int fd = exitbus_subscription_fd(all);
        must_equal(close(fd), 0);
        int mine = open_other(other);
        if (mine >= 0 && mine != fd) {
            must_equal(dup3(mine, fd, O_CLOEXEC), fd);
            close(mine);
        }
        for (pid_t pid = 1; pid < 10; pid++) {
            check_ok(exitbus_publish_pid(bus, pid, 0)); /* it returns */
            check_equal(exitbus_receive(all, &event, 0), 0);
            check_equal(event.pid, pid);
            check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
        }
        check_equal(exitbus_subscription_fd(all), fd);
        check_ok(exitbus_unsubscribe(all));
        check_ok(exitbus_destroy(bus));
    }
}

/* Every error that there is, of every write and read from then on: nothing waits, nothing is lost
 * for those who do not go by the descriptor; and when it works again, so does the descriptor. */
static _Atomic long failing;
static _Atomic int with;

static int fail_hook(long number)
{
    return number == atomic_load(&failing) ? -atomic_load(&with) : 0;
}

TEST(descriptor, fd_fails_with_any_error)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    struct exitbus_event event;
    struct consumer consumer = {.subscription = all, .loop = EDGE_ALL};
    consumer_open(&consumer);
    __atomic_store_n(&exitbus_test_syscall, fail_hook, __ATOMIC_RELEASE);
    const long numbers[] = {SYS_write, SYS_read};
    for (size_t n = 0; n < 2; n++)
        for (int error = 1; error < 134; error++) {
            atomic_store(&with, error);
            atomic_store(&failing, numbers[n]);
            for (pid_t pid = 1; pid <= 3; pid++) {
                check_ok(exitbus_publish_pid(bus, pid, 0));
                check_equal(exitbus_receive(all, &event, 0), 0);
                check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
            }
            atomic_store(&failing, -1);
            check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
            while (consumer_wait(&consumer, 0))
                check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
            publish_to(bus, 4);
            check(consumer_wait(&consumer, -1));
            check_equal(exitbus_receive(all, &event, 0), 0);
            check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
            check_equal(poll(&(struct pollfd){.fd = consumer.fd, .events = POLLIN}, 1, 0), 0);
        }
    consumer_close(&consumer);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* ------------------------------------------------------------------------- coming and going */

static void limit_descriptors(rlim_t count)
{
    struct rlimit limit;
    must_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count;
    must_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

TEST(descriptor, descriptors_late)
{
    struct exitbus *bus = bus_new();
    struct exitbus_event event;
    limit_descriptors(64);
    for (int i = 0; i < scaled(100000); i++) {
        struct exitbus_subscription *one =
            subscribe_flags(bus, exitbus_topic_pid(5), i % 4 == 3 ? EXITBUS_SUBSCRIBE_ONE_SHOT : 0);
        int fd = exitbus_subscription_fd(one);
        check_ok(fd);
        if (i % 2 == 1) {
            publish_to(bus, 5);
            check_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0), 1);
            check_equal(exitbus_receive(one, &event, 0), 0);
        }
        check_ok(exitbus_unsubscribe(one));
        check_equal(fcntl(fd, F_GETFD), -1);
    }
    check_ok(exitbus_destroy(bus));
}

/* With a publisher that is at it all the time: it can keep the one that it is using. */
struct publishing {
    struct exitbus *bus;
    _Atomic bool stop;
};

static void *publish_on(void *argument)
{
    struct publishing *publishing = argument;
    while (!atomic_load(&publishing->stop))
        publish_to(publishing->bus, 5);
    return NULL;
}

TEST(descriptor, descriptors_late_beside_a_publisher)
{
    struct publishing publishing = {.bus = bus_new()};
    struct exitbus_event event;
    limit_descriptors(64);
    pthread_t thread = thread_start(publish_on, &publishing);
    for (int i = 0; i < scaled(20000); i++) {
        struct exitbus_subscription *one = subscribe(publishing.bus, exitbus_topic_pid(5));
        check_ok(exitbus_subscription_fd(one));
        for (int tries = 0; tries < 5; tries++)
            (void)exitbus_receive(one, &event, 0);
        check_ok(exitbus_unsubscribe(one));
    }
    atomic_store(&publishing.stop, true);
    thread_join(thread);
    check_ok(exitbus_destroy(publishing.bus));
}

/* As long as a thread is about to use one it is not closed; all others are. */
TEST(descriptor, never_closed_in_use)
{
    for (size_t s = 0; s < SIGNAL_STEPS; s++) {
        struct halted_publish publish = {.bus = bus_new(), .pid = 5};
        struct exitbus_subscription *one = subscribe(publish.bus, exitbus_topic_pid(5));
        int fd = exitbus_subscription_fd(one);
        halt_hook_set();
        halt_init(&publish.halt, signal_steps[s], 0);
        pthread_t thread = thread_start(publish_halted, &publish);
        check(halt_await(&publish.halt));
        check_ok(exitbus_unsubscribe(one));
        bool in_use = signal_steps[s] == PROBE_FD_ANNOUNCED || signal_steps[s] == PROBE_FD_WRITTEN;
        check_equal(fcntl(fd, F_GETFD) >= 0, in_use);
        int mine = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        check_equal(mine == fd, !in_use);
        for (int i = 0; i < 100; i++) {
            one = subscribe(publish.bus, exitbus_topic_pid(6));
            int next = exitbus_subscription_fd(one);
            check_ok(exitbus_unsubscribe(one));
            check_equal(fcntl(next, F_GETFD), -1);
        }
        halt_release(&publish.halt);
        thread_join(thread);
        uint64_t value;
        check_equal(read(mine, &value, sizeof value), -1); /* nobody has written there */
        await(!in_use || fcntl(fd, F_GETFD) < 0);
        close(mine);
        check_ok(exitbus_destroy(publish.bus));
    }
}

/* While another has a reference the descriptor stays, and says that it is over. */
TEST(descriptor, stays_with_the_last_reference)
{
    struct exitbus *bus = bus_new();
    struct exitbus_event event;
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_all());
    int fd = exitbus_subscription_fd(all);
    check_ok(exitbus_subscription_ref(all));
    check_ok(exitbus_unsubscribe(all));
    for (int i = 0; i < 3; i++) {
        check_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), 1);
        check_equal(exitbus_receive(all, &event, 0), -ESHUTDOWN);
    }
    check_ok(exitbus_subscription_unref(all));
    check_equal(fcntl(fd, F_GETFD), -1);
    check_ok(exitbus_destroy(bus));
}

/* ----------------------------------------------------------------- a table of descriptors of its
 * own */

struct own_table {
    struct exitbus *bus;
    sem_t alone, go_on;
    bool refused;
};

static void *publish_from_own_table(void *argument)
{
    struct own_table *own = argument;
    own->refused = unshare(CLONE_FILES) != 0;
    sem_post(&own->alone);
    halt_wait(&own->go_on);
    for (pid_t pid = 1; pid <= 3; pid++)
        publish_to(own->bus, pid);
    return NULL;
}

/* Such a thread can't signal a descriptor that was made since; the next publish of another does. */
TEST(descriptor, own_descriptor_table)
{
    struct own_table own = {.bus = bus_new()};
    struct exitbus_event event;
    sem_init(&own.alone, 0, 0);
    sem_init(&own.go_on, 0, 0);
    pthread_t thread = thread_start(publish_from_own_table, &own);
    halt_wait(&own.alone);
    struct exitbus_subscription *all = subscribe(own.bus, exitbus_topic_all());
    struct consumer consumer = {.subscription = all, .loop = EDGE_ALL};
    consumer_open(&consumer);
    sem_post(&own.go_on);
    thread_join(thread);
    if (!own.refused) {
        publish_to(own.bus, 4);
        check(consumer_pass(&consumer, -1));
        check_equal(consumer.events, 4); /* all of them, in order, by one edge */
    }
    check_equal(exitbus_receive(all, &event, 0), own.refused ? 0 : -EAGAIN);
    consumer_close(&consumer);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(own.bus));
}
