/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A subject, an argument or a file name may hold any bytes; JSON and XML may not. */
#include "text.h"

#include <glib.h>

void text_clean(char *text)
{
    const char *wrong = text;
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = ' ';
    while (!g_utf8_validate(wrong, -1, &wrong))
        text[wrong - text] = '?';
}
