/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line of exitbus-stress. */
#ifndef STRESS_OPTIONS_H
#define STRESS_OPTIONS_H

#include "world.h"

enum {
    EXIT_PASS = 0,
    EXIT_VIOLATION = 1,
    EXIT_USAGE = 2,
    EXIT_ENVIRONMENT = 3,
    EXIT_INCONCLUSIVE = 4,
    EXIT_CRASH = 5,
    EXIT_HANG = 6
};

/* Ends the process for --help, --version and wrong use. */
void options_parse(int argc, char **argv, struct options *options);

#endif
