/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The memory that a subject may take from the engine: counted, and made to fail at random. */
#ifndef STRESS_HOST_H
#define STRESS_HOST_H

#include "../subject.h"

#include <stdbool.h>

extern const struct subject_host host;

/* Of allocations from now on one in `odds` succeeds, with 1 none; 0: all do. */
void host_starve(unsigned odds);
/* Bytes that the subject holds. */
size_t host_bytes(void);
/* Has it ever asked? */
bool host_used(void);

#endif
