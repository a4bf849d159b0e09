/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The writer of a spool: see spool.h.
 *
 * How it works
 *   - Records are gathered in a batch, which one write() appends to the newest segment.
 *   - Behind a write that fails the file is cut to where it was, and a new segment is tried. That
 *     goes on where a file may not grow further, and a part of a record that stays does no harm.
 *   - Where that fails, too, the oldest segment is removed and the write tried again; or, with
 *     SPOOL_WAIT, the batch is kept.
 *   - A batch that is given up has had numbers. The reader sees that they are missing.
 */
#include "tools/forward/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS 8                 /* in a spool that is full, about */
#define SEGMENT_MOST (64ull << 20) /* bytes */

/* --------------------------------------------------------------------------- the next number */

/* Go through a segment. Sets the number behind its last record, and where that record's source was.
 * Returns how many units of it, at its end, are no record; or -errno. */
static int64_t last_record(int fd, uint64_t size, struct note *next)
{
    struct record record;
    uint64_t good = 0, at = 0;
    char *text = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text == MAP_FAILED)
        return -errno;
    while (at < size) {
        long step = record_decode(text + at, size - at, &record);
        at += step > 0 ? (uint64_t)step : RECORD_UNIT;
        if (step <= 0)
            continue;
        good = at;
        if (record.head.number < next->number)
            continue;
        next->number = record.head.number + 1;
        next->seq = record.head.seq;
        memcpy(next->instance, record.head.instance, sizeof next->instance);
    }
    munmap(text, size);
    return (int64_t)((size - good + RECORD_UNIT - 1) / RECORD_UNIT);
}

/* The newest segment has the last record. Where `state` is lost, too, its end may have had one more
 * for each unit behind the last that can be read. */
