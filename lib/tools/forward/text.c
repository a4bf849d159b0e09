/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "tools/forward/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

void text_put(struct text *text, const char *bytes, size_t size)
{
    if (size < (size_t)(text->end - text->at))
        text->at = mempcpy(text->at, bytes, size);
}

void text_puts(struct text *text, const char *string)
{
    text_put(text, string, strlen(string));
}

void text_number(struct text *text, uint64_t number)
{
    char digits[20], *first = digits + sizeof digits;
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    text_put(text, first, (size_t)(digits + sizeof digits - first));
}

static bool is_utf8(const char *string)
{
    bool is_ascii = true;
    for (const char *at = string; *at; at++)
        is_ascii = is_ascii && (unsigned char)*at < 0x80;
    json_t *value = is_ascii ? NULL : json_string(string);
    json_decref(value);
    return is_ascii || value;
}

void text_string(struct text *text, const char *string)
{
    char escape[8];
    bool keeps_high = is_utf8(string);
    text_puts(text, "\"");
    for (const char *at = string; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            text_puts(text, escape);
        } else {
            text_put(text, byte >= 0x80 && !keeps_high ? "?" : at, 1);
        }
    }
    text_puts(text, "\"");
}

static void name_of(struct text *text, const char *name)
{
    text_puts(text, text->at[-1] == '{' ? "\"" : ",\"");
    text_puts(text, name);
    text_puts(text, "\":");
}

void text_member_string(struct text *text, const char *name, const char *value)
{
    name_of(text, name);
    text_string(text, value);
}

void text_member_number(struct text *text, const char *name, int64_t value)
{
    name_of(text, name);
    if (value < 0)
        text_puts(text, "-");
    text_number(text, value < 0 ? -(uint64_t)value : (uint64_t)value);
}
