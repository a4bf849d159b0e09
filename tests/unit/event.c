/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events as they travel: what goes into a record comes out of it, what may not go in is refused. */
#include "event/event.h"
#include "support/events.h"
#include "support/harness.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

/* As a receiver reads a record: the fixed part, then the ids. */
static struct exitbus_event decode(const struct record *record)
{
    struct exitbus_event event;
    memset((void *)&event, 0xee, sizeof event);
    memcpy((char *)&event + 8, record->words, CELL_PAYLOAD);
    if (record_cells(record->words[0]) > 1) {
        event_decode_ids(&event, record->words + CELL_WORDS);
    } else {
        event.container_id[0] = '\0';
        event.exec_id[0] = '\0';
    }
    return event;
}

static struct exitbus_event through_record(const struct exitbus_event *event)
{
    struct record record;
    memset(&record, 0xdd, sizeof record);
    event_encode(event, &record);
    return decode(&record);
}

TEST(event, pid_event_carries_every_field)
{
    struct exitbus_event given = full_event(EXITBUS_EVENT_PID);
    check_equal(event_check(&given), 0);
    struct exitbus_event received = through_record(&given);
    check(event_carries(&received, &given));
}

TEST(event, exec_event_carries_every_field)
{
    struct exitbus_event given = full_event(EXITBUS_EVENT_EXEC);
    check_equal(event_check(&given), 0);
    struct exitbus_event received = through_record(&given);
    check(event_carries(&received, &given));
}

TEST(event, pid_event_has_no_ids_whatever_was_in_their_place)
{
    struct exitbus_event given = full_event(EXITBUS_EVENT_PID);
    memset(given.container_id, 'x', sizeof given.container_id);
    memset(given.exec_id, 'y', sizeof given.exec_id);
    check_equal(event_check(&given), 0);
    struct record record;
    event_encode(&given, &record);
    check_equal(record_cells(record.words[0]), 1);
    given.container_id[0] = given.exec_id[0] = '\0';
    struct exitbus_event received = decode(&record);
    check(event_carries(&received, &given));
}

TEST(event, ids_of_every_size_come_through)
{
    for (size_t c = 1; c <= EXITBUS_ID_MAX; c++) {
        for (size_t e = 0; e <= EXITBUS_ID_MAX; e++) {
            struct exitbus_event given = full_event(EXITBUS_EVENT_EXEC);
            id_fill(given.container_id, c, 'a');
            id_fill(given.exec_id, e, 'A');
            check_equal(event_check(&given), 0);
            struct record record;
            event_encode(&given, &record);
            check_equal(record_cells(record.words[0]), 1 + (c + e + 55) / 56);
            struct exitbus_event received = decode(&record);
            check(event_carries(&received, &given));
            struct record_key key = record_key(&record);
            check_equal(key.kind, EXITBUS_EVENT_EXEC);
            check_equal(key.pid, given.pid);
            check(key.container_id_size == c &&
                  memcmp(key.container_id, given.container_id, c) == 0);
            check(key.exec_id_size == e && memcmp(key.exec_id, given.exec_id, e) == 0);
        }
    }
}

TEST(event, id_size_limits)
{
    char id[EXITBUS_ID_MAX + 2];
    const int sizes[] = {0, 1, 2, 126, 127};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        id_fill(id, (size_t)sizes[i], 'a');
        check_equal(event_id_size(id), sizes[i]);
    }
    id_fill(id, 128, 'a');
    check_equal(event_id_size(id), -EINVAL);
    check_equal(event_id_size(NULL), -EINVAL);
}

TEST(event, unterminated_ids_are_refused)
{
    struct exitbus_event event = full_event(EXITBUS_EVENT_EXEC);
    memset(event.container_id, 'x', sizeof event.container_id);
    check_equal(event_check(&event), -EINVAL);
    event = full_event(EXITBUS_EVENT_EXEC);
    memset(event.exec_id, 'x', sizeof event.exec_id);
    check_equal(event_check(&event), -EINVAL);
    event.exec_id[EXITBUS_ID_MAX] = '\0';
    check_equal(event_check(&event), 0);
}

TEST(event, container_id_may_not_be_empty)
{
    struct exitbus_event event = full_event(EXITBUS_EVENT_EXEC);
    event.container_id[0] = '\0';
    check_equal(event_check(&event), -EINVAL);
}

