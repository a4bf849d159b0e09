/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* CloudEvents of records: see message.h. */
#include "tools/forward/message.h"
#include "tools/forward/identity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#define TYPE_LINE "exitbus.line"
#define SUBJECT_MAX 1280

/* A message that is being made. */
struct draft {
    struct text text;
    char id[MESSAGE_ID_MAX];
    char subject[SUBJECT_MAX];
    char type[96];
};

/* ------------------------------------------------------------------------------------ names */

static bool is_plain(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

void message_token(const char *text, char *token, size_t size)
{
    bool ours = strcmp(text, "pid") == 0 || strcmp(text, "bus") == 0;
    size_t used = 0;
    for (const char *at = text; *at && used + 4 < size; at++) {
        unsigned char byte = (unsigned char)*at;
        if (is_plain(byte) && !(ours && at == text))
            token[used++] = (char)byte;
        else
            used += (size_t)snprintf(token + used, size - used, "~%02x", byte);
    }
    token[used] = '\0';
}

void message_origin_set(struct message_origin *origin, const char *machine, const char *host)
{
    origin->machine = machine;
    origin->host = host;
    message_token(host, origin->host_token, sizeof origin->host_token);
}

static void set_subject(const struct message_origin *origin, struct draft *draft,
                        const char *container, const char *otherwise)
{
    char token[3 * EXITBUS_ID_MAX + 8];
    message_token(container, token, sizeof token);
    const char *parts[] = {"exitbus.", origin->host_token, ".", container[0] ? token : otherwise};
    char *to = draft->subject;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        to = stpcpy(to, parts[i]);
}

static void hex(struct text *text, const uint8_t bytes[16])
{
    char digits[33];
    identity_text(bytes, digits);
    text_puts(text, digits);
    text_puts(text, "/");
}

/* MACHINE/BOOT/INSTANCE/LAST. The last part is the place in the bus, or what the bus has once. */
static void set_id(const struct message_origin *origin, const struct record *record,
                   const struct record_event *event, struct draft *draft)
{
    struct text id = {draft->id, draft->id + sizeof draft->id - 1};
    text_puts(&id, origin->machine);
    text_puts(&id, "/");
    hex(&id, record->head.boot);
    hex(&id, record->head.instance);
    switch (record->head.kind) {
    case RECORD_BEGIN:
        text_puts(&id, "begin");
        break;
    case RECORD_END:
        text_puts(&id, "end");
        break;
    case RECORD_ALIVE:
        text_puts(&id, "alive-");
        text_number(&id, (uint64_t)event->event.pid);
        text_puts(&id, "-");
        text_number(&id, event->details.start_ns);
        break;
    default:
        text_number(&id, record->head.seq);
    }
    *id.at = '\0';
}

/* ---------------------------------------------------------------------------------- envelope */

static void begin(struct message_origin *origin, struct draft *draft)
{
    draft->text = (struct text){origin->space, origin->space + sizeof origin->space};
    text_puts(&draft->text, "{\"specversion\":\"1.0\"");
    text_member_string(&draft->text, "id", draft->id);
    text_puts(&draft->text, ",\"source\":\"//");
    text_puts(&draft->text, origin->host_token);
    text_puts(&draft->text, "/exitbus\"");
    text_member_string(&draft->text, "type", draft->type);
    text_puts(&draft->text, ",\"datacontenttype\":\"application/json\"");
}

/* RFC 3339, in UTC. The text of a second is made once. */
static void put_time(struct message_origin *origin, struct text *text, uint64_t realtime_ns)
{
    char part[16];
    struct tm parts;
    time_t second = (time_t)(realtime_ns / 1000000000);
    if (realtime_ns == 0 || !gmtime_r(&second, &parts))
        return;
    if (origin->second != (uint64_t)second)
        strftime(origin->second_text, sizeof origin->second_text, "%Y-%m-%dT%H:%M:%S", &parts);
    origin->second = (uint64_t)second;
    snprintf(part, sizeof part, ".%09uZ\"", (unsigned)(realtime_ns % 1000000000));
    text_puts(text, ",\"time\":\"");
    text_puts(text, origin->second_text);
    text_puts(text, part);
}

/* Close the object, and copy all that is made. */
static int finish(struct message_origin *origin, struct draft *draft, struct message *message)
{
    text_puts(&draft->text, "}");
    size_t size = (size_t)(draft->text.at - origin->space);
    size_t id_size = strlen(draft->id) + 1, subject_size = strlen(draft->subject) + 1;
    char *to = malloc(size + 2 + id_size + subject_size);
    if (!to)
        return -ENOMEM;
    message->text = to;
    message->size = size;
    to = mempcpy(mempcpy(to, origin->space, size), "\n", 2);
    message->id = to;
    to = mempcpy(to, draft->id, id_size);
    message->subject = to;
    memcpy(to, draft->subject, subject_size);
    return 0;
}

void message_free(struct message *message)
{
    free(message->text);
    message->text = NULL;
}

/* ---------------------------------------------------------------------------- events of a bus */

static const char *event_type(const struct record *record, const struct exitbus_event *event)
{
    static const char *const types[] = {[EXITBUS_EVENT_PID] = "exitbus.process.exited",
                                        [EXITBUS_EVENT_EXEC] = "exitbus.exec.exited",
                                        [EXITBUS_EVENT_EMPTY] = "exitbus.group.empty",
                                        [EXITBUS_EVENT_STARTED] = "exitbus.exec.started",
                                        [EXITBUS_EVENT_LEADER_DIED] = "exitbus.leader.died",
                                        [EXITBUS_EVENT_OOM] = "exitbus.oom.killed"};
    if (record->head.kind == RECORD_BEGIN)
        return "exitbus.bus.begin";
    if (record->head.kind == RECORD_END)
        return "exitbus.bus.end";
    if (record->head.kind == RECORD_ALIVE)
        return "exitbus.process.alive";
    if (event->kind < sizeof types / sizeof *types && types[event->kind])
        return types[event->kind];
    return "exitbus.event"; /* of a later version */
}

static void put_exit(struct text *text, const struct exitbus_event *event)
{
    text_member_number(text, "status", event->status);
    text_member_number(text, "exit_code", event->exit_code);
    if (event->flags & EXITBUS_EVENT_CORE_DUMPED)
        text_puts(text, ",\"core_dumped\":true");
    if (event->flags & EXITBUS_EVENT_STATUS_LOST)
        text_puts(text, ",\"status_lost\":true");
    if (event->flags & EXITBUS_EVENT_CUT_SHORT)
        text_puts(text, ",\"cut_short\":true");
    text_member_number(text, "monotonic_ns", (int64_t)event->monotonic_ns);
    text_member_number(text, "user_us", (int64_t)event->user_us);
    text_member_number(text, "system_us", (int64_t)event->system_us);
    text_member_number(text, "max_rss_kib", (int64_t)event->max_rss_kib);
}

/* Members that say nothing are left out. */
static void put_data(struct text *text, const struct record *record,
                     const struct record_event *event)
{
    text_puts(text, ",\"data\":{");
    text_member_number(text, "seq", (int64_t)record->head.seq);
    if (event->event.pid > 0)
        text_member_number(text, "pid", event->event.pid);
    if (event->event.container_id[0]) {
        text_member_string(text, "container", event->event.container_id);
        text_member_string(text, "exec", event->event.exec_id);
    }
    if (record->head.kind == RECORD_EVENT)
        put_exit(text, &event->event);
    if (event->details.start_ns > 0) {
        text_member_string(text, "comm", event->details.comm);
        text_member_number(text, "start_ns", (int64_t)event->details.start_ns);
    }
    text_puts(text, "}");
}

static int message_of_event(struct message_origin *origin, const struct record *record,
                            struct message *message)
{
    struct record_event event;
    struct draft draft;
    if (!record_unpack(record, &event))
        return -EBADMSG;
    bool is_bus = record->head.kind == RECORD_BEGIN || record->head.kind == RECORD_END;
    stpcpy(draft.type, event_type(record, &event.event));
    set_id(origin, record, &event, &draft);
    set_subject(origin, &draft, event.event.container_id, is_bus ? "bus" : "pid");
    begin(origin, &draft);
    put_time(origin, &draft.text, event.event.realtime_ns);
    put_data(&draft.text, record, &event);
    return finish(origin, &draft, message);
}

/* ------------------------------------------------------------------------------------- lines */

/* Returns the text of the first of two members, or NULL if there is none of at most `longest`. */
static const char *member(const json_t *object, const char *name, const char *other_name,
                          size_t longest)
{
    const char *value = json_string_value(json_object_get(object, name));
    if (!value)
        value = json_string_value(json_object_get(object, other_name));
    return value && strlen(value) <= longest ? value : NULL;
}

/* The object of a line goes out as it came, as `data`. Of its members only these are looked at:
 * `event` or `type`, `container` or `container_id`, and `time`; none of them must be there. */
static int message_of_line(struct message_origin *origin, const struct record *record,
                           struct message *message)
{
    struct draft draft;
    json_t *data = json_loadb(record->body, record->head.body_size, 0, NULL);
    if (!json_is_object(data)) {
        json_decref(data);
        return -EBADMSG;
    }
    const char *name = member(data, "event", "type", 64);
    const char *container = member(data, "container", "container_id", EXITBUS_ID_MAX);
    const char *time = member(data, "time", "time", 64);
    stpcpy(stpcpy(stpcpy(draft.type, TYPE_LINE), name ? "." : ""), name ? name : "");
    set_id(origin, record, NULL, &draft);
    set_subject(origin, &draft, container ? container : "", "pid");
    begin(origin, &draft);
    if (time)
        text_member_string(&draft.text, "time", time);
    json_decref(data);
    text_puts(&draft.text, ",\"data\":");
    text_put(&draft.text, record->body, record->head.body_size);
    return finish(origin, &draft, message);
}

/* -------------------------------------------------------------------------------------- both */

int message_of_record(struct message_origin *origin, const struct record *record,
                      struct message *message)
{
    switch (record->head.kind) {
    case RECORD_EVENT:
    case RECORD_BEGIN:
    case RECORD_END:
    case RECORD_ALIVE:
        return message_of_event(origin, record, message);
    case RECORD_LINE:
        return message_of_line(origin, record, message);
    default:
        return -EBADMSG;
    }
}

int message_of_gap(struct message_origin *origin, uint64_t first, uint64_t last,
                   struct message *message)
{
    struct draft draft = {.type = "exitbus.gap"};
    snprintf(draft.id, sizeof draft.id, "%.64s/spool/%s/gap-%" PRIu64 "-%" PRIu64, origin->machine,
             origin->cursor, first, last);
    set_subject(origin, &draft, "", "bus");
    begin(origin, &draft);
    text_puts(&draft.text, ",\"data\":{");
    text_member_number(&draft.text, "lost", (int64_t)(last - first + 1));
    text_member_number(&draft.text, "first", (int64_t)first);
    text_member_number(&draft.text, "last", (int64_t)last);
    text_puts(&draft.text, "}");
    return finish(origin, &draft, message);
}
