/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A spool: records in files of a directory, in the order of their numbers.
 *
 *   HEX.records   a segment; HEX is the number of its first record
 *   state         the writer's: the next number, and how far its source was read
 *   NAME.cursor   a reader's: the next number that it has not delivered
 *
 * Invariants
 *  1. One process writes: it holds a lock on `state`. It appends to the newest segment that it has
 *     begun itself, and never to a segment that it has found.
 *  2. A number is given to one record only, and numbers that are missing were lost. The next number
 *     is above all that `state`, the segments and the cursors tell of.
 *  3. What lies in a file behind a part that is no record can be read. What is no record at the end
 *     of the newest segment may be a record that is being written.
 *  4. A reader removes a segment when all cursors are past it; the newest one stays. The writer
 *     removes the oldest where there is no room, unless it was told to wait.
 */
#ifndef TOOLS_FORWARD_SPOOL_H
#define TOOLS_FORWARD_SPOOL_H

#include "tools/forward/record.h"

#include <sys/types.h>

#define SPOOL_MIN_BYTES (1u << 20)
#define SPOOL_DEFAULT_BYTES (256u << 20)

/* ------------------------------------------------------------------------------- the directory */

struct segment {
    uint64_t first;
    uint64_t size;
};

struct segments {
    struct segment *list; /* by number */
    size_t count;
    uint64_t bytes;
};

/* Returns 0 or -errno. To be freed by segments_free(). */
int segments_read(int directory, struct segments *segments);
void segments_free(struct segments *segments);
void segment_name(uint64_t first, char name[32]);

/* Make and open the directory. Returns a descriptor or -errno. */
int spool_directory(const char *path);

/* A small file with a checksum that is written in place: `state`, cursors. */
struct note {
    uint64_t number;
    uint64_t seq;         /* state: of the source's last record */
    uint8_t instance[16]; /* likewise */
};

/* Open and lock it. Returns a descriptor; -EBUSY another process holds it; or -errno. */
int note_open(int directory, const char *name);
/* Returns 0; -ENODATA it is empty; -EBADMSG it is damaged; or -errno. */
int note_read(int fd, struct note *note);
int note_write(int fd, const struct note *note);

/* Find the lowest and the highest number of all cursors but `except`, which may be NULL. */
void cursors_read(int directory, const char *except, uint64_t *lowest, uint64_t *highest);

/* Remove the segments that all cursors are past. That of the caller, `cursor`, is at `number`. */
void segments_prune(int directory, const char *cursor, uint64_t number);

/* -------------------------------------------------------------------------------- the writer */

#define SPOOL_WAIT 0x01u
#define SPOOL_SYNC 0x02u
#define SPOOL_BATCH (1u << 20)

struct spool {
    int directory;
    int state;          /* descriptor */
    int segment;        /* descriptor of the newest segment, or -1 */
    uint32_t flags;     /* SPOOL_… */
    uint64_t max_bytes; /* of all segments */
    uint64_t segment_max;
    uint64_t segment_size; /* good bytes in the newest one */
    bool is_cut;           /* a part of the batch was in it, and was cut off */
    struct note next;      /* for `state`; its number is that of the next record */
    char *batch;           /* records that are not written yet */
    size_t batch_max;
    size_t batch_size;
    size_t batch_count;
    uint64_t written; /* records */
    uint64_t dropped; /* records */
    uint64_t removed; /* bytes */
    uint64_t failures;
    int last_error; /* negative */
};

/* Returns 0; -EBUSY it has a writer; or -errno. `next` then tells where the source was. */
int spool_open(struct spool *spool, const char *path, uint32_t flags, uint64_t max_bytes);
/* Close it. What was not flushed is lost. */
void spool_close(struct spool *spool);

/* Put a record into the batch. Returns false if the batch is full: flush, then try again. */
bool spool_add(struct spool *spool, const struct record_head *head, const void *body,
               size_t body_size);

/*
 * Write the batch. Returns 0: it is written, or given up and counted as dropped; or -errno with
 * SPOOL_WAIT: there is no room now, and the batch is kept.
 */
int spool_flush(struct spool *spool);
/* Drop the batch. */
void spool_give_up(struct spool *spool);

/* -------------------------------------------------------------------------------- the reader */

struct spool_reader {
    int directory;
    int segment; /* descriptor, or -1 */
    uint64_t first;
    uint64_t offset;  /* in the segment, of `used` */
    uint64_t next;    /* the number that is expected */
    uint64_t damaged; /* bytes passed over so far */
    char *buffer;
    size_t used; /* of the buffer */
    size_t held;
};

/* A step of the reader. */
enum spool_step {
    SPOOL_NOTHING = 0, /* wait for the writer */
    SPOOL_RECORD = 1,  /* `record` is the next; valid until the next call */
    SPOOL_GAP = 2,     /* the numbers [gap_first, gap_last] are lost */
};

struct spool_found {
    struct record record;
    uint64_t gap_first;
    uint64_t gap_last;
};

/* Read from `next` on; 0: from the oldest record. Returns 0 or -errno. */
int spool_reader_open(struct spool_reader *reader, int directory, uint64_t next);
void spool_reader_close(struct spool_reader *reader);
/* Returns an enum spool_step, or -errno. */
int spool_reader_next(struct spool_reader *reader, struct spool_found *found);

#endif
