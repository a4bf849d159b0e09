/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The exit record: what a reaper has told is in the file, once, whatever becomes of the process and
 * of the file; and what can't be written is not told yet.
 */
#include "base/probe.h"
#include "base/sys.h"
#include "support/children.h"
#include "support/harness.h"
#include "support/refuse.h"
#include "support/starve.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ENTRY 128

/* An empty file that only grows. */
static int file_new(void)
{
    int fd = memfd_create("record", MFD_CLOEXEC);
    must(fd >= 0);
    must_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    return fd;
}

static off_t size_of(int fd)
{
    struct stat status;
    must_equal(fstat(fd, &status), 0);
    return status.st_size;
}

static int start(struct exitbus *bus, enum exitbus_reaper_mode mode, uint32_t flags, int fd,
                 struct exitbus_reaper **reaper)
{
    struct exitbus_reaper_options options = {
        .mode = mode, .flags = flags | EXITBUS_REAPER_RECORD, .record_fd = fd};
    return exitbus_reaper_start(bus, &options, reaper);
}

static struct exitbus_reaper *recorder(struct exitbus *bus, enum exitbus_reaper_mode mode,
                                       uint32_t flags, int fd)
{
    struct exitbus_reaper *reaper;
    must_equal(start(bus, mode, flags, fd, &reaper), 0);
    return reaper;
}

static void end(struct exitbus *bus, struct exitbus_reaper *reaper,
                struct exitbus_subscription *subscription)
{
    check_ok(exitbus_unsubscribe(subscription));
    check_ok(exitbus_reaper_stop(reaper));
    check_ok(exitbus_destroy(bus));
}

static struct exitbus_event next_of(int fd, uint64_t *offset)
{
    struct exitbus_event event;
    must_equal(exitbus_record_read(fd, offset, &event), 0);
    return event;
}

/* Returns what a read says that gives no event. */
static int rest_of(int fd, uint64_t *offset)
{
    struct exitbus_event event;
    int result = exitbus_record_read(fd, offset, &event);
    must(result < 0);
    return result;
}

/* The same event, but for its place in the order. */
static bool same(const struct exitbus_event *a, const struct exitbus_event *b)
{
    struct exitbus_event_details mine = {0}, others = {0};
    int result = exitbus_event_details(a, &mine);
    return memcmp(&a->pid, &b->pid, 56) == 0 && result == exitbus_event_details(b, &others) &&
           memcmp(&mine, &others, sizeof mine) == 0;
}

/* What is told is what is in the file, in that order. */
static void told_and_recorded(enum exitbus_reaper_mode mode, uint32_t flags)
{
    enum { COUNT = 40 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    unsigned fds = open_fds();
    struct exitbus_reaper *reaper = recorder(bus, mode, flags, fd);
    uint64_t offset = 0;
    check_equal(rest_of(fd, &offset), -ENODATA);
    for (int i = 0; i < COUNT; i++) {
        char text[12];
        snprintf(text, sizeof text, i % 3 ? "%d" : "k9", i);
        spawn_tiny(bus, text, NULL);
    }
    for (int i = 0; i < COUNT; i++) {
        struct exitbus_event event, recorded;
        while (exitbus_receive(all, &event, flags & EXITBUS_REAPER_POLLED ? 0 : -1) == -EAGAIN)
            must(exitbus_reaper_poll(reaper) >= 0);
        recorded = next_of(fd, &offset); /* it is there before the event */
        check(same(&event, &recorded));
        check_equal(recorded.seq, 0);
        check_equal(recorded.flags, EXITBUS_EVENT_DETAILS);
        check_equal(offset, (uint64_t)(i + 1) * ENTRY);
    }
    check_equal(rest_of(fd, &offset), -ENODATA);
    check_equal(size_of(fd), COUNT * ENTRY);
    end(bus, reaper, all);
    await(open_fds() == fds);
    close(fd);
}

TEST(record, what_is_told_is_in_the_file)
{
    told_and_recorded(EXITBUS_REAPER_WATCHED, 0);
    told_and_recorded(EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED);
    told_and_recorded(EXITBUS_REAPER_ALL, 0);
    told_and_recorded(EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED);
}

/* Until it is stopped; and a child that another waiter has reaped is there, too. */
TEST(record, until_the_stop)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    struct exitbus_reaper *reaper =
        recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(3);
    struct exitbus_event event, recorded;
    uint64_t offset = 0;
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    child_end(child);
    must_equal(waitpid(child.pid, NULL, 0), child.pid);
    while (exitbus_receive(all, &event, 0) == -EAGAIN)
        must(exitbus_reaper_poll(reaper) >= 0);
    recorded = next_of(fd, &offset);
    check(same(&event, &recorded));
    check(!(event.flags & EXITBUS_EVENT_DETAILS));
    pid_t pid = spawn_tiny(bus, "0", NULL);
    check_ok(exitbus_reaper_stop(reaper)); /* the bus's own takes over */
    check_equal(receive_pid(all, pid).exit_code, 0);
    check_equal(rest_of(fd, &offset), -ENODATA);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
    close(fd);
}

/* --------------------------------------------------------------------- a process that is killed */

