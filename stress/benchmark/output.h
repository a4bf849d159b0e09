/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What is made of the results: tables (valid Markdown), CSV, JSON, plots. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "bench.h"

/* What was measured, on which machine, and how to read a cell; to standard output. */
void table_begin(void);

/* The table of one workload, to standard output, with what was left out and noted. */
void table_print(const struct workload *workload);

/* The numbers that decide, one line for each, of what this run measured; to standard output. */
void summary_print(void);

/*
 * A number as the tables show it. Three digits say all that a median of a few rounds can. Returns
 * what snprintf() does.
 */
int number_text(char *text, size_t size, double value);

/*
 * Write every number of every round, for csv_read(). Returns false, with a message, if the file
 * cannot be written.
 */
bool csv_write(const char *file);

/*
 * Fill the store with what csv_write() has written, as far as the options want these workloads and
 * peers. Ends the program, with a message, if the file cannot be read.
 */
void csv_read(const char *file);

/* Every number of every round, and the command. Likewise. */
bool json_write(const char *file, int argc, char **argv);

/* Charts as SVG in a directory, which is made if missing. Likewise. */
bool plot_write(const char *directory);

#endif