static int look_at_newest(struct spool *spool, bool state_is_known)
{
    struct segments segments;
    struct stat status;
    char name[32];
    int result = segments_read(spool->directory, &segments);
    if (result < 0 || segments.count == 0)
        return result;
    struct segment newest = segments.list[segments.count - 1];
    segments_free(&segments);
    segment_name(newest.first, name);
    if (newest.size == 0)
        return unlinkat(spool->directory, name, 0) < 0 ? -errno
                                                       : look_at_newest(spool, state_is_known);
    int fd = openat(spool->directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (spool->next.number < newest.first)
        spool->next.number = newest.first;
    int64_t lost =
        fstat(fd, &status) < 0 ? -errno : last_record(fd, (uint64_t)status.st_size, &spool->next);
    close(fd);
    if (lost > 0 && !state_is_known)
        spool->next.number += (uint64_t)lost;
    return lost < 0 ? (int)lost : 0;
}

/* Sets where to go on. A `state` that is damaged tells nothing; the rest does. */
static int find_next(struct spool *spool)
{
    uint64_t lowest, highest;
    int result = note_read(spool->state, &spool->next);
    if (result < 0 && result != -ENODATA && result != -EBADMSG)
        return result;
    if (spool->next.number == 0)
        spool->next.number = 1;
    result = look_at_newest(spool, result == 0);
    if (result < 0)
        return result;
    cursors_read(spool->directory, NULL, &lowest, &highest);
    if (spool->next.number < highest)
        spool->next.number = highest;
    return note_write(spool->state, &spool->next);
}

int spool_open(struct spool *spool, const char *path, uint32_t flags, uint64_t max_bytes)
{
    memset(spool, 0, sizeof *spool);
    spool->segment = spool->state = -1;
    spool->flags = flags;
    spool->max_bytes = max_bytes ? max_bytes : SPOOL_DEFAULT_BYTES;
    spool->segment_max = spool->max_bytes / SEGMENTS;
    if (spool->segment_max > SEGMENT_MOST)
        spool->segment_max = SEGMENT_MOST;
    spool->batch_max = spool->segment_max < SPOOL_BATCH ? spool->segment_max : SPOOL_BATCH;
    spool->directory = spool_directory(path);
    if (spool->directory < 0)
        return spool->directory;
    int result = spool->state = note_open(spool->directory, "state");
    if (result >= 0)
        result = find_next(spool);
    if (result >= 0 && !(spool->batch = malloc(spool->batch_max)))
        result = -ENOMEM;
    if (result < 0)
        spool_close(spool);
    return result < 0 ? result : 0;
}

void spool_close(struct spool *spool)
{
    if (spool->segment >= 0)
        close(spool->segment);
    if (spool->state >= 0) {
        flock(spool->state, LOCK_UN); /* a forked child may have the file open, too */
        close(spool->state);
    }
    if (spool->directory >= 0)
        close(spool->directory);
    free(spool->batch);
    spool->segment = spool->state = spool->directory = -1;
    spool->batch = NULL;
}

/* ------------------------------------------------------------------------------------- room */

static int remove_oldest(struct spool *spool, const struct segments *segments, size_t which)
{
    char name[32];
    segment_name(segments->list[which].first, name);
    if (unlinkat(spool->directory, name, 0) < 0 && errno != ENOENT)
        return -errno;
    spool->removed += segments->list[which].size;
    return 0;
}

/* Is the one segment that is left an old one, above a bound that is smaller now? Another one must
 * begin, or this one could never go. So the bound is exceeded once, by one segment. */
static bool must_exceed(const struct spool *spool, uint64_t bytes, size_t left)
{
    return bytes > 0 && left == 1 && spool->segment < 0;
}

/* Make room for `bytes` more; with `least` 1 at least one segment goes. The newest one stays.
 * Returns 0 or -errno: there is no room. */
static int make_room(struct spool *spool, uint64_t bytes, int least)
{
    struct segments segments;
    int result = segments_read(spool->directory, &segments);
    if (result < 0)
        return result;
    uint64_t held = segments.bytes;
    for (size_t i = 0; result == 0 && (held + bytes > spool->max_bytes || least > 0); i++) {
        if (must_exceed(spool, bytes, segments.count - i))
            break;
        if ((spool->flags & SPOOL_WAIT) || i + 1 >= segments.count) {
            result = -ENOSPC;
            break;
        }
        result = remove_oldest(spool, &segments, i);
        held -= segments.list[i].size;
        least--;
    }
    segments_free(&segments);
    return result;
}

/* Begin a segment. Returns 0 or -errno. */
static int begin_segment(struct spool *spool, uint64_t first)
{
    char name[32];
    int result = make_room(spool, spool->segment_max, 0);
    if (result < 0)
        return result;
    segment_name(first, name);
    int fd =
        openat(spool->directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (spool->segment >= 0)
        close(spool->segment);
    spool->segment = fd;
    spool->segment_size = 0;
    spool->is_cut = false;
    return 0;
}

/* ------------------------------------------------------------------------------------ writing */

bool spool_add(struct spool *spool, const struct record_head *head, const void *body,
               size_t body_size)
{
    size_t size = record_size(body_size);
    if (body_size > RECORD_BODY_MAX || size > spool->batch_max - spool->batch_size)
        return false;
    struct record_head numbered = *head;
    numbered.number = spool->next.number++;
    spool->next.seq = head->seq;
    memcpy(spool->next.instance, head->instance, sizeof spool->next.instance);
    record_encode(&numbered, body, body_size, spool->batch + spool->batch_size);
    spool->batch_size += size;
    spool->batch_count++;
    return true;
}

/* The next batch begins another segment. */
static void leave_segment(struct spool *spool)
{
    close(spool->segment);
    spool->segment = -1;
    spool->is_cut = false;
}

/* Append the batch to the newest segment. Returns 0, or -errno and the segment is as it was. */
static int append(struct spool *spool)
{
    size_t done = 0;
    ssize_t put = 0;
    while (done < spool->batch_size) {
        put = write(spool->segment, spool->batch + done, spool->batch_size - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            break;
        done += (size_t)put;
    }
    int result = done == spool->batch_size ? 0 : put < 0 ? -errno : -EIO;
    if (result == 0 && (spool->flags & SPOOL_SYNC) && fdatasync(spool->segment) < 0)
        result = -errno;
    if (result == 0)
        spool->segment_size += done;
    else if (ftruncate(spool->segment, (off_t)spool->segment_size) < 0)
        leave_segment(spool); /* what it ends with is no record */
    spool->is_cut = result < 0 && done > 0 && spool->segment >= 0;
    return result;
}

static int append_or_begin(struct spool *spool)
{
    uint64_t first = spool->next.number - spool->batch_count;
    int result = -ENOENT;
    bool fits = spool->segment_size + spool->batch_size <= spool->segment_max;
    if (spool->segment >= 0 && (fits || spool->segment_size == 0))
        result = append(spool);
    if (result == 0 || (spool->segment >= 0 && spool->segment_size == 0))
        return result;
    result = begin_segment(spool, first);
    return result < 0 ? result : append(spool);
}

static void batch_done(struct spool *spool, uint64_t *count)
{
    *count += spool->batch_count;
    spool->batch_size = spool->batch_count = 0;
    int result = note_write(spool->state, &spool->next);
    if (result < 0) { /* the segments tell the same */
        spool->failures++;
        spool->last_error = result;
    }
}

/* A reader may have passed records of the batch that were cut off again. It would not look there
 * for those of the next batch. */
void spool_give_up(struct spool *spool)
{
    if (spool->is_cut)
        leave_segment(spool);
    batch_done(spool, &spool->dropped);
}

int spool_flush(struct spool *spool)
{
    int result;
    if (spool->batch_count == 0)
        return 0;
    while ((result = append_or_begin(spool)) < 0) {
        spool->failures++;
        spool->last_error = result;
        if (spool->flags & SPOOL_WAIT)
            return result;
        if (make_room(spool, 0, 1) < 0)
            break;
    }
    if (result < 0)
        spool_give_up(spool);
    else
        batch_done(spool, &spool->written);
    return 0;
}
