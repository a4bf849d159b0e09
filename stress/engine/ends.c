/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Untimely ends: see ends.h. */
#include "ends.h"
#include "../checks/verdict.h"
#include "options.h"
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void refuse(int status)
{
    atomic_store(&world->ending, ENDING_REFUSED);
    exit(status);
}

void must(int outcome, const char *what)
{
    if (outcome >= 0)
        return;
    fprintf(stderr, "exitbus-stress: %s: %s\n", what, strerror(-outcome));
    verdict_violated(CLEAN_FAILURE, "%s: %s", what, strerror(-outcome));
    result->elapsed = (double)(now_ns() - world->begin_ns) / 1e9;
    atomic_store(&world->ending, ENDING_FAILED);
    fflush(NULL);
    _exit(EXIT_VIOLATION);
}
