/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The directory of a spool: segments, `state` and cursors. See spool.h. */
#include "tools/forward/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#define SEGMENT_SUFFIX ".records"
#define CURSOR_SUFFIX ".cursor"

int spool_directory(const char *path)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return directory < 0 ? -errno : directory;
}

/* ---------------------------------------------------------------------------------- segments */

void segment_name(uint64_t first, char name[32])
{
    snprintf(name, 32, "%016" PRIx64 SEGMENT_SUFFIX, first);
}

static bool segment_number(const char *name, uint64_t *first)
{
    char *end, again[32];
    *first = strtoull(name, &end, 16);
    segment_name(*first, again);
    return end != name && strcmp(name, again) == 0;
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t length = strlen(name), wanted = strlen(suffix);
    return length > wanted && strcmp(name + length - wanted, suffix) == 0;
}

/* Returns a stream over the directory that has a place of its own, or NULL with errno set. */
static DIR *list(int directory)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !stream)
        close(fd);
    return stream;
}

static int by_number(const void *left, const void *right)
{
    const struct segment *a = left, *b = right;
    return a->first < b->first ? -1 : a->first > b->first;
}

static int segments_add(struct segments *segments, uint64_t first, uint64_t size)
{
    struct segment *longer =
        realloc(segments->list, (segments->count + 1) * sizeof *segments->list);
    if (!longer)
        return -ENOMEM;
    segments->list = longer;
    segments->list[segments->count++] = (struct segment){first, size};
    segments->bytes += size;
    return 0;
}

int segments_read(int directory, struct segments *segments)
{
    struct dirent *entry;
    struct stat status;
    uint64_t first;
    int result = 0;
    memset(segments, 0, sizeof *segments);
    DIR *stream = list(directory);
    if (!stream)
        return -errno;
    while (result == 0 && (entry = readdir(stream)))
        if (segment_number(entry->d_name, &first) &&
            fstatat(directory, entry->d_name, &status, 0) == 0)
            result = segments_add(segments, first, (uint64_t)status.st_size);
    closedir(stream);
    if (result < 0)
        segments_free(segments);
    else if (segments->count > 1)
        qsort(segments->list, segments->count, sizeof *segments->list, by_number);
    return result;
}

void segments_free(struct segments *segments)
{
    free(segments->list);
    memset(segments, 0, sizeof *segments);
}

void segments_prune(int directory, const char *cursor, uint64_t number)
{
    struct segments segments;
    uint64_t lowest, highest;
    char name[32];
    cursors_read(directory, cursor, &lowest, &highest);
    if (number < lowest)
        lowest = number;
    if (segments_read(directory, &segments) < 0)
        return;
    for (size_t i = 0; i + 1 < segments.count && segments.list[i + 1].first <= lowest; i++) {
        segment_name(segments.list[i].first, name);
        unlinkat(directory, name, 0);
    }
    segments_free(&segments);
}

/* ------------------------------------------------------------------------------------- notes */

struct note_file {
    struct note note;
    uint64_t checksum;
};

static uint64_t note_checksum(const struct note *note)
{
    return (uint64_t)crc32(1, (const Bytef *)note, sizeof *note) | 1ull << 32;
}

int note_open(int directory, const char *name)
{
    int fd = openat(directory, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int result = errno == EWOULDBLOCK ? -EBUSY : -errno;
    close(fd);
    return result;
}

int note_read(int fd, struct note *note)
{
    struct note_file file;
    ssize_t got = pread(fd, &file, sizeof file, 0);
    memset(note, 0, sizeof *note);
    if (got < 0)
        return -errno;
    if (got == 0)
        return -ENODATA;
    if (got != sizeof file || file.checksum != note_checksum(&file.note))
        return -EBADMSG;
    *note = file.note;
    return 0;
}

int note_write(int fd, const struct note *note)
{
    struct note_file file = {*note, note_checksum(note)};
    ssize_t put = pwrite(fd, &file, sizeof file, 0);
    return put == sizeof file ? 0 : put < 0 ? -errno : -ENOSPC;
}

void cursors_read(int directory, const char *except, uint64_t *lowest, uint64_t *highest)
{
    struct dirent *entry;
    struct note note;
    *lowest = UINT64_MAX;
    *highest = 0;
    DIR *stream = list(directory);
    while (stream && (entry = readdir(stream))) {
        if (!has_suffix(entry->d_name, CURSOR_SUFFIX) ||
            (except && strcmp(entry->d_name, except) == 0))
            continue;
        int fd = openat(directory, entry->d_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || note_read(fd, &note) < 0)
            note.number = 0; /* nothing is known to be delivered */
        if (fd >= 0)
            close(fd);
        *lowest = note.number < *lowest ? note.number : *lowest;
        *highest = note.number > *highest ? note.number : *highest;
    }
    if (stream)
        closedir(stream);
}
