/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Lines of JSON, written to a spool: see lines.h. */
#include "tools/forward/lines.h"
#include "tools/forward/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_SIZE (4 * RECORD_BODY_MAX)
#define RETRY_MS 100

/* ---------------------------------------------------------------------------------- the file */

/* Has the spool come from this file last? Of a file that was cut the device, the inode and a part
 * of the time of birth are left in the instance. */
static bool is_same_file(const struct lines *lines, const struct note *last)
{
    const uint8_t *instance = lines->head.instance;
    return memcmp(last->instance, instance, sizeof last->instance) == 0 ||
           identity_is_generation(last->instance, instance);
}

/* Go on where the spool has come to. A file that is shorter was cut: its places come again. */
static int resume(struct lines *lines, const struct note *last, uint64_t size)
{
    if (last->seq > size)
        return identity_generation(lines->head.instance);
    memcpy(lines->head.instance, last->instance, sizeof last->instance);
    lines->head.seq = last->seq;
    return lseek(lines->fd, (off_t)last->seq, SEEK_SET) < 0 ? -errno : 0;
}

/* Begin with the file at `path`, where the spool has come to if it is the same. Returns 0 or
 * -errno; a file that is not there yet is awaited, and its descriptor -1. */
static int open_file(struct lines *lines)
{
    struct stat status;
    lines->fd = open(lines->path, O_RDONLY | O_CLOEXEC);
    lines->head.seq = 0;
    lines->held = 0;
    if (lines->fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(lines->fd, &status) < 0)
        return -errno;
    lines->is_stream = !S_ISREG(status.st_mode);
    if (lines->is_stream)
        return identity_random(lines->head.instance);
    int result = identity_file(lines->fd, lines->head.instance);
    const struct note *last = &lines->spool.next;
    if (result == 0 && is_same_file(lines, last))
        result = resume(lines, last, (uint64_t)status.st_size);
    return result;
}

/* At the begin: is what the spool has come from last another source than this file? */
static void warn_of_another(const struct lines *lines)
{
    static const uint8_t none[16];
    const struct note *last = &lines->spool.next;
    if (lines->is_stream || lines->fd < 0 || memcmp(last->instance, none, sizeof none) == 0 ||
        is_same_file(lines, last))
        return;
    fprintf(stderr, "exitbus-forward: %s is not what was read last: the rest of that is not read\n",
            lines->path);
}