static enum probe killed_at;
static int record_fd;

static void be_killed(enum probe step)
{
    if (step == killed_at)
        raise(SIGKILL);
}

/* A shim that is killed while it collects an exit with code 77. */
static void collect_and_be_killed(void)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper =
        recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, record_fd);
    __atomic_store_n(&exitbus_probe_hook, be_killed, __ATOMIC_RELEASE);
    spawn_tiny(bus, "77", NULL);
    for (;;)
        must(exitbus_reaper_poll(reaper) >= 0);
}

/* An exit that may have been told, or reaped, is in the file. */
TEST(record, killed_behind_the_publish)
{
    static const enum probe steps[] = {PROBE_REAPER_PUBLISHED, PROBE_REAPER_REAPED};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        uint64_t offset = 0;
        record_fd = file_new();
        killed_at = steps[i];
        int status = in_a_child(collect_and_be_killed);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct exitbus_event event = next_of(record_fd, &offset);
        check_equal(event.exit_code, 77);
        check_equal(rest_of(record_fd, &offset), -ENODATA);
        close(record_fd);
    }
}

/* --------------------------------------------------------------------- once, and not twice */

static struct exitbus *bus_without_memory(struct exitbus_subscription **all)
{
    struct exitbus *bus = bus_that_starves();
    *all = subscribe(bus, exitbus_topic_any_pid());
    return bus;
}

/* Look five times, and once more when the timer asks for it. */
static void try_in_vain(struct exitbus_reaper *reaper, pid_t pid)
{
    struct pollfd polled = {exitbus_reaper_fd(reaper), POLLIN, 0};
    for (int i = 0; i < 5; i++) {
        must(poll(&polled, 1, -1) == 1 || errno == EINTR);
        check_equal(exitbus_reaper_poll(reaper), 0);
        check(is_zombie(pid));
    }
}

static void collect(struct exitbus_reaper *reaper, pid_t pid)
{
    struct pollfd polled = {exitbus_reaper_fd(reaper), POLLIN, 0};
    while (!is_gone(pid)) {
        must(poll(&polled, 1, -1) == 1 || errno == EINTR);
        must(exitbus_reaper_poll(reaper) >= 0);
    }
}

/*
 * A publish that fails comes behind the write. The next attempt writes nothing; the next reaper
 * does, since it can't know; the reader knows.
 */
static void once(enum exitbus_reaper_mode mode, bool other_reaper)
{
    struct exitbus_subscription *all;
    struct exitbus *bus = bus_without_memory(&all);
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, mode, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(66);
    uint64_t offset = 0;
    if (mode == EXITBUS_REAPER_WATCHED)
        check_ok(exitbus_reaper_watch(reaper, child.pid));
    starve(bus);
    child_end(child);
    await(is_zombie(child.pid));
    try_in_vain(reaper, child.pid);
    check_equal(size_of(fd), ENTRY);
    atomic_store(&no_memory, false);
    if (other_reaper) {
        check_ok(exitbus_reaper_stop(reaper));
        reaper = recorder(bus, mode, EXITBUS_REAPER_POLLED, fd);
        if (mode == EXITBUS_REAPER_WATCHED)
            check_ok(exitbus_reaper_watch(reaper, child.pid));
    }
    collect(reaper, child.pid);
    check_equal(size_of(fd), other_reaper ? 2 * ENTRY : ENTRY);
    struct exitbus_event event = next_of(fd, &offset);
    check_equal(event.pid, child.pid);
    check_equal(event.exit_code, 66);
    check_equal(rest_of(fd, &offset), -ENODATA);
    check_equal(offset, (uint64_t)size_of(fd));
    end(bus, reaper, all);
    close(fd);
}

TEST(record, written_once_where_memory_lacks)
{
    once(EXITBUS_REAPER_WATCHED, false);
    once(EXITBUS_REAPER_ALL, false);
}

TEST(record, told_once_where_two_have_written)
{
    once(EXITBUS_REAPER_WATCHED, true);
    once(EXITBUS_REAPER_ALL, true);
}

#define TICK_US 10000 /* of start times: a nap of two divides processes by their age */

/* Returns whether a reader looks for an earlier entry of what the last entry tells. */
static bool is_marked(int fd)
{
    char entry[ENTRY];
    must_equal(pread(fd, entry, ENTRY, size_of(fd) - ENTRY), ENTRY);
    return entry[112] & 1;
}

static void watch_and_collect(struct exitbus_reaper *reaper, struct child child)
{
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    child_end(child);
    collect(reaper, child.pid);
}

static long failing_number;
static _Atomic int failing_from, failing_result, failed;

static int fail_call(long number)
{
    if (number != failing_number || atomic_load(&failing_from) == 0 ||
        atomic_fetch_sub(&failing_from, 1) > 1)
        return 0;
    atomic_store(&failing_from, 1);
    atomic_fetch_add(&failed, 1);
    return atomic_load(&failing_result);
}

/* Let a system call fail from its nth time on; 0: no more. */
static void fail_from(long number, int nth, int result)
{
    failing_number = number;
    atomic_store(&failed, 0);
    atomic_store(&failing_result, result);
    atomic_store(&failing_from, nth);
    __atomic_store_n(&exitbus_test_syscall, nth > 0 ? fail_call : NULL, __ATOMIC_RELEASE);
}

