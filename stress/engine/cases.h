/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The result as test cases, for programs that collect those of many tests: one case for the run,
 * and one for each guarantee. Return 0, or -1.
 */
#ifndef STRESS_CASES_H
#define STRESS_CASES_H

#include <stdio.h>

/* As JUnit has them: https://github.com/testmoapp/junitxml describes what readers agree on. */
int cases_junit(FILE *file);

/* The Test Anything Protocol, version 14: https://testanything.org */
int cases_tap(FILE *file);

#endif
