/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line. Exits with 2 for a bad one. */
#ifndef STRESS_OPTIONS_H
#define STRESS_OPTIONS_H

#include "world.h"

enum exit_code { EXIT_PASS = 0, EXIT_VIOLATION = 1, EXIT_USAGE = 2, EXIT_ENVIRONMENT = 3 };

void options_parse(int argc, char **argv, struct options *options);

#endif
