/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The journal of systemd. Each message is an entry; its text is MESSAGE, and what one searches for
 * has fields of its own. sd_journal_sendv() reports success where there is no journal: so a batch
 * is sent only while its socket is there.
 */
#include "tools/forward/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION /* of this source, which says nothing of an exit */
#include <jansson.h>
#include <systemd/sd-journal.h>

#define SOCKET_PATH "/run/systemd/journal/socket"
#define FIELDS 10

struct entry {
    struct iovec fields[FIELDS];
    int count;
    bool is_short; /* memory for a field was not there */
};

/* `length` is what asprintf() has returned: negative if there was no memory. */
static void add_field(struct entry *entry, char *text, int length)
{
    if (length > 0)
        entry->fields[entry->count++] = (struct iovec){text, (size_t)length};
    else
        entry->is_short = true;
}

static void add(struct entry *entry, const char *name, const char *value)
{
    char *text;
    if (!value || entry->count == FIELDS)
        return;
    int length = asprintf(&text, "%s=%s", name, value);
    add_field(entry, text, length);
}

static void add_member(struct entry *entry, const char *name, const json_t *data,
                       const char *member)
{
    char number[32];
    json_t *value = json_object_get(data, member);
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        add(entry, name, number);
    }
    add(entry, name, json_string_value(value));
}

/* Text without the newline that is behind it. */
static void add_text(struct entry *entry, const struct message *message)
{
    char *text;
    int length = asprintf(&text, "MESSAGE=%.*s", (int)message->size, message->text);
    add_field(entry, text, length);
}

/* A message that is nested too deeply for the parser has no fields of its members.
 * Returns 0 or -errno. */
static int send_entry(const struct message *message)
{
    struct entry entry = {.count = 0};
    json_t *event = json_loadb(message->text, message->size, 0, NULL);
    const json_t *data = json_object_get(event, "data");
    const char *type = json_string_value(json_object_get(event, "type"));
    add_text(&entry, message);
    add(&entry, "PRIORITY", type && strcmp(type, "exitbus.gap") == 0 ? "4" : "6");
    add(&entry, "SYSLOG_IDENTIFIER", "exitbus-forward");
    add(&entry, "EXITBUS_ID", message->id);
    add(&entry, "EXITBUS_TYPE", type);
    add_member(&entry, "EXITBUS_PID", data, "pid");
    add_member(&entry, "EXITBUS_EXIT_CODE", data, "exit_code");
    add_member(&entry, "EXITBUS_CONTAINER", data, "container");
    add_member(&entry, "EXITBUS_EXEC", data, "exec");
    json_decref(event);
    int result = entry.is_short ? -ENOMEM : sd_journal_sendv(entry.fields, entry.count);
    for (int i = 0; i < entry.count; i++)
        free(entry.fields[i].iov_base);
    return result;
}

static bool is_there(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool there = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return there;
}

static int send_entries(struct output *output, struct message *messages, size_t count,
                        const char **why)
{
    int result = 0;
    (void)output;
    *why = "there is no journal at " SOCKET_PATH;
    if (!is_there())
        return -ENOENT;
    for (size_t i = 0; result == 0 && i < count; i++)
        result = send_entry(&messages[i]);
    if (result == 0 && !is_there()) /* it may have gone in between */
        return -ENOENT;
    *why = strerror(-result);
    return result;
}

static void close_journal(struct output *output)
{
    free(output);
}

struct output *output_journal_open(void)
{
    struct output *output = calloc(1, sizeof *output);
    if (output)
        *output =
            (struct output){.start = send_entries, .finish = output_done, .close = close_journal};
    return output;
}