/* More wait for memory than the journal keeps in mind. */
TEST(record, a_crowd_is_told_once)
{
    enum { CROWD = 100 };
    struct exitbus_subscription *all;
    struct exitbus *bus = bus_without_memory(&all);
    int fd = file_new();
    struct exitbus_reaper *reaper =
        recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, fd);
    pid_t pids[CROWD];
    uint64_t offset = 0;
    for (int i = 0; i < CROWD; i++) {
        struct child child = child_fork(1);
        child_end(child);
        pids[i] = child.pid;
        check_ok(exitbus_reaper_watch(reaper, child.pid));
    }
    for (int i = 0; i < CROWD; i++)
        await(is_zombie(pids[i]));
    starve(bus);
    try_in_vain(reaper, pids[0]);
    check(size_of(fd) > CROWD * ENTRY);
    atomic_store(&no_memory, false);
    for (int i = 0; i < CROWD; i++)
        collect(reaper, pids[i]);
    int seen[CROWD] = {0};
    for (int i = 0; i < CROWD; i++) {
        struct exitbus_event event = next_of(fd, &offset);
        for (int at = 0; at < CROWD; at++)
            seen[at] += event.pid == pids[at];
    }
    for (int i = 0; i < CROWD; i++)
        check_equal(seen[i], 1);
    check_equal(rest_of(fd, &offset), -ENODATA);
    check(is_marked(fd));
    usleep(2 * TICK_US);
    watch_and_collect(reaper, child_fork(2)); /* and the crowd is forgotten */
    check(!is_marked(fd));
    end(bus, reaper, all);
    close(fd);
}

/* A write that was said to have failed, and whose bytes are in the file. */
TEST(record, told_once_where_a_write_has_lied)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    struct exitbus_reaper *reaper =
        recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(66);
    char bytes[ENTRY];
    uint64_t offset = 0;
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    child_end(child);
    await(is_zombie(child.pid));
    fail_from(SYS_write, 1, -EIO);
    while (atomic_load(&failed) == 0)
        check_equal(exitbus_reaper_poll(reaper), 0);
    int other = file_new(); /* has what that write would have written */
    struct exitbus *other_bus = bus_new();
    struct exitbus_subscription *other_all = subscribe(other_bus, exitbus_topic_any_pid());
    struct exitbus_reaper *other_reaper =
        recorder(other_bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, other);
    fail_from(0, 0, 0);
    check_ok(exitbus_reaper_watch(other_reaper, child.pid));
    collect(other_reaper, child.pid);
    must_equal(pread(other, bytes, ENTRY, 0), ENTRY);
    must_equal(write(fd, bytes, ENTRY), ENTRY);
    while (size_of(fd) < 2 * ENTRY) /* told as one that another waiter has reaped */
        must(exitbus_reaper_poll(reaper) >= 0);
    check_equal(next_of(fd, &offset).exit_code, 66);
    check(is_marked(fd));
    end(other_bus, other_reaper, other_all);
    end(bus, reaper, all);
    close(fd);
    close(other);
}

/* Both have opened the file when it was empty. The child comes to the second with what it has. */
TEST(record, told_once_where_a_child_passes_on)
{
    struct exitbus_subscription *all, *other_all;
    struct exitbus *bus = bus_without_memory(&all), *other_bus = bus_new();
    int fd = file_new();
    struct exitbus_reaper *first = recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, fd);
    struct exitbus_reaper *second =
        recorder(other_bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, fd);
    uint64_t offset = 0;
    usleep(2 * TICK_US);
    struct child child = child_fork(42);
    other_all = subscribe(other_bus, exitbus_topic_any_pid());
    check_ok(exitbus_reaper_watch(first, child.pid));
    starve(bus);
    child_end(child);
    await(is_zombie(child.pid));
    try_in_vain(first, child.pid);
    check_ok(exitbus_reaper_stop(first));
    watch_and_collect(second, child);
    check_equal(size_of(fd), 2 * ENTRY);
    check_equal(next_of(fd, &offset).exit_code, 42);
    check_equal(rest_of(fd, &offset), -ENODATA);
    usleep(2 * TICK_US);
    watch_and_collect(second, child_fork(43)); /* which can't have been the first's */
    check(!is_marked(fd));
    check_equal(next_of(fd, &offset).exit_code, 43);
    atomic_store(&no_memory, false);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
    end(other_bus, second, other_all);
    close(fd);
}

/* Another waiter takes a child whose exit is written and not told: it is told without details. */
TEST(record, taken_behind_the_write)
{
    struct exitbus_subscription *all;
    struct exitbus *bus = bus_without_memory(&all);
    int fd = file_new();
    struct exitbus_reaper *reaper =
        recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(5);
    struct exitbus_event event = {0};
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    starve(bus);
    child_end(child);
    await(is_zombie(child.pid));
    try_in_vain(reaper, child.pid);
    must_equal(waitpid(child.pid, NULL, 0), child.pid);
    atomic_store(&no_memory, false);
    while (event.pid != child.pid)
        if (exitbus_receive(all, &event, 0) == -EAGAIN)
            must(exitbus_reaper_poll(reaper) >= 0);
    check_equal(size_of(fd), ENTRY);
    end(bus, reaper, all);
    close(fd);
}