TEST(event, unknown_kinds_and_flags_are_refused)
{
    for (unsigned kind = 0; kind < 256; kind++) {
        struct exitbus_event event = full_event(EXITBUS_EVENT_EXEC);
        event.kind = (uint8_t)kind;
        bool known = kind >= EXITBUS_EVENT_PID && kind <= EXITBUS_EVENT_OOM;
        check_equal(event_check(&event), known ? 0 : -EINVAL);
    }
    for (unsigned flags = 0; flags < 256; flags++) {
        struct exitbus_event event = full_event(EXITBUS_EVENT_PID);
        event.flags = (uint8_t)flags;
        check_equal(event_check(&event), flags < 8 ? 0 : -EINVAL); /* no details are there */
    }
}

TEST(event, details_come_through)
{
    struct exitbus_event given = full_event(EXITBUS_EVENT_PID);
    struct exitbus_event_details details = {.start_ns = 1, .inode = UINT64_MAX, .comm = "a (b) c"};
    struct exitbus_event_details received_details;
    check_equal(event_details(&given, &received_details), -ENODATA);
    event_set_details(&given, &details);
    for (unsigned flags = 0; flags < 256; flags++) {
        given.flags = (uint8_t)flags;
        check_equal(event_check(&given), flags < 16 ? 0 : -EINVAL);
    }
    given.flags = EXITBUS_EVENT_CORE_DUMPED | EXITBUS_EVENT_DETAILS;
    for (int filled = 0; filled < 2; filled++) {
        struct record record;
        event_encode(&given, &record);
        check_equal(record_cells(record.words[0]), 2);
        check(record_is_pid(&record) && record_is_exit(&record));
        struct exitbus_event received = decode(&record);
        check(event_carries(&received, &given) || filled);
        check_equal(event_details(&received, &received_details), 0);
        check(memcmp(&details, &received_details, sizeof details) == 0);
        given.monotonic_ns = 0; /* a time is filled in beside them */
    }
    given.monotonic_ns = 1;
    details.start_ns = 0;
    event_set_details(&given, &details);
    check_equal(event_check(&given), -EINVAL);
    details = (struct exitbus_event_details){.start_ns = 1};
    memset(details.comm, 'x', sizeof details.comm);
    event_set_details(&given, &details);
    check_equal(event_check(&given), -EINVAL);
}

