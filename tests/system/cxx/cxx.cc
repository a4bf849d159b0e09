/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* <exitbus/exitbus.hpp>: what it adds to the C calls. Each function is a test. */
#include <exitbus/exitbus.hpp>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <thread>
#include <type_traits>
#include <unistd.h>

using namespace std::chrono_literals;
using exit_bus::event;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);           \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

template <class Call> void fails_with(std::errc code, Call call)
{
    try {
        call();
    } catch (const std::system_error &error) {
        CHECK(error.code() == code);
        CHECK(error.code().category() == exit_bus::error_category());
        CHECK(error.code().message() == exitbus_strerror(error.code().value()));
        return;
    }
    CHECK(false); /* there was no exception */
}

static_assert(std::is_nothrow_move_constructible_v<exit_bus::bus>);
static_assert(std::is_nothrow_move_assignable_v<exit_bus::subscription>);
static_assert(!std::is_copy_constructible_v<exit_bus::bus>);
static_assert(!std::is_copy_constructible_v<exit_bus::subscription>);
static_assert(!std::is_copy_constructible_v<exit_bus::reaper>);
static_assert(std::is_copy_constructible_v<exit_bus::process>);
static_assert(std::is_copy_assignable_v<exit_bus::task>);

static void publish_and_receive()
{
    exit_bus::bus bus;
    exit_bus::subscription all(bus, exit_bus::all());
    CHECK(!all.try_receive());
    CHECK(!all.receive(1ns));
    bus.publish_pid(4711, 3);
    bus.publish_exec("web", "shell", 4);
    CHECK(all.pending() == 2);
    CHECK(all.receive()->exit_code == 3);
    std::optional<event> exec = all.receive(std::chrono::hours(1000000));
    CHECK(exec && exec->container() == "web" && exec->exec() == "shell" && exec->is_exit());
    CHECK(!exec->details());
    CHECK(bus.stats().published == 2);
}

static void batches()
{
    exit_bus::bus bus;
    exit_bus::subscription all(bus, exit_bus::any_pid());
    exitbus_event events[3] = {};
    for (exitbus_event &event : events) {
        event.kind = EXITBUS_EVENT_PID;
        event.pid = 1;
    }
    CHECK(bus.publish(events, 3) == 1);
    std::vector<event> received;
    while (received.size() < 3) /* a batch may be smaller than it could be, but not empty */
        CHECK(all.try_receive(received, 1000) > 0);
    CHECK(all.try_receive(received, 1) == 0 && received.size() == 3);
    CHECK(received[2].seq == 3);
}

static void errors_are_exceptions()
{
    exit_bus::bus bus;
    fails_with(std::errc::invalid_argument, [&] { bus.publish_pid(0, 0); });
    fails_with(std::errc::invalid_argument,
               [&] { exit_bus::subscription(bus, exit_bus::container("")); });
    fails_with(std::errc::no_child_process, [&] { exit_bus::process::adopt(bus, getppid()); });
    try {
        exit_bus::process::run(bus, {"/nonexistent"});
        CHECK(false); /* there was no exception */
    } catch (const std::system_error &error) {
        CHECK(error.code() == std::errc::no_such_file_or_directory);
    }
}

static void a_closed_subscription_ends_the_loop()
{
    exit_bus::bus bus;
    exit_bus::subscription all(bus, exit_bus::all());
    std::atomic<int> seen{0};
    std::thread other([&seen, receiver = exit_bus::receiver(all)]() mutable {
        for (const event &event : receiver)
            seen += event.exit_code;
        fails_with(std::errc(ESHUTDOWN), [&] { receiver.try_receive(); });
    });
    bus.publish_pid(1, 5);
    bus.publish_pid(1, 6);
    while (seen < 11)
        std::this_thread::yield();
    all.unsubscribe();
    other.join();
    fails_with(std::errc::invalid_argument, [&] { all.try_receive(); });
    CHECK(bus.stats().subscriptions == 0);
}

static void handles_move()
{
    exit_bus::bus bus;
    exit_bus::subscription first(bus, exit_bus::pid(7)), second(bus, exit_bus::pid(8));
    exit_bus::subscription moved(std::move(first));
    bus.publish_pid(7, 1);
    CHECK(moved.try_receive()->exit_code == 1);
    CHECK(bus.stats().subscriptions == 2);
    moved = std::move(second); /* and the one before is closed */
    CHECK(bus.stats().subscriptions == 1);
    bus.publish_pid(8, 2);
    CHECK(moved.try_receive()->exit_code == 2);
    exit_bus::bus owner(std::move(bus));
    owner.publish_pid(8, 3);
    CHECK(moved.try_receive()->exit_code == 3);
    moved.unsubscribe();
    CHECK(owner.stats().subscriptions == 0);
    CHECK(exit_bus::bus::process_wide().get() == exit_bus::bus::process_wide().get());
}