/* The pid of such a child comes again, where /proc does not tell start times. */
static void pid_again(void)
{
    struct exitbus_subscription *all;
    struct exitbus *bus = bus_without_memory(&all);
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(1);
    struct exitbus_event event;
    uint64_t offset = 0;
    starve(bus);
    child_end(child);
    await(is_zombie(child.pid));
    try_in_vain(reaper, child.pid);
    check_equal(size_of(fd), ENTRY);
    must_equal(waitpid(child.pid, NULL, 0), child.pid);
    atomic_store(&no_memory, false);
    while (exitbus_receive(all, &event, 0) == 0)
        continue;
    check_equal(exitbus_reaper_poll(reaper), 0);
    struct child again = child_with_pid(child.pid, 77);
    child_end(again);
    await(is_zombie(again.pid));
    collect(reaper, again.pid);
    check_equal(receive_pid(all, again.pid).exit_code, 77);
    check_equal(next_of(fd, &offset).exit_code, 1);
    check_equal(next_of(fd, &offset).exit_code, 77);
    end(bus, reaper, all);
    close(fd);
}

TEST(record, a_pid_again_without_a_start_time)
{
    in_a_namespace(pid_again);
}

/* -------------------------------------------------------------------------- a file that fails */

/*
 * The limit cuts the second entry off, and refuses the attempts that follow: the process lives on,
 * and the exit waits.
 */
static void no_room(enum exitbus_reaper_mode mode, bool polled)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, mode, polled ? EXITBUS_REAPER_POLLED : 0, fd);
    struct child second = child_fork(2), first = child_fork(1);
    struct exitbus_event event;
    uint64_t offset = 0;
    if (mode == EXITBUS_REAPER_WATCHED) {
        check_ok(exitbus_reaper_watch(reaper, first.pid));
        check_ok(exitbus_reaper_watch(reaper, second.pid));
    }
    struct rlimit limit, little;
    getrlimit(RLIMIT_FSIZE, &limit);
    little = (struct rlimit){ENTRY + 50, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &little);
    child_end(first);
    if (polled)
        collect(reaper, first.pid);
    check_ok(exitbus_receive(all, &event, polled ? 0 : -1));
    check_equal(event.pid, first.pid);
    child_end(second);
    if (polled)
        try_in_vain(reaper, second.pid);
    else
        await(size_of(fd) == ENTRY + 50);
    check(is_zombie(second.pid));
    check_equal(exitbus_receive(all, &event, 0), -EAGAIN);
    check_equal(next_of(fd, &offset).pid, first.pid);
    check_equal(rest_of(fd, &offset), -ENODATA);
    check_equal(offset, ENTRY);
    setrlimit(RLIMIT_FSIZE, &limit);
    if (polled)
        collect(reaper, second.pid);
    check_ok(exitbus_receive(all, &event, polled ? 0 : -1));
    check_equal(event.pid, second.pid);
    check_equal(rest_of(fd, &offset), -EBADMSG);
    check_equal(offset, ENTRY + 50);
    check_equal(next_of(fd, &offset).pid, second.pid);
    check_equal(rest_of(fd, &offset), -ENODATA);
    sigset_t pending;
    sigpending(&pending);
    check(!sigismember(&pending, SIGXFSZ));
    end(bus, reaper, all);
    close(fd);
}

TEST(record, no_room)
{
    no_room(EXITBUS_REAPER_WATCHED, false);
    no_room(EXITBUS_REAPER_WATCHED, true);
    no_room(EXITBUS_REAPER_ALL, false);
    no_room(EXITBUS_REAPER_ALL, true);
}

/* ----------------------------------------------------------------------- another file from now on
 */

/* What is told is in the file that is the reaper's when it is told, and perhaps in the old, too. */
static void go_on_with_another(enum exitbus_reaper_mode mode)
{
    struct exitbus_subscription *all;
    struct exitbus *bus = bus_without_memory(&all);
    int old = file_new(), fresh = file_new();
    unsigned fds = open_fds();
    struct exitbus_reaper *reaper = recorder(bus, mode, EXITBUS_REAPER_POLLED, old);
    struct child told = child_fork(1), waits = child_fork(2), later = child_fork(3);
    struct child children[] = {told, waits, later};
    uint64_t at_old = 0, at_fresh = 0;
    for (int i = 0; i < 3 && mode == EXITBUS_REAPER_WATCHED; i++)
        check_ok(exitbus_reaper_watch(reaper, children[i].pid));
    child_end(told);
    collect(reaper, told.pid);
    starve(bus);
    child_end(waits);
    await(is_zombie(waits.pid));
    try_in_vain(reaper, waits.pid);
    unsigned fds_before = open_fds();
    check_ok(exitbus_reaper_record(reaper, fresh));
    check_equal(open_fds(), fds_before);
    atomic_store(&no_memory, false);
    collect(reaper, waits.pid);
    child_end(later);
    collect(reaper, later.pid);
    check_equal(next_of(old, &at_old).pid, told.pid);
    check_equal(next_of(old, &at_old).pid, waits.pid);
    check_equal(rest_of(old, &at_old), -ENODATA);
    check_equal(next_of(fresh, &at_fresh).pid, waits.pid);
    check_equal(next_of(fresh, &at_fresh).pid, later.pid);
    check_equal(rest_of(fresh, &at_fresh), -ENODATA);
    end(bus, reaper, all);
    check(open_fds() <= fds);
    close(old);
    close(fresh);
}

