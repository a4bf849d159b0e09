/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Fuzzes the encoding of events (lib/event/event.h). The first byte chooses what the rest is:
 *   a struct exitbus_event, byte for byte: what event_check() lets pass is what the specification
 *   calls well-formed, and comes out of its record as it went in;
 *   a record, word for word, with id sizes that a record can have: it can be decoded, in bounds,
 *   and encoding the event again gives the same record;
 *   a wait status.
 * Only the first word of a record is ever looked at while it may be torn: record_cells() must bear
 * any value of it.
 */
#include "event/event.h"
#include "random/differential/reference.h"
#include "support/threads.h"

/* The event in a record, as the queue reads it out of cells. */
static void decode(const struct record *record, struct exitbus_event *event)
{
    memset((void *)event, 0xee, sizeof *event);
    memcpy((char *)event + sizeof event->seq, record->words, CELL_PAYLOAD);
    if (record_cells(record->words[0]) > 1) {
        event_decode_ids(event, record->words + CELL_WORDS);
    } else {
        event->container_id[0] = '\0';
        event->exec_id[0] = '\0';
    }
}

static void check_key(const struct record *record, const struct exitbus_event *event)
{
    struct record_key key = record_key(record);
    if (key.kind == EXITBUS_EVENT_PID) /* whose details are no id */
        return;
    must_equal(key.kind, event->kind);
    must_equal(key.pid, event->pid);
    must_equal(key.container_id_size, event->container_id_size);
    must_equal(key.exec_id_size, event->exec_id_size);
    must(memcmp(key.container_id, event->container_id, key.container_id_size) == 0);
    must(memcmp(key.exec_id, event->exec_id, key.exec_id_size) == 0);
}

static unsigned cells_of(const struct exitbus_event *event)
{
    unsigned size = (unsigned)event->container_id_size + event->exec_id_size;
    if (event->kind == EXITBUS_EVENT_PID && event->flags & EXITBUS_EVENT_DETAILS)
        size = 32;
    return 1 + (size + 55) / 56;
}

/* The first words of two records, as many as their cells have. */
static void must_be_same(const struct record *a, const struct record *b, unsigned cells)
{
    must(memcmp(a->words, b->words, cells * CELL_PAYLOAD) == 0);
}

static void fuzz_encode(const uint8_t *bytes, size_t size)
{
    struct exitbus_event given;
    memset((void *)&given, 0, sizeof given);
    memcpy((void *)&given, bytes, size < sizeof given ? size : sizeof given);
    bool good = reference_event_good(&given);
    must_equal(event_check(&given), good ? 0 : -EINVAL);
    if (!good)
        return;
    struct reference reference;
    reference_init(&reference);
    uint64_t began_ns = reference_now(), seq;
    struct record record, again;
    memset(&record, 0xdd, sizeof record); /* whatever was in it must not show */
    event_encode(&given, &record);
    must_equal(reference_publish(&reference, &given, 1, began_ns, &seq), 0);

    struct exitbus_event got;
    decode(&record, &got);
    got.seq = seq;
    const char *field = reference_differs(&reference, seq, &got);
    if (field)
        fprintf(stderr, "%s differs\n", field);
    must(!field);
    must_equal(record_cells(record.words[0]), cells_of(&got));
    check_key(&record, &got);
    memset(&again, 0x33, sizeof again);
    event_encode(&got, &again);
    must_be_same(&record, &again, cells_of(&got));
    reference_finish(&reference);
}

/* A NUL inside an id ends it: then the event is another. */
static bool ids_whole(const struct exitbus_event *event)
{
    return strlen(event->container_id) == event->container_id_size &&
           strlen(event->exec_id) == event->exec_id_size;
}

/* Behind the last id, or the details, a record has zeros. */
static void clear_rest(struct record *record, const struct exitbus_event *event)
{
    size_t used = CELL_PAYLOAD + event->container_id_size + event->exec_id_size;
    if (event->kind == EXITBUS_EVENT_PID && event->flags & EXITBUS_EVENT_DETAILS)
        used += 32;
    memset((char *)record->words + used, 0, sizeof record->words - used);
}

static void fuzz_decode(const uint8_t *bytes, size_t size)
{
    struct record record, again;
    memset(&record, 0, sizeof record);
    memcpy(record.words, bytes, size < sizeof record ? size : sizeof record);
    unsigned cells = record_cells(record.words[0]);
    must(cells >= 1 && cells <= 1 + (2 * 255 + 55) / 56);

    const uint64_t sizes = (uint64_t)0x8080 << 48; /* 127 is the longest that was ever encoded */
    record.words[0] &= ~sizes;
    must(record_cells(record.words[0]) <= RECORD_CELLS_MAX);
    struct exitbus_event event;
    decode(&record, &event);
    bool has_ids = record_cells(record.words[0]) > 1;
    must_equal(event.container_id[has_ids ? event.container_id_size : 0], '\0');
    must_equal(event.exec_id[has_ids ? event.exec_id_size : 0], '\0');
    check_key(&record, &event);
    if (event_check(&event) < 0 || event.monotonic_ns == 0 || event.realtime_ns == 0)
        return;
    if (event.kind == EXITBUS_EVENT_PID ? has_ids != (cells_of(&event) > 1) : !ids_whole(&event))
        return;
    clear_rest(&record, &event);
    event_encode(&event, &again);
    if (event.kind == EXITBUS_EVENT_PID) /* only one size is ever encoded for details */
        record.words[0] = again.words[0];
    must_be_same(&record, &again, cells_of(&event));
}

static void fuzz_status(const uint8_t *bytes, size_t size)
{
    int status = 0;
    memcpy(&status, bytes, size < sizeof status ? size : sizeof status);
    struct exitbus_event expected = {0}, got = {0};
    must_equal(event_from_status(&got, status), reference_status(status, &expected));
    must_equal(got.status, expected.status);
    must_equal(got.exit_code, expected.exit_code);
    must_equal(got.flags, expected.flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static void (*const parts[])(const uint8_t *, size_t) = {fuzz_encode, fuzz_decode, fuzz_status};
    if (size > 0)
        parts[bytes[0] % 3](bytes + 1, size - 1);
    return 0;
}
