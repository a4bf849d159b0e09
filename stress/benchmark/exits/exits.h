/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Running a program that measures, and reading the numbers that it prints. */
#ifndef BENCH_EXITS_H
#define BENCH_EXITS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Run a command line of the shell and read `count` numbers from its standard output. False, and
 * what it said on standard error stands there, if it fails or prints something else.
 */
bool command_numbers(const char *command, double *numbers, size_t count);

#endif