TEST(record, another_file)
{
    go_on_with_another(EXITBUS_REAPER_WATCHED);
    go_on_with_another(EXITBUS_REAPER_ALL);
}

/* While a thread collects: each exit that is told is in one of the files. */
TEST(record, other_files_beside_a_thread)
{
    enum { COUNT = 200, FILES = 8 };
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fds[FILES], recorded = 0;
    for (int i = 0; i < FILES; i++)
        fds[i] = file_new();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_WATCHED, 0, fds[0]);
    for (int i = 0; i < COUNT; i++) {
        spawn_tiny(bus, "0", NULL);
        check_ok(exitbus_reaper_record(reaper, fds[i % FILES]));
    }
    for (int i = 0; i < COUNT; i++) {
        struct exitbus_event event;
        check_ok(exitbus_receive(all, &event, -1));
    }
    for (int i = 0; i < FILES; i++) {
        uint64_t offset = 0;
        struct exitbus_event event;
        while (exitbus_record_read(fds[i], &offset, &event) == 0)
            recorded++;
        check_equal(offset, (uint64_t)size_of(fds[i]));
        close(fds[i]);
    }
    check_equal(recorded, COUNT);
    end(bus, reaper, all);
}

/* Exits that wait for room in the old file go to the new one. */
TEST(record, another_file_has_room)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int old = file_new(), fresh = file_new();
    struct exitbus_reaper *reaper =
        recorder(bus, EXITBUS_REAPER_WATCHED, EXITBUS_REAPER_POLLED, old);
    struct child child = child_fork(1);
    struct rlimit limit;
    uint64_t offset = 0;
    must_equal(ftruncate(old, 2 * ENTRY), 0);
    check_ok(exitbus_reaper_watch(reaper, child.pid));
    getrlimit(RLIMIT_FSIZE, &limit);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){2 * ENTRY, limit.rlim_max});
    child_end(child);
    await(is_zombie(child.pid));
    try_in_vain(reaper, child.pid);
    check_ok(exitbus_reaper_record(reaper, fresh));
    collect(reaper, child.pid);
    setrlimit(RLIMIT_FSIZE, &limit);
    check_equal(next_of(fresh, &offset).pid, child.pid);
    check_equal(size_of(old), 2 * ENTRY);
    end(bus, reaper, all);
    close(old);
    close(fresh);
}

TEST(record, no_other_file)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new(), plain = memfd_create("plain", MFD_CLOEXEC);
    struct exitbus_reaper *reaper = reaper_of(bus, EXITBUS_REAPER_WATCHED, 0);
    uint64_t offset = 0;
    check_equal(exitbus_reaper_record(reaper, fd), -ENOTSUP);
    check_ok(exitbus_reaper_stop(reaper));
    reaper = recorder(bus, EXITBUS_REAPER_WATCHED, 0, fd);
    unsigned fds = open_fds();
    check_equal(exitbus_reaper_record(NULL, fd), -EINVAL);
    check_equal(exitbus_reaper_record(reaper, plain), -EINVAL);
    check_equal(exitbus_reaper_record(reaper, -1), -EBADF);
    fail_from(SYS_fcntl, 3, -EMFILE); /* behind two looks at descriptors */
    check_equal(exitbus_reaper_record(reaper, fd), -EMFILE);
    fail_from(0, 0, 0);
    check_equal(open_fds(), fds);
    pid_t pid = spawn_tiny(bus, "9", NULL); /* it goes on with the old one */
    receive_pid(all, pid);
    check_equal(next_of(fd, &offset).pid, pid);
    end(bus, reaper, all);
    close(fd);
    close(plain);
}

/* ------------------------------------------------------------------- a descriptor that is not ours
 */

/* A descriptor of that file which is not the test's. */
static int find_copy(int fd)
{
    struct stat mine, other;
    must_equal(fstat(fd, &mine), 0);
    for (int copy = fd + 1; copy < 1024; copy++)
        if (fstat(copy, &other) == 0 && other.st_ino == mine.st_ino && other.st_dev == mine.st_dev)
            return copy;
    return -1;
}

/* The host closes what is not its own: nothing is told that is not written. */
TEST(record, closed_by_the_host)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(1);
    check_ok(close(find_copy(fd)));
    child_end(child);
    await(is_zombie(child.pid));
    int result;
    while ((result = exitbus_reaper_poll(reaper)) == 0)
        continue;
    check_equal(result, -EBADF);
    check(is_zombie(child.pid));
    check_equal(exitbus_subscription_pending(all), 0);
    check_equal(exitbus_reaper_stop(reaper), -EBADF);
    reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    check_equal(exitbus_reaper_poll(reaper), 1);
    end(bus, reaper, all);
    close(fd);
}

