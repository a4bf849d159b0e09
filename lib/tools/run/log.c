/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Messages, and lines of JSON: see run.h.
 *
 * Why it is right
 *  1. An init must not wait for a reader of its words. So a descriptor that has no room is written
 *     nothing; for the log, the next line counts what was dropped.
 *  2. A line has at most PIPE_BUF bytes. A pipe that polls writable takes so many without waiting,
 *     and as a whole. Another writer may fill it meanwhile, and a terminal may have less room. So
 *     those are opened once more, with O_NONBLOCK: the flag is of our own description alone.
 *  3. A line is valid JSON whatever bytes a command's words have: what is no UTF-8 is written as
 *     U+FFFD, and words that do not fit end in "…".
 */
#include "tools/run/run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int say_verbosity = SAY_WARNING;

static int message_fd = STDERR_FILENO;

static bool has_room(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    bool has = poll(&ready, 1, 0) == 1 && ready.revents == POLLOUT; /* and no reader has gone */
    if (!has)
        errno = ready.revents & (POLLERR | POLLHUP) ? EPIPE : EAGAIN;
    return has;
}

bool log_write(int fd, const char *text, size_t length)
{
    if (!has_room(fd))
        return false;
    ssize_t written = send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (written < 0 && errno == ENOTSOCK)
        written = write(fd, text, length);
    return written == (ssize_t)length;
}

/* A pipe, or a terminal. The other end of a terminal is none: opening that makes another pair. */
static bool can_be_opened(int fd)
{
    struct stat status;
    unsigned number;
    if (fstat(fd, &status) < 0)
        return false;
    return S_ISFIFO(status.st_mode) ||
           (S_ISCHR(status.st_mode) && isatty(fd) && ioctl(fd, TIOCGPTN, &number) < 0);
}

int log_own(int fd)
{
    char path[32];
    if (!can_be_opened(fd))
        return fd;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return own < 0 ? fd : own;
}

void log_own_messages(void)
{
    message_fd = log_own(STDERR_FILENO);
}

void say(int level, const char *format, ...)
{
    static const char head[] = "exitbus-run: ";
    char text[1024];
    if (level > say_verbosity || !has_room(message_fd))
        return;
    memcpy(text, head, sizeof head);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + sizeof head - 1, sizeof text - sizeof head, format, arguments);
    va_end(arguments);
    size_t length = strlen(text);
    text[length++] = '\n';
    log_write(message_fd, text, length); /* if it fails, there is nobody to tell */
}

/* ---------------------------------------------------------------------------------------- lines */

#define TAIL 512 /* room that words leave to the fields behind them */

struct line {
    char text[PIPE_BUF];
    size_t length;
};

static void put(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct line *line, const char *format, ...)
{
    size_t room = sizeof line->text - line->length;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line->text + line->length, room, format, arguments);
    va_end(arguments);
    line->length += length < 0 ? 0 : (size_t)length < room ? (size_t)length : room - 1;
}

/* Returns the bytes of the UTF-8 character at `at`; 0: it is none. */
static size_t character(const unsigned char *at)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] >> 5 == 6 ? 2 : at[0] >> 4 == 14 ? 3 : 4;
    if (length == 4 && at[0] >> 3 != 30)
        return 0;
    uint32_t code = length == 1 ? at[0] : at[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (at[i] >> 6 != 2)
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool surrogate = code >= 0xd800 && code < 0xe000;
    return code < least[length] || surrogate || code > 0x10ffff ? 0 : length;
}

static void put_string(struct line *line, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    put(line, "\"");
    while (*at && line->length + TAIL < sizeof line->text) {
        size_t length = character(at);
        if (length == 0)
            put(line, "\\ufffd");
        else if (*at < 0x20 || *at == 0x7f)
            put(line, "\\u%04x", *at);
        else
            put(line, "%s%.*s", *at == '"' || *at == '\\' ? "\\" : "", (int)length,
                (const char *)at);
        at += length ? length : 1;
    }
    put(line, "%s\"", *at ? "…" : "");
}

