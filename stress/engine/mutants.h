/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* exitbus with one deliberate defect at a time: each must be caught (--mutants). */
#ifndef STRESS_MUTANTS_H
#define STRESS_MUTANTS_H

/* Returns the exit status. */
int mutants_run(void);

#endif