/* A file under the number of the reaper's copy, which is not the reaper's. */
static void number_is(int (*make)(void))
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new(), own = make();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(1);
    struct stat before, after;
    int copy = find_copy(fd), result;
    must_equal(dup2(own, copy), copy);
    must_equal(fstat(copy, &before), 0);
    child_end(child);
    await(is_zombie(child.pid));
    while ((result = exitbus_reaper_poll(reaper)) == 0)
        continue;
    check_equal(result, -EBADF);
    check(is_zombie(child.pid));
    check_equal(exitbus_subscription_pending(all), 0);
    check_equal(exitbus_reaper_stop(reaper), -EBADF);
    check_ok(fstat(copy, &after)); /* the host's is left open, and as it was */
    check_equal(after.st_ino, before.st_ino);
    check_equal(after.st_size, before.st_size);
    check_equal(size_of(fd), 0);
    close(copy);
    reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    check_equal(exitbus_reaper_poll(reaper), 1);
    end(bus, reaper, all);
    close(fd);
    close(own);
}

static int plain_file(void)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    must_equal(write(fd, "the host's", 10), 10);
    return fd;
}

static int record_of_another(void)
{
    int fd = file_new();
    must_equal(write(fd, "the host's", 10), 10);
    return fd;
}

static int full_pipe(void)
{
    int fds[2];
    char bytes[4096] = {0};
    must_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(fds[1], bytes, sizeof bytes) > 0)
        continue;
    must_equal(fcntl(fds[1], F_SETFL, O_APPEND), 0);
    return fds[1];
}

static int pipe_without_reader(void)
{
    int fds[2];
    must_equal(pipe2(fds, O_CLOEXEC), 0);
    must_equal(fcntl(fds[1], F_SETFL, O_APPEND), 0);
    close(fds[0]);
    return fds[1];
}

TEST(record, number_of_another_file)
{
    alarm(30); /* a write would wait */
    number_is(plain_file);
    number_is(record_of_another);
    number_is(full_pipe);
    number_is(pipe_without_reader);
}

/* So that nothing is written over: the file is common to all its descriptors. */
TEST(record, does_not_append_any_more)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    unsigned fds = open_fds();
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(1);
    int result;
    must_equal(fcntl(fd, F_SETFL, 0), 0);
    child_end(child);
    await(is_zombie(child.pid));
    while ((result = exitbus_reaper_poll(reaper)) == 0)
        continue;
    check_equal(result, -EBADF);
    check(is_zombie(child.pid));
    check_equal(size_of(fd), 0);
    check_equal(exitbus_reaper_stop(reaper), -EBADF);
    must_equal(waitpid(child.pid, NULL, 0), child.pid);
    close(fd);
    check_equal(open_fds(), fds);
    check_ok(exitbus_unsubscribe(all));
    check_ok(exitbus_destroy(bus));
}

/* What the host has blocked and not taken is the host's. */
TEST(record, a_signal_of_the_hosts_own)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_ALL, EXITBUS_REAPER_POLLED, fd);
    struct child child = child_fork(1);
    struct rlimit limit;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    getrlimit(RLIMIT_FSIZE, &limit);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){0, limit.rlim_max});
    child_end(child);
    await(is_zombie(child.pid));
    try_in_vain(reaper, child.pid);
    sigpending(&set);
    check(!sigismember(&set, SIGXFSZ));
    raise(SIGXFSZ);
    try_in_vain(reaper, child.pid);
    sigpending(&set);
    check(sigismember(&set, SIGXFSZ));
    setrlimit(RLIMIT_FSIZE, &limit);
    collect(reaper, child.pid);
    end(bus, reaper, all);
    close(fd);
}

/* A race with a host that closes our descriptor is left: such a write raises nothing either. */
TEST(record, an_append_raises_nothing)
{
    int fd = pipe_without_reader();
    check_equal(sys_append(fd, "", 1), -EPIPE);
    close(fd);
}

/* ------------------------------------------------------------------------- files that are read */

/* A file with exits of this boot, with codes from 1 on. */
static int file_with(int count)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    struct exitbus_reaper *reaper = recorder(bus, EXITBUS_REAPER_WATCHED, 0, fd);
    for (int code = 1; code <= count; code++) {
        char text[12];
        snprintf(text, sizeof text, "%d", code);
        receive_pid(all, spawn_tiny(bus, text, NULL));
    }
    end(bus, reaper, all);
    return fd;
}

static int file_of(const char *bytes, size_t size)
{
    int fd = file_new();
    must_equal(write(fd, bytes, size), (ssize_t)size);
    return fd;
}

/* Whichever byte is wrong, the others' exits are told, and that something is missing. */
TEST(record, damaged_anywhere)
{
    char bytes[3 * ENTRY];
    int fd = file_with(3);
    must_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    for (size_t at = 0; at < sizeof bytes; at++) {
        bytes[at] ^= (char)(1 << at % 8);
        int damaged = file_of(bytes, sizeof bytes);
        uint64_t offset = 0;
        for (int code = 1; code <= 3; code++)
            if (at / ENTRY == (size_t)code - 1)
                check_equal(rest_of(damaged, &offset), -EBADMSG);
            else
                check_equal(next_of(damaged, &offset).exit_code, code);
        check_equal(rest_of(damaged, &offset), -ENODATA);
        close(damaged);
        bytes[at] ^= (char)(1 << at % 8);
    }
    close(fd);
}

