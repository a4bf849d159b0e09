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

#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

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

/* ------------------------------------------------------------------------- a process that is
 * killed */

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

/* ------------------------------------------------------------------------------- once, and not
 * twice */

static _Atomic bool no_memory;

static void *allocate(void *context, size_t size, size_t alignment)
{
    (void)context;
    return atomic_load(&no_memory) ? NULL : aligned_alloc(alignment, size);
}

static void release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

static struct exitbus *bus_without_memory(struct exitbus_subscription **all)
{
    struct exitbus_allocator allocator = {.allocate = allocate, .release = release};
    struct exitbus_options options = {.allocator = &allocator};
    struct exitbus *bus;
    atomic_store(&no_memory, false);
    must_equal(exitbus_create(&bus, &options), 0);
    *all = subscribe(bus, exitbus_topic_any_pid());
    return bus;
}

static void fill(struct exitbus *bus)
{
    atomic_store(&no_memory, true);
    while (exitbus_publish_pid(bus, 1, 0) == 0)
        continue;
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
    fill(bus);
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
    fill(bus);
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
    end(bus, reaper, all);
    close(fd);
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

/* ------------------------------------------------------------------------------- files that are
 * read */

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

/* -------------------------------------------------------------------------------------- the rest
 */

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
    check_equal(exitbus_record_read(fds[0], &offset, &event), -ESPIPE);
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