static void put_words(struct line *line, char **words)
{
    put(line, ",\"argv\":[");
    for (char **word = words; *word; word++) {
        put(line, word == words ? "" : ",");
        put_string(line, line->length + TAIL < sizeof line->text ? *word : "…");
        if (line->length + TAIL >= sizeof line->text)
            break;
    }
    put(line, "]");
}

static void begin(struct line *line, const char *event, const struct command *command)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    line->length = 0;
    put(line, "{\"time\":%lld.%06ld,\"event\":\"%s\"", (long long)now.tv_sec, now.tv_nsec / 1000,
        event);
    if (command)
        put(line, ",\"command\":%u,\"start\":%u", command->number, command->starts);
}

static void end(struct run *run, struct line *line)
{
    if (run->log_dropped)
        put(line, ",\"dropped\":%llu", (unsigned long long)run->log_dropped);
    put(line, "}\n");
    bool written = log_write(run->log_fd, line->text, line->length);
    run->log_dropped = written ? 0 : run->log_dropped + 1;
}

/* --------------------------------------------------------------------------------------- events */

/* A number is a descriptor, which commands do not get. Returns it, or -errno. */
static int open_log(const char *text)
{
    const char *at = text;
    int64_t number;
    if (!words_number(&at, '\0', INT_MAX, &number)) {
        int fd = open(text, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
        return fd < 0 ? -errno : fd;
    }
    int fd = (int)number;
    if (fd <= STDERR_FILENO)
        fd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : fd;
}

bool log_open(struct run *run)
{
    if (!run->options.log)
        return true;
    run->log_fd = open_log(run->options.log);
    if (run->log_fd >= 0) {
        run->log_fd = log_own(run->log_fd);
        return true;
    }
    say(SAY_ERROR, "--log %s: %s", run->options.log, strerror(-run->log_fd));
    return false;
}

void log_start(struct run *run, const struct command *command)
{
    struct line line;
    say(SAY_INFO, "%s (%u) started as %d", command->argv[0], command->number, command->pid);
    if (run->log_fd < 0)
        return;
    begin(&line, "start", command);
    put(&line, ",\"pid\":%d", command->pid);
    put_words(&line, command->argv);
    end(run, &line);
}

void log_not_started(struct run *run, const struct command *command, int error)
{
    struct line line;
    if (run->log_fd < 0)
        return;
    begin(&line, "not-started", command);
    put(&line, ",\"status\":%d,\"error\":", command->code);
    put_string(&line, strerror(-error));
    put_words(&line, command->argv);
    end(run, &line);
}

/* The signal that has killed it, or 0. */
static int killed_by(const struct exitbus_event *event)
{
    return event->status >= 0 ? event->status & 0x7f : 0;
}

void log_exit(struct run *run, const struct command *command, const struct exitbus_event *event)
{
    struct line line;
    int signal = killed_by(event);
    int64_t lived_ms = (loop_now() - command->started_ns) / 1000000;
    if (signal)
        say(SAY_INFO, "%s (%u), which was %d, was killed by SIG%s", command->argv[0],
            command->number, event->pid, words_signal_name(signal));
    else
        say(SAY_INFO, "%s (%u), which was %d, exited with %d", command->argv[0], command->number,
            event->pid, event->exit_code);
    if (run->log_fd < 0)
        return;
    begin(&line, "exit", command);
    put(&line, ",\"pid\":%d,\"code\":%d,\"status\":%d,\"signal\":", event->pid, event->exit_code,
        command->code);
    if (signal)
        put_string(&line, words_signal_name(signal));
    else
        put(&line, "null");
    put(&line, ",\"core\":%s,\"seconds\":%lld.%03lld",
        event->flags & EXITBUS_EVENT_CORE_DUMPED ? "true" : "false", (long long)lived_ms / 1000,
        (long long)lived_ms % 1000);
    put(&line, ",\"user_us\":%llu,\"system_us\":%llu,\"max_rss_kib\":%llu",
        (unsigned long long)event->user_us, (unsigned long long)event->system_us,
        (unsigned long long)event->max_rss_kib);
    end(run, &line);
}

void log_word(struct run *run, const char *word, const struct command *command)
{
    struct line line;
    if (run->log_fd < 0)
        return;
    begin(&line, word, command);
    end(run, &line);
}
