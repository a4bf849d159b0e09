/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is made of the results: tables (valid Markdown), JSON, plots. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "bench.h"

/* The table of one workload, to standard output, with what was left out and noted. */
void table_print(const struct workload *workload);

/* Every number of every round. False, with a message, if the file cannot be written. */
bool json_write(const char *file, int argc, char **argv);

/* Curves as PNG in a directory, which is made if missing. Likewise. */
bool plot_write(const char *directory);

#endif
