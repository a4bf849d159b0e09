/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line, which fills in `bench`. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "bench.h"

#define ROUNDS_MAX 1000
#define THREADS_MAX 1024

/* Ends the program with EXIT_USAGE if it makes no sense. */
void options_parse(int argc, char **argv);

/* Is `name` in a list NAME,…? */
bool options_named(const char *list, const char *name);

#endif
