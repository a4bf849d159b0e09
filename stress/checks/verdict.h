/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What was checked, by guarantee, and what was found. */
#ifndef STRESS_VERDICT_H
#define STRESS_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

enum guarantee { G1, G2, G3, G4, G5, G6, G7, G8, G9, GUARANTEES };

extern const char *const guarantee_names[GUARANTEES];

/* Count checks that have held. */
void verdict_held(enum guarantee guarantee, uint64_t checks);

/* Report a violation: printed at once (the first of each guarantee in full), counted in the end. */
void verdict_violated(enum guarantee guarantee, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

uint64_t verdict_checks(enum guarantee guarantee);
uint64_t verdict_violations(enum guarantee guarantee);
bool verdict_good(void);

#endif