/* An entry that is cut off, with nothing behind it or another; and with rubbish before it. */
TEST(record, cut_off_anywhere)
{
    char bytes[2 * ENTRY], rubbish[5000] = "exitbus\1exitbus\1exitbu";
    int fd = file_with(2);
    must_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    for (size_t size = 0; size < ENTRY; size++) {
        uint64_t offset = 0;
        int cut = file_of(bytes, size);
        check_equal(rest_of(cut, &offset), -ENODATA);
        check_equal(offset, 0);
        must_equal(write(cut, bytes + ENTRY, ENTRY), ENTRY);
        if (size > 0)
            check_equal(rest_of(cut, &offset), -EBADMSG);
        check_equal(next_of(cut, &offset).exit_code, 2);
        check_equal(rest_of(cut, &offset), -ENODATA);
        must_equal(write(cut, bytes, ENTRY), ENTRY); /* while it is read */
        check_equal(next_of(cut, &offset).exit_code, 1);
        check_equal(rest_of(cut, &offset), -ENODATA);
        close(cut);
    }
    for (size_t size = sizeof rubbish - 2 * ENTRY; size < sizeof rubbish; size++) {
        uint64_t offset = 0;
        int after = file_of(rubbish, size);
        check_equal(rest_of(after, &offset), -EBADMSG);
        check_equal(rest_of(after, &offset), -ENODATA);
        must_equal(write(after, bytes, ENTRY), ENTRY);
        check_equal(rest_of(after, &offset), -EBADMSG);
        check_equal(offset, size);
        check_equal(next_of(after, &offset).exit_code, 1);
        check_equal(rest_of(after, &offset), -ENODATA);
        close(after);
    }
    close(fd);
}

/* The checksum as the file has it, in the second word: FNV-1a over what follows. */
static void seal(char *entry)
{
    uint64_t value = 0xcbf29ce484222325;
    for (size_t i = 16; i < ENTRY; i++)
        value = (value ^ (unsigned char)entry[i]) * 0x100000001b3;
    memcpy(entry + 8, &value, sizeof value);
}

/* Its processes are not of this boot, and their pids may be others' now. */
TEST(record, of_an_earlier_boot)
{
    char bytes[2 * ENTRY];
    int fd = file_with(2);
    uint64_t offset = 0;
    must_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    bytes[16] ^= 1;
    seal(bytes);
    int earlier = file_of(bytes, sizeof bytes);
    check_equal(next_of(earlier, &offset).exit_code, 2);
    check_equal(rest_of(earlier, &offset), -ENODATA);
    close(earlier);
    close(fd);
}

/* Which boot it is can't be told for the moment: nothing is given that may be of an earlier one. */
TEST(record, no_descriptor_to_tell_the_boot)
{
    static const int errors[] = {-EMFILE, -ENFILE, -ENOMEM};
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper;
    struct exitbus_event event;
    char bytes[ENTRY];
    int fd = file_with(1);
    must_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    bytes[16] ^= 1;
    seal(bytes);
    int earlier = file_of(bytes, sizeof bytes);
    unsigned fds = open_fds();
    uint64_t offset = 0;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        fail_from(SYS_openat, 1, errors[i]);
        check_equal(exitbus_record_read(earlier, &offset, &event), errors[i]);
        check_equal(offset, 0);
        check_equal(start(bus, EXITBUS_REAPER_WATCHED, 0, fd, &reaper), errors[i]);
        check_equal(open_fds(), fds);
    }
    fail_from(SYS_openat, 1, -ENOENT); /* there is no /proc: all are given */
    check_ok(exitbus_record_read(earlier, &offset, &event));
    check_ok(start(bus, EXITBUS_REAPER_WATCHED, 0, fd, &reaper));
    fail_from(0, 0, 0);
    check_ok(exitbus_reaper_stop(reaper));
    close(earlier);
    close(fd);
    check_ok(exitbus_destroy(bus));
}

/* The look for an earlier entry fails: that is no proof that there is none. */
TEST(record, a_look_back_that_fails)
{
    char bytes[2 * ENTRY];
    int fd = file_with(1);
    struct exitbus_event event;
    uint64_t offset = ENTRY;
    must_equal(pread(fd, bytes, ENTRY, 0), ENTRY);
    memcpy(bytes + ENTRY, bytes, ENTRY);
    bytes[ENTRY + 112] |= 1;
    seal(bytes + ENTRY);
    int twice = file_of(bytes, sizeof bytes);
    fail_from(SYS_pread64, 2, -EIO);
    check_equal(exitbus_record_read(twice, &offset, &event), -EIO);
    check_equal(offset, ENTRY);
    fail_from(0, 0, 0);
    check_equal(rest_of(twice, &offset), -ENODATA);
    check_equal(offset, 2 * ENTRY);
    bytes[ENTRY + 32] ^= 1; /* another inode: another process */
    seal(bytes + ENTRY);
    int others = file_of(bytes, sizeof bytes);
    offset = ENTRY;
    uint64_t inode;
    memcpy(&inode, bytes + 32, sizeof inode);
    if (inode > 1)
        check_ok(exitbus_record_read(others, &offset, &event));
    close(others);
    close(twice);
    close(fd);
}

