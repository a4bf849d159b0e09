/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A record of the spool: a head of 64 bytes, then a body, then zeros up to a multiple of 64 bytes.
 *
 * The checksum covers all but itself and the mark. A record begins at a multiple of 64 bytes of its
 * file, so a reader that finds damage goes on with the next valid record behind it.
 */
#ifndef TOOLS_FORWARD_RECORD_H
#define TOOLS_FORWARD_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <exitbus/exitbus.h>

#define RECORD_UNIT 64u
#define RECORD_BODY_MAX (64u * 1024)
#define RECORD_SIZE_MAX (RECORD_BODY_MAX + RECORD_UNIT)

enum record_kind {
    RECORD_EVENT = 1, /* an event of a bus */
    RECORD_LINE = 2,  /* a JSON object as text, of another program's log */
    RECORD_BEGIN = 3, /* a bus is forwarded from now on; the body is that of an event */
    RECORD_END = 4,   /* it is not any more */
    RECORD_ALIVE = 5, /* a child that was alive at the begin; likewise */
};

struct record_head {
    uint32_t mark;
    uint32_t checksum;
    uint32_t body_size;
    uint16_t kind; /* enum record_kind */
    uint16_t reserved;
    uint64_t number;      /* place in the spool: 1, 2, 3 … */
    uint64_t seq;         /* place in its bus; of a line, bytes of its file up to its end */
    uint8_t instance[16]; /* of the bus, or of the file of lines */
    uint8_t boot[16];
};

struct record {
    struct record_head head;
    const char *body;
};

/* An event out of a record. `details` is empty where there are none. */
struct record_event {
    struct exitbus_event event;
    struct exitbus_event_details details;
};

/* Returns the bytes of the whole record. */
size_t record_size(size_t body_size);

/* Write a record to `to`, which has room for record_size(). Fills in mark, checksum and size. */
void record_encode(const struct record_head *head, const void *body, size_t body_size, char *to);

/*
 * Read a record from `size` bytes. Returns its whole size; 0 if it may be one whose rest is not
 * there; -1 if none begins here.
 */
long record_decode(const char *from, size_t size, struct record *record);

/* Returns the size of the body for an event, which is written to `body`. */
size_t record_pack(const struct exitbus_event *event, const struct exitbus_event_details *details,
                   char body[sizeof(struct record_event)]);

/* Returns false if the body is not that of an event. */
bool record_unpack(const struct record *record, struct record_event *event);

#endif
