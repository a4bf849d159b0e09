/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * JSON, written member by member. jansson reads JSON here, and says what is valid; to build its
 * objects and dump them takes twice the time of all else that is done for an event.
 */
#ifndef TOOLS_FORWARD_TEXT_H
#define TOOLS_FORWARD_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* What does not fit is left out, and `at` stays before `end`: give it room. */
struct text {
    char *at;
    char *end;
};

/* As it is. */
void text_put(struct text *text, const char *bytes, size_t size);
void text_puts(struct text *text, const char *string);
void text_number(struct text *text, uint64_t number);
/* In quotes. Text that is not UTF-8 has '?' for each byte above 127. */
void text_string(struct text *text, const char *string);

/* A member of an object, with its comma unless it is the first. */
void text_member_string(struct text *text, const char *name, const char *value);
void text_member_number(struct text *text, const char *name, int64_t value);

#endif