/* A call looks through 1 MiB without an entry, and comes back. */
TEST(record, a_hole)
{
    enum { MIB = 1 << 20, MIBS = 5 };
    char bytes[ENTRY];
    int fd = file_with(1), hole = file_new();
    uint64_t offset = 0;
    must_equal(pread(fd, bytes, ENTRY, 0), ENTRY);
    must_equal(ftruncate(hole, (off_t)MIBS * MIB), 0);
    must_equal(write(hole, bytes, ENTRY), ENTRY);
    for (int i = 1; i <= MIBS; i++) {
        check_equal(rest_of(hole, &offset), -EBADMSG);
        check_equal(offset, (uint64_t)i * MIB);
    }
    check_equal(next_of(hole, &offset).exit_code, 1);
    check_equal(rest_of(hole, &offset), -ENODATA);
    close(hole);
    close(fd);
}

/* What no reaper has written is no event: the first of the words is the pid. */
TEST(record, an_entry_that_no_reaper_has_written)
{
    char bytes[ENTRY];
    int fd = file_with(1);
    uint64_t offset = 0;
    must_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    memset(bytes + 56, 0, 4);
    seal(bytes);
    int forged = file_of(bytes, sizeof bytes);
    check_equal(rest_of(forged, &offset), -EBADMSG);
    check_equal(rest_of(forged, &offset), -ENODATA);
    close(forged);
    close(fd);
}

/* ------------------------------------------------------------------------------------ the rest */

/* A thread that collects by itself would not record it. */
TEST(record, no_direct_waits_beside_it)
{
    struct exitbus *bus = bus_new();
    struct exitbus_subscription *all = subscribe(bus, exitbus_topic_any_pid());
    int fd = file_new();
    char *argv[] = {TINY_CHILD, "5", NULL};
    struct exitbus_spawn_options options = {.argv = argv, .flags = EXITBUS_SPAWN_DIRECT};
    struct exitbus_process *process;
    struct exitbus_reaper *reaper;
    struct exitbus_event event;
    uint64_t offset = 0;
    check_ok(exitbus_process_spawn(bus, &options, &process));
    check_equal(start(bus, EXITBUS_REAPER_WATCHED, 0, fd, &reaper), -EBUSY);
    check_ok(exitbus_process_wait(process, &event, -1));
    check_ok(exitbus_process_unref(process));
    check_ok(start(bus, EXITBUS_REAPER_WATCHED, 0, fd, &reaper));
    check_ok(exitbus_process_spawn(bus, &options, &process));
    check_ok(exitbus_process_wait(process, &event, -1));
    check_equal(next_of(fd, &offset).pid, event.pid);
    check_ok(exitbus_process_unref(process));
    end(bus, reaper, all);
    close(fd);
}

TEST(record, bad_files)
{
    struct exitbus *bus = bus_new();
    struct exitbus_reaper *reaper = NULL;
    struct exitbus_event event;
    int fd = file_new(), plain = memfd_create("plain", MFD_CLOEXEC), fds[2];
    unsigned open_before = open_fds();
    check_equal(start(bus, EXITBUS_REAPER_ALL, 0, -1, &reaper), -EBADF);
    check_equal(start(bus, EXITBUS_REAPER_ALL, 0, 1000, &reaper), -EBADF);
    check_equal(start(bus, EXITBUS_REAPER_ALL, 0, plain, &reaper), -EINVAL);
    int reading = open("/proc/self/exe", O_RDONLY | O_APPEND | O_CLOEXEC);
    check_equal(start(bus, EXITBUS_REAPER_ALL, 0, reading, &reaper), -EINVAL);
    close(reading);
    must_equal(pipe2(fds, O_CLOEXEC), 0);
    must_equal(fcntl(fds[1], F_SETFL, O_APPEND), 0);
    check_equal(start(bus, EXITBUS_REAPER_ALL, 0, fds[1], &reaper), -EINVAL);
    uint64_t offset = 0;
    check_equal(exitbus_record_read(fds[0], &offset, &event), -EINVAL);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    alarm(30);
    check_equal(exitbus_record_read(zero, &offset, &event), -EINVAL);
    close(zero);
    close(fds[0]);
    close(fds[1]);
    check(!reaper);
    check_equal(open_fds(), open_before);
    check_equal(exitbus_record_read(-1, &offset, &event), -EBADF);
    check_equal(exitbus_record_read(fd, NULL, &event), -EINVAL);
    check_equal(exitbus_record_read(fd, &offset, NULL), -EINVAL);
    for (uint64_t below = 1; below <= 2 * ENTRY; below++) {
        offset = -below; /* of which a sum may be small */
        check_equal(exitbus_record_read(fd, &offset, &event), -EINVAL);
    }
    close(fd);
    close(plain);
    check_ok(exitbus_destroy(bus));
}