TEST(event, pid_limits)
{
    const struct {
        uint8_t kind;
        pid_t pid;
        int result;
    } cases[] = {
        {EXITBUS_EVENT_PID, 1, 0},         {EXITBUS_EVENT_PID, INT32_MAX, 0},
        {EXITBUS_EVENT_PID, 0, -EINVAL},   {EXITBUS_EVENT_PID, -1, -EINVAL},
        {EXITBUS_EVENT_EXEC, 0, 0},        {EXITBUS_EVENT_EXEC, 1, 0},
        {EXITBUS_EVENT_EXEC, -1, -EINVAL}, {EXITBUS_EVENT_EXEC, INT32_MIN, -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct exitbus_event event = full_event(cases[i].kind);
        event.pid = cases[i].pid;
        check_equal(event_check(&event), cases[i].result);
    }
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

TEST(event, times_of_zero_are_filled_in)
{
    for (uint8_t kind = EXITBUS_EVENT_PID; kind <= EXITBUS_EVENT_EXEC; kind++) {
        struct exitbus_event given = full_event(kind);
        given.monotonic_ns = given.realtime_ns = 0;
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        struct exitbus_event received = through_record(&given);
        check(received.monotonic_ns >= before);
        check(received.monotonic_ns <= clock_ns(CLOCK_MONOTONIC));
        check(received.realtime_ns != 0 && received.realtime_ns != received.monotonic_ns);
        given.monotonic_ns = received.monotonic_ns;
        given.realtime_ns = received.realtime_ns;
        check(event_carries(&received, &given));
    }
}

TEST(event, one_time_is_filled_in_without_the_other)
{
    struct exitbus_event given = full_event(EXITBUS_EVENT_PID);
    given.monotonic_ns = 0;
    struct exitbus_event received = through_record(&given);
    check_equal(received.realtime_ns, given.realtime_ns);
    check(received.monotonic_ns != 0);
    given = full_event(EXITBUS_EVENT_PID);
    given.realtime_ns = 0;
    received = through_record(&given);
    check_equal(received.monotonic_ns, given.monotonic_ns);
    check(received.realtime_ns != 0);
}

/* ------------------------------------------------------------------------------- wait statuses */

TEST(event, status_of_an_exit)
{
    for (int code = 0; code < 256; code++) {
        struct exitbus_event event = {.kind = EXITBUS_EVENT_PID};
        check(event_from_status(&event, W_EXITCODE(code, 0)));
        check_equal(event.exit_code, code);
        check_equal(event.status, W_EXITCODE(code, 0));
        check_equal(event.flags, 0);
    }
}

TEST(event, status_of_a_death_by_signal)
{
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        for (int core = 0; core <= WCOREFLAG; core += WCOREFLAG) {
            struct exitbus_event event = {.kind = EXITBUS_EVENT_PID};
            check(event_from_status(&event, signal | core));
            check_equal(event.exit_code, 128 + signal);
            check_equal(event.status, signal | core);
            check_equal(event.flags, core ? EXITBUS_EVENT_CORE_DUMPED : 0);
        }
    }
}

static void check_no_exit(int status)
{
    struct exitbus_event event = full_event(EXITBUS_EVENT_PID);
    const struct exitbus_event before = event;
    check(!event_from_status(&event, status));
    check(memcmp(&event, &before, sizeof event) == 0);
}

TEST(event, stopped_and_continued_are_no_exits)
{
    for (int signal = 1; signal <= SIGRTMAX; signal++)
        check_no_exit(W_STOPCODE(signal));
    check_no_exit(0xffff); /* continued */
}

TEST(event, statuses_as_the_kernel_gives_them)
{
    char *argv[] = {TINY_CHILD, "p", NULL};
    pid_t pid;
    check_equal(posix_spawn(&pid, TINY_CHILD, NULL, NULL, argv, NULL), 0);
    int status;
    check_equal(kill(pid, SIGSTOP), 0);
    check_equal(waitpid(pid, &status, WUNTRACED), pid);
    check_no_exit(status);
    check_equal(kill(pid, SIGCONT), 0);
    check_equal(waitpid(pid, &status, WCONTINUED), pid);
    check_no_exit(status);
    check_equal(kill(pid, SIGKILL), 0);
    check_equal(waitpid(pid, &status, 0), pid);
    struct exitbus_event event = {.kind = EXITBUS_EVENT_PID};
    check(event_from_status(&event, status));
    check_equal(event.exit_code, 137);
    check_equal(event.flags, 0);
}

/* ------------------------------------------------------------------------------------- siginfo */

TEST(event, siginfo_says_what_the_status_says)
{
    for (int code = 0; code < 256; code++) {
        siginfo_t info = {.si_code = CLD_EXITED, .si_status = code};
        struct exitbus_event event = {.kind = EXITBUS_EVENT_PID};
        check(event_from_siginfo(&event, &info));
        check_equal(event.exit_code, code);
        check_equal(event.status, W_EXITCODE(code, 0));
        check_equal(event.flags, 0);
    }
    for (int signal = 1; signal <= SIGRTMAX; signal++) {
        for (int core = 0; core < 2; core++) {
            siginfo_t info = {.si_code = core ? CLD_DUMPED : CLD_KILLED, .si_status = signal};
            struct exitbus_event event = {.kind = EXITBUS_EVENT_PID};
            check(event_from_siginfo(&event, &info));
            check_equal(event.exit_code, 128 + signal);
            check_equal(event.status, signal | (core ? WCOREFLAG : 0));
            check_equal(event.flags, core ? EXITBUS_EVENT_CORE_DUMPED : 0);
        }
    }
}

TEST(event, siginfo_of_no_exit_changes_nothing)
{
    const int codes[] = {CLD_STOPPED, CLD_CONTINUED, CLD_TRAPPED, 0};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        siginfo_t info = {.si_code = codes[i], .si_status = SIGSTOP};
        struct exitbus_event event = full_event(EXITBUS_EVENT_PID);
        const struct exitbus_event before = event;
        check(!event_from_siginfo(&event, &info));
        check(memcmp(&event, &before, sizeof event) == 0);
    }
}
