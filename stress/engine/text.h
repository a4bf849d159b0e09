/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Text that comes from outside: see text.c. */
#ifndef STRESS_TEXT_H
#define STRESS_TEXT_H

/* Replace what no report can carry: control characters, and what is no UTF-8. In place. */
void text_clean(char *text);

#endif
