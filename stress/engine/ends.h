/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Untimely ends of the process of a run, after which the process that watches over it reports. */
#ifndef STRESS_ENDS_H
#define STRESS_ENDS_H

/* The run can't begin, for a reason that was printed. */
_Noreturn void refuse(int status);

/* If `outcome`, of a call without which there is no run, is negative: fail. */
void must(int outcome, const char *what);

#endif
