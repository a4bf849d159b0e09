/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The reader of a spool: see spool.h.
 *
 * How it works
 *   - A segment is read until its end. Where another one follows it is complete, since the writer
 *     never goes back; then the reader goes on with the next.
 *   - Where no record begins, the reader looks for the next one in steps of 64 bytes. If there is
 *     none behind it and no newer segment, the writer may be in the middle of a write: wait.
 *   - A record whose number is lower than expected was delivered. If it is higher, those in between
 *     are a gap, which is told first.
 */
#include "tools/forward/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_SIZE (1u << 20)

_Static_assert(BUFFER_SIZE >= 2 * RECORD_SIZE_MAX, "a record fits behind what is left");

int spool_reader_open(struct spool_reader *reader, int directory, uint64_t next)
{
    memset(reader, 0, sizeof *reader);
    reader->segment = -1;
    reader->directory = directory;
    reader->next = next;
    reader->buffer = malloc(BUFFER_SIZE);
    return reader->buffer ? 0 : -ENOMEM;
}

void spool_reader_close(struct spool_reader *reader)
{
    if (reader->segment >= 0)
        close(reader->segment);
    free(reader->buffer);
    reader->segment = -1;
    reader->buffer = NULL;
}

/* Choose a segment: the one behind `reader->first`; at first, that which has the next number.
 * Returns 1, 0 if there is none, or -errno. */
static int choose(const struct spool_reader *reader, uint64_t *first)
{
    struct segments segments;
    int result = segments_read(reader->directory, &segments), found = 0;
    for (size_t i = 0; result == 0 && i < segments.count; i++) {
        uint64_t number = segments.list[i].first;
        if (reader->segment >= 0 && number <= reader->first)
            continue;
        if (found && (reader->segment >= 0 || number > reader->next))
            break;
        *first = number;
        found = 1;
    }
    segments_free(&segments);
    return result < 0 ? result : found;
}

/* Returns 1; 0 if it has gone meanwhile; or -errno. */
static int enter(struct spool_reader *reader, uint64_t first)
{
    char name[32];
    segment_name(first, name);
    int fd = openat(reader->directory, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (reader->segment >= 0)
        close(reader->segment);
    reader->segment = fd;
    reader->first = first;
    reader->offset = reader->used = reader->held = 0;
    return 1;
}

/* Read on behind what is held. Returns how many bytes came, or -errno. */
static ssize_t fill(struct spool_reader *reader)
{
    size_t left = reader->held - reader->used;
    memmove(reader->buffer, reader->buffer + reader->used, left);
    reader->used = 0;
    reader->held = left;
    ssize_t got = pread(reader->segment, reader->buffer + left, BUFFER_SIZE - left,
                        (off_t)(reader->offset + left));
    if (got < 0)
        return -errno;
    reader->held += (size_t)got;
    return got;
}

static void pass(struct spool_reader *reader, size_t bytes)
{
    reader->used += bytes;
    reader->offset += bytes;
}

/* Take the record that begins here. Returns 1; 0 if none is here, or not all of it; or -errno. */
static int take(struct spool_reader *reader, struct record *record)
{
    for (;;) {
        long size =
            record_decode(reader->buffer + reader->used, reader->held - reader->used, record);
        if (size > 0)
            return 1;
        ssize_t got = size < 0 ? 0 : fill(reader);
        if (got <= 0)
            return (int)got;
    }
}

/* Look for a record behind a part that is none. Returns 1 and stands at it; 0 and stands where it
 * was; or -errno. */
static int look_behind(struct spool_reader *reader, struct record *record)
{
    uint64_t start = reader->offset;
    reader->used = reader->held = 0; /* the writer may have cut what we hold, and gone on */
    int again = take(reader, record);
    if (again != 0)
        return again;
    for (;;) {
        if (reader->held - reader->used < RECORD_UNIT + RECORD_UNIT) {
            ssize_t got = fill(reader);
            if (got < 0)
                return (int)got;
            if (got == 0)
                break;
        }
        pass(reader, RECORD_UNIT);
        int found = take(reader, record);
        if (found < 0)
            return found;
        if (found) {
            reader->damaged += reader->offset - start;
            return 1;
        }
    }
    reader->offset = start;
    reader->used = reader->held = 0;
    return 0;
}

/* Returns the bytes of the segment that are not read. */
static uint64_t rest(const struct spool_reader *reader)
{
    struct stat status;
    if (reader->segment < 0 || fstat(reader->segment, &status) < 0 ||
        (uint64_t)status.st_size < reader->offset)
        return 0;
    return (uint64_t)status.st_size - reader->offset;
}

/* Stand at the next record, in this segment or a later one. Returns 1, 0 or -errno. */
static int find(struct spool_reader *reader, struct record *record)
{
    uint64_t first = 0;
    for (;;) {
        int newer = 0, found = 0;
        if (reader->segment >= 0 && (found = take(reader, record)) != 0)
            return found;
        newer = choose(reader, &first); /* if there is one, this one has all that it ever will */
        if (newer < 0)
            return newer;
        if (reader->segment >= 0 && (found = take(reader, record)) != 0)
            return found;
        if (reader->segment >= 0 && (found = look_behind(reader, record)) != 0)
            return found;
        if (newer == 0)
            return 0;
        reader->damaged += rest(reader);
        int entered = enter(reader, first);
        if (entered < 0)
            return entered;
    }
}

int spool_reader_next(struct spool_reader *reader, struct spool_found *found)
{
    for (;;) {
        int result = find(reader, &found->record);
        if (result <= 0)
            return result;
        uint64_t number = found->record.head.number;
        if (reader->next > 0 && number > reader->next) {
            found->gap_first = reader->next;
            found->gap_last = number - 1;
            reader->next = number;
            return SPOOL_GAP;
        }
        pass(reader, record_size(found->record.head.body_size));
        if (number < reader->next)
            continue;
        reader->next = number + 1;
        return SPOOL_RECORD;
    }
}
