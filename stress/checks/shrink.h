/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The fewest calls of a history that still cannot be explained. Only what a bus could have done
 * without is left out: an event with all that received it, a subscription with all its calls, an
 * unsubscribe with the receives that were told of it, a receive that found nothing. Each of these
 * leaves a linearizable history linearizable, so what remains is wrong for a reason that was there
 * before. The idea is QuickCheck's (Claessen and Hughes, 2000) and delta debugging's (Zeller,
 * 1999).
 */
#ifndef STRESS_SHRINK_H
#define STRESS_SHRINK_H

#include "linear.h"

#include <stdio.h>

/*
 * Shrink a history for which linear_check() says LINEAR_NO, in place; each check may search
 * `budget` states. Returns how many calls are left: none of what is named above can go any more.
 */
size_t shrink(struct linear_operation *operations, size_t count, uint64_t budget);

/*
 * Print a history as a lane for each thread, with a number in each call, and what the calls are.
 * The calls are in the order of their begin. What `why` names is marked, if it is not NULL.
 */
void shrink_print(FILE *file, const struct linear_operation *operations, size_t count,
                  const struct linear_explanation *why);

#endif
