/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Finding a subject by its name: built in, or a shared object. */
#ifndef STRESS_LOAD_H
#define STRESS_LOAD_H

#include "../subject.h"

/* NULL, with a message. A name with a slash is a file; others are looked for beside the program,
 * too. */
const struct subject *subject_load(const char *name);

/* "exitbus", … one a line, with its summary. */
void subject_list(void);

#endif
