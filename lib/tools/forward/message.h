/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What an engine is given of a record: an event in the JSON format of CloudEvents 1.0, an id and a
 * subject. Both are made from the record alone, so a record that is sent again has the same id.
 */
#ifndef TOOLS_FORWARD_MESSAGE_H
#define TOOLS_FORWARD_MESSAGE_H

#include "tools/forward/spool.h"
#include "tools/forward/text.h"

#define MESSAGE_ID_MAX 256
#define MESSAGE_SPACE (RECORD_BODY_MAX + 8192)

/* The machine, and space to write in. The strings live as long as it is used. */
struct message_origin {
    const char *machine;  /* machine-id */
    const char *host;     /* name, as it is */
    char host_token[800]; /* as a token of a subject */
    char cursor[64];      /* the output's name, in the ids of gaps */
    uint64_t second;      /* whose text is: */
    char second_text[32];
    char space[MESSAGE_SPACE];
};

/* `text` is one block of memory: the CloudEvent, a newline, a NUL, the id, a NUL, the subject. */
struct message {
    char *text;
    size_t size; /* of the CloudEvent */
    const char *id;
    const char *subject;
};

void message_origin_set(struct message_origin *origin, const char *machine, const char *host);

/* Make the message for a record. Returns 0; -EBADMSG it tells nothing that can be sent; -ENOMEM. */
int message_of_record(struct message_origin *origin, const struct record *record,
                      struct message *message);
/* … for numbers that are lost. Returns 0 or -ENOMEM. */
int message_of_gap(struct message_origin *origin, uint64_t first, uint64_t last,
                   struct message *message);
void message_free(struct message *message);

/* A token of a subject: bytes other than letters, digits, '-' and '_' as ~HEX. A token that is one
 * of ours, `pid` or `bus`, gets its first letter so, too; thus two names never have one token. */
void message_token(const char *text, char *token, size_t size);

#endif