static int open_source(struct lines *lines)
{
    char directory[PATH_MAX];
    struct stat status;
    if (strcmp(lines->path, "-") == 0) {
        lines->is_stream = true;
        lines->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        return lines->fd < 0 ? -errno : identity_random(lines->head.instance);
    }
    bool is_file = stat(lines->path, &status) < 0 || S_ISREG(status.st_mode);
    if (is_file && !lines->once) {
        snprintf(directory, sizeof directory, "%s", lines->path);
        lines->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (lines->changes < 0 || inotify_add_watch(lines->changes, dirname(directory),
                                                    IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
            return -errno;
    }
    int result = open_file(lines);
    if (result == 0)
        warn_of_another(lines);
    return result;
}

/* Has another file taken its place, or has it been cut? While the other file is empty, the log's
 * writer may still write to this one. */
static bool is_replaced(const struct lines *lines)
{
    struct stat here, there;
    if (lines->is_stream || stat(lines->path, &there) < 0)
        return false;
    if (lines->fd < 0 || fstat(lines->fd, &here) < 0)
        return true;
    if (here.st_ino != there.st_ino || here.st_dev != there.st_dev)
        return there.st_size > 0;
    return (uint64_t)here.st_size < lines->head.seq;
}

/* ------------------------------------------------------------------------------------ writing */

/* Wait for the stop, and for `fd` if it is not negative. Returns true if it is to stop. */
static bool wait_for(const struct lines *lines, int fd, int timeout_ms)
{
    struct pollfd ready[2] = {{.fd = lines->stop, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    return poll(ready, 2, timeout_ms) > 0 && ready[0].revents != 0;
}

/* Returns false if it is to stop: what has no room is read again after a restart. */
static bool flush(struct lines *lines)
{
    while (spool_flush(&lines->spool) < 0)
        if (wait_for(lines, -1, RETRY_MS))
            return false;
    return true;
}

/* Put a line into the batch. Returns false if it is to stop. */
static bool add_line(struct lines *lines, const char *line, size_t size)
{
    lines->head.seq += size + 1;
    while (size > 0 && memchr(" \t\r", line[size - 1], 3))
        size--;
    if (size == 0)
        return true;
    if (size > RECORD_BODY_MAX) {
        lines->too_long++;
        return true;
    }
    if (spool_add(&lines->spool, &lines->head, line, size))
        return true;
    return flush(lines) && spool_add(&lines->spool, &lines->head, line, size);
}

/* Take the whole lines out of the text. A line that does not fit is passed over as it comes. */
static bool add_lines(struct lines *lines)
{
    char *line = lines->text, *end;
    size_t left = lines->held;
    while ((end = memchr(line, '\n', left))) {
        if (!add_line(lines, line, (size_t)(end - line)))
            return false;
        left -= (size_t)(end - line) + 1;
        line = end + 1;
    }
    memmove(lines->text, line, left);
    lines->held = left;
    return flush(lines);
}

/* A line longer than the buffer: forget all but one byte, which stands for it. */
static void shorten(struct lines *lines)
{
    lines->head.seq += lines->held - 1;
    lines->text[0] = '\0'; /* no JSON begins so: the sender passes it over */
    lines->held = 1;
}

/* ------------------------------------------------------------------------------------ reading */

/* Go on with the file that is at `path` now. One that can't be opened is tried again.
 * Returns false if it is to stop. */
static bool reopen(struct lines *lines)
{
    if (lines->fd >= 0)
        close(lines->fd);
    int result = open_file(lines);
    if (result == 0) {
        lines->is_failing = false;
        return true;
    }
    if (lines->fd >= 0)
        close(lines->fd);
    lines->fd = -1;
    if (!lines->is_failing)
        fprintf(stderr, "exitbus-forward: %s: %s; trying again\n", lines->path, strerror(-result));
    lines->is_failing = true;
    return !wait_for(lines, -1, RETRY_MS);
}

/* At the end of a file. Returns false if it is the end for good, or it is to stop. */
static bool await_more(struct lines *lines)
{
    char changes[4096];
    if (lines->changes < 0) {
        if (lines->is_stream && lines->held > 0 && add_line(lines, lines->text, lines->held))
            flush(lines); /* it has ended without a newline */
        return false;
    }
    if (is_replaced(lines))
        return reopen(lines);
    if (wait_for(lines, lines->changes, -1))
        return false;
    while (read(lines->changes, changes, sizeof changes) > 0)
        ;
    return true;
}

static ssize_t read_file(const struct lines *lines)
{
    return lines->fd < 0 ? 0 : read(lines->fd, lines->text + lines->held, TEXT_SIZE - lines->held);
}

static bool read_some(struct lines *lines)
{
    if (lines->changes < 0 && wait_for(lines, lines->fd, -1))
        return false;
    ssize_t got = read_file(lines);
    if (got == 0 && is_replaced(lines)) /* what was written before */
        got = read_file(lines);
    if (got < 0 && errno != EINTR)
        lines->error = -errno;
    if (got < 0)
        return lines->error == 0;
    if (got == 0)
        return await_more(lines);
    lines->held += (size_t)got;
    if (!add_lines(lines))
        return false;
    if (lines->held == TEXT_SIZE)
        shorten(lines);
    return !wait_for(lines, -1, 0);
}

static void *run(void *argument)
{
    struct lines *lines = argument;
    while (read_some(lines))
        ;
    eventfd_write(lines->ended, 1);
    return NULL;
}

/* ------------------------------------------------------------------------------ start and stop */

static void release(struct lines *lines)
{
    spool_close(&lines->spool);
    free(lines->text);
    int descriptors[] = {lines->fd, lines->changes, lines->stop, lines->ended};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
        if (descriptors[i] >= 0)
            close(descriptors[i]);
}

static int prepare(struct lines *lines)
{
    lines->head.kind = RECORD_LINE;
    lines->text = malloc(TEXT_SIZE);
    lines->stop = eventfd(0, EFD_CLOEXEC);
    lines->ended = eventfd(0, EFD_CLOEXEC);
    if (!lines->text)
        return -ENOMEM;
    if (lines->stop < 0 || lines->ended < 0)
        return -errno;
    int result = identity_boot(lines->head.boot);
    if (result == 0)
        result = open_source(lines);
    return result == 0 && lines->fd < 0 && lines->changes < 0 ? -ENOENT : result;
}

int lines_start(struct lines *lines, const char *spool, uint32_t flags, uint64_t max_bytes)
{
    lines->fd = lines->changes = lines->stop = lines->ended = -1;
    int result = spool_open(&lines->spool, spool, flags, max_bytes);
    if (result == 0)
        result = prepare(lines);
    if (result == 0)
        result = -pthread_create(&lines->thread, NULL, run, lines);
    if (result < 0)
        release(lines);
    return result;
}

int lines_stop(struct lines *lines)
{
    eventfd_write(lines->stop, 1);
    pthread_join(lines->thread, NULL);
    int result = lines->spool.dropped > 0 ? lines->spool.last_error : 0;
    release(lines);
    return result;
}