static void processes()
{
    exit_bus::bus bus;
    auto child = exit_bus::process::run(bus, {"sh", "-c", "exit 3"});
    exit_bus::process copy(child), other = child;
    CHECK(child.wait().exit_code == 3);
    CHECK(copy.wait(1h)->exit_code == 3 && other.try_wait()->exit_code == 3); /* it stays */
    CHECK(!child.signal(SIGKILL));
    pollfd readable{copy.fd(), POLLIN, 0};
    CHECK(poll(&readable, 1, -1) == 1);

    auto sleeper = exit_bus::process::run(bus, {"sleep", "1000"});
    CHECK(!sleeper.try_wait() && sleeper.pid() > 0 && sleeper.start_time() > 0ns);
    int pidfd = sleeper.pidfd();
    auto same = exit_bus::process::adopt_pidfd(bus, pidfd);
    CHECK(sleeper.signal(SIGKILL));
    CHECK(same.wait().status == SIGKILL && sleeper.wait().status == SIGKILL);
    close(pidfd);
    other = sleeper; /* the last of `child` but two */
    CHECK(other.wait().pid == sleeper.pid());
}

static void groups()
{
    exit_bus::bus bus;
    exit_bus::subscription ends(bus, exit_bus::container("job"));
    auto job = exit_bus::group::of_set(bus, "job");
    auto member = exit_bus::process::run(bus, {"sleep", "1000"});
    job.add(member);
    job.end(SIGTERM, 1h);
    CHECK(job.wait().kind == EXITBUS_EVENT_EMPTY);
    CHECK(member.wait().status == SIGTERM);
    CHECK(ends.receive()->container() == "job");
    fails_with(std::errc::invalid_argument,
               [&] { exit_bus::group::of_cgroup(bus, "job", STDIN_FILENO); });
}

static void tasks()
{
    exit_bus::bus bus;
    exit_bus::subscription events(bus, exit_bus::container("web"));
    exit_bus::task task(bus, "web");
    auto leader = task.reserve();
    auto probe = task.reserve("probe"), never = task.reserve("never");
    auto sleeper = exit_bus::process::run(bus, {"sleep", "1000"});
    auto short_lived = exit_bus::process::run(bus, {"sh", "-c", "exit 4"});
    leader->started(sleeper.pid());
    short_lived.wait();
    probe->started(short_lived.pid());
    CHECK(probe->wait().exit_code == 4);
    CHECK(!never->signal(SIGTERM));
    never->cancel();
    fails_with(std::errc::operation_canceled, [&] { never->wait(); });
    CHECK(task.end(SIGKILL, 0s));
    CHECK(leader->wait().status == SIGKILL);
    CHECK(!task.reserve("late"));
    static const int kinds[] = {EXITBUS_EVENT_STARTED, EXITBUS_EVENT_STARTED, EXITBUS_EVENT_EXEC,
                                EXITBUS_EVENT_LEADER_DIED, EXITBUS_EVENT_EXEC};
    for (int kind : kinds)
        CHECK(events.receive()->kind == kind);
}

static void reapers()
{
    exit_bus::bus bus;
    exit_bus::subscription exits(bus, exit_bus::any_pid());
    {
        exit_bus::reaper reaper(bus, EXITBUS_REAPER_ALL,
                                EXITBUS_REAPER_POLLED | EXITBUS_REAPER_DETAILS);
        pid_t child = fork();
        if (child == 0)
            _exit(9);
        std::optional<event> exit;
        while (!(exit = exits.try_receive())) {
            pollfd readable{reaper.fd(), POLLIN, 0};
            poll(&readable, 1, -1); /* SIGCHLD may end it */
            CHECK(reaper.poll() >= 0);
        }
        CHECK(exit->pid == child && exit->exit_code == 9);
        CHECK(!exit->details() || exit->details()->start_ns > 0);
        fails_with(std::errc::device_or_resource_busy, [&] { exit_bus::reaper second(bus); });
        reaper.stop();
    }
    exit_bus::reaper again(bus); /* the mode is free once more */
}

int main()
{
    static const struct {
        const char *name;
        void (*run)();
    } tests[] = {{"publish_and_receive", publish_and_receive},
                 {"batches", batches},
                 {"errors_are_exceptions", errors_are_exceptions},
                 {"a_closed_subscription_ends_the_loop", a_closed_subscription_ends_the_loop},
                 {"handles_move", handles_move},
                 {"processes", processes},
                 {"groups", groups},
                 {"tasks", tasks},
                 {"reapers", reapers}};
    for (const auto &test : tests) {
        test.run();
        std::printf("passed: %s\n", test.name);
    }
}
