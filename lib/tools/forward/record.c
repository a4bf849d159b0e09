/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Records of the spool: see record.h. The checksum is zlib's CRC-32. */
#include "tools/forward/record.h"

#include <string.h>

#include <zlib.h>

#define MARK 0x31667765u /* "ewf1": the last character is the version */
#define EVENT_FIXED offsetof(struct exitbus_event, container_id)
#define DETAILS_FIXED offsetof(struct exitbus_event_details, reserved)

_Static_assert(sizeof(struct record_head) == RECORD_UNIT, "a head is one unit");
_Static_assert(EVENT_FIXED == 64, "documented");

size_t record_size(size_t body_size)
{
    return (sizeof(struct record_head) + body_size + RECORD_UNIT - 1) / RECORD_UNIT * RECORD_UNIT;
}

static uint32_t checksum(const char *record, size_t size)
{
    const size_t skipped = offsetof(struct record_head, body_size);
    return (uint32_t)crc32(0, (const Bytef *)record + skipped, (uInt)(size - skipped));
}

void record_encode(const struct record_head *head, const void *body, size_t body_size, char *to)
{
    struct record_head written = *head;
    size_t size = record_size(body_size);
    written.mark = MARK;
    written.body_size = (uint32_t)body_size;
    memcpy(to, &written, sizeof written);
    memcpy(to + sizeof written, body, body_size);
    memset(to + sizeof written + body_size, 0, size - sizeof written - body_size);
    written.checksum = checksum(to, size);
    memcpy(to + offsetof(struct record_head, checksum), &written.checksum, sizeof written.checksum);
}

long record_decode(const char *from, size_t size, struct record *record)
{
    if (size < sizeof record->head)
        return 0;
    memcpy(&record->head, from, sizeof record->head);
    if (record->head.mark != MARK || record->head.body_size > RECORD_BODY_MAX)
        return -1;
    size_t whole = record_size(record->head.body_size);
    if (whole > size)
        return 0;
    if (checksum(from, whole) != record->head.checksum)
        return -1;
    record->body = from + sizeof record->head;
    return (long)whole;
}

size_t record_pack(const struct exitbus_event *event, const struct exitbus_event_details *details,
                   char body[sizeof(struct record_event)])
{
    struct exitbus_event fixed = *event;
    char *to = body + EVENT_FIXED;
    fixed.container_id_size = (uint8_t)strnlen(event->container_id, EXITBUS_ID_MAX);
    fixed.exec_id_size = (uint8_t)strnlen(event->exec_id, EXITBUS_ID_MAX);
    if (details)
        fixed.flags |= EXITBUS_EVENT_DETAILS;
    memcpy(body, &fixed, EVENT_FIXED);
    to = mempcpy(to, event->container_id, fixed.container_id_size);
    to = mempcpy(to, event->exec_id, fixed.exec_id_size);
    if (details)
        to = mempcpy(to, details, DETAILS_FIXED);
    return (size_t)(to - body);
}

bool record_unpack(const struct record *record, struct record_event *event)
{
    const char *from = record->body;
    memset(event, 0, sizeof *event);
    if (record->head.body_size < EVENT_FIXED)
        return false;
    memcpy(&event->event, from, EVENT_FIXED);
    from += EVENT_FIXED;
    size_t container = event->event.container_id_size, exec = event->event.exec_id_size;
    bool has_details = event->event.flags & EXITBUS_EVENT_DETAILS;
    if (container > EXITBUS_ID_MAX || exec > EXITBUS_ID_MAX ||
        EVENT_FIXED + container + exec + (has_details ? DETAILS_FIXED : 0) !=
            record->head.body_size)
        return false;
    memcpy(event->event.container_id, from, container);
    memcpy(event->event.exec_id, from + container, exec);
    if (has_details)
        memcpy(&event->details, from + container + exec, DETAILS_FIXED);
    event->details.comm[sizeof event->details.comm - 1] = '\0';
    return true;
}
