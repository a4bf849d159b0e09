/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the run was asked for, as workloads and peers see it; and how it ends if it can't go on. */
#include "options.h"
#include "peers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bench_options bench;

void bench_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "exitbus-bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(EXIT_ENVIRONMENT);
}

bool bench_wants(const char *peer)
{
    return !bench.peers || strcmp(peer, EXITBUS) == 0 || options_named(bench.peers, peer);
}

uint64_t bench_slice(double milliseconds)
{
    /* The clock and the start of threads want to be small beside it. */
    const double least_ns = 2e6;
    double ns = milliseconds * 1e6 * bench.seconds / BENCH_SECONDS;
    return (uint64_t)(ns > least_ns ? ns : least_ns);
}
