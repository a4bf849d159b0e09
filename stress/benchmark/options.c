/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line: see struct bench_options. */
#include "options.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>

const char *argp_program_version = "exitbus-bench " BENCH_VERSION;

#define DEFAULT_ROUNDS 5
#define QUICK_SECONDS 60
#define QUICK_ROUNDS 3

enum {
    KEY_PEER = 256,
    KEY_FROM,
    KEY_CSV,
    KEY_JSON,
    KEY_PLOT,
    KEY_CHECK,
    KEY_LIST,
    KEY_QUICK,
    KEY_THREADS,
    KEY_BACKLOG
};

static const struct argp_option known[] = {
    {NULL, 0, NULL, 0, "What to run:", 1},
    {"workload", 'w', "NAME,…", 0, "only these workloads (all)", 1},
    {"peer", KEY_PEER, "NAME,…", 0, "exitbus and only these peers (all)", 1},
    {"threads", KEY_THREADS, "N", 0, "each measurement in N threads, of the workloads that can", 1},
    {"list", KEY_LIST, NULL, 0, "name the workloads and the peers", 1},
    {NULL, 0, NULL, 0, "How long:", 2},
    {"rounds", 'r', "N", 0, "measure every number so many times (5)", 2},
    {"seconds", 's', "N", 0, "about how long all workloads take together (480)", 2},
    {"quick", KEY_QUICK, NULL, 0, "as --seconds 60 --rounds 3", 2},
    {"from", KEY_FROM, "FILE", 0, "measure nothing: read what --csv has written", 2},
    {NULL, 0, NULL, 0, "What to do with it:", 3},
    {"csv", KEY_CSV, "FILE", 0, "write every number of every round as CSV", 3},
    {"json", KEY_JSON, "FILE", 0, "likewise as JSON, with the command", 3},
    {"plot", KEY_PLOT, "DIR", 0, "draw charts there as SVG, by gnuplot", 3},
    {"check", KEY_CHECK, NULL, 0, "fail if a target is missed", 3},
    {"backlog-alone", KEY_BACKLOG, "PEER:EVENTS:SUBSCRIPTIONS", OPTION_HIDDEN, NULL, 3},
    {0}};

static double number(const char *text, double lowest, double highest,
                     const struct argp_state *state)
{
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= lowest && value <= highest))
        argp_error(state, "'%s' is not a number from %g to %g", text, lowest, highest);
    return value;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct bench_options *options = state->input;
    switch (key) {
    case 'w':
        options->workloads = text;
        return 0;
    case 'r':
        options->rounds = (unsigned)number(text, 1, ROUNDS_MAX, state);
        return 0;
    case 's':
        options->seconds = number(text, 1, 1e6, state);
        return 0;
    case KEY_QUICK:
        options->seconds = QUICK_SECONDS;
        options->rounds = QUICK_ROUNDS;
        return 0;
    case KEY_THREADS:
        options->threads = (unsigned)number(text, 2, THREADS_MAX, state);
        if (options->threads % 2 != 0)
            argp_error(state, "'%s' is not even: a pair has two threads", text);
        return 0;
    case KEY_PEER:
        options->peers = text;
        return 0;
    case KEY_FROM:
        options->from = text;
        return 0;
    case KEY_CSV:
        options->csv = text;
        return 0;
    case KEY_JSON:
        options->json = text;
        return 0;
    case KEY_PLOT:
        options->plots = text;
        return 0;
    case KEY_CHECK:
        options->check = true;
        return 0;
    case KEY_BACKLOG:
        options->backlog = text;
        return 0;
    case KEY_LIST:
        options->list = true;
        return 0;
    case ARGP_KEY_END:
        if (options->from && options->json)
            argp_error(state, "--json tells of a measurement, and --from makes none");
        if (options->from && options->threads)
            argp_error(state, "--threads is for a measurement, and --from makes none");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void options_parse(int argc, char **argv)
{
    static const struct argp argp = {
        known,
        parse,
        NULL,
        "Measures exitbus and its peers, interleaved in one run, and compares the ratios with "
        "targets.\vExit status: 0 done (with --check: all targets met), 1 a target was missed, 2 "
        "usage, 3 the environment does not allow the run. See exitbus-bench(1).",
        NULL,
        NULL,
        NULL};
    bench = (struct bench_options){.rounds = DEFAULT_ROUNDS, .seconds = BENCH_SECONDS};
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &bench);
}

bool options_named(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *part = list; part; part = strchr(part, ',')) {
        part += *part == ',';
        if (strncmp(part, name, size) == 0 && (part[size] == ',' || part[size] == '\0'))
            return true;
    }
    return false;
}
