/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The command line: see options.h. */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

enum { KEY_CHILD = 256, KEY_JSON, KEY_SEED, KEY_PRODUCERS, KEY_STEADY, KEY_CHURNERS, KEY_SPAWNERS };

static const struct argp_option known[] = {
    {"seconds", 's', "N", 0, "how long to run (10)", 0},
    {"json", KEY_JSON, "FILE", 0, "write the result as JSON, too", 0},
    {"seed", KEY_SEED, "N", 0, "repeat the random choices of another run", 0},
    {"producers", KEY_PRODUCERS, "N", 0, "threads that publish synthetic events (3)", 1},
    {"steady", KEY_STEADY, "N", 0, "subscribers to everything for the whole run (4)", 1},
    {"churners", KEY_CHURNERS, "N", 0, "threads that subscribe and unsubscribe (3)", 1},
    {"spawners", KEY_SPAWNERS, "N", 0, "threads that start real children (2)", 1},
    {"child", KEY_CHILD, "PROGRAM", 0, "what they start, in place of the small one built here", 1},
    {0}};

static uint64_t number(const char *text, uint64_t lowest, uint64_t highest,
                       const struct argp_state *state)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno || *end || end == text || value < lowest || value > highest)
        argp_error(state, "'%s' is not a number from %llu to %llu", text,
                   (unsigned long long)lowest, (unsigned long long)highest);
    return value;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 's':
        options->seconds = (unsigned)number(text, 1, 1000000, state);
        return 0;
    case KEY_JSON:
        options->json = text;
        return 0;
    case KEY_SEED:
        options->seed = number(text, 0, UINT64_MAX, state);
        return 0;
    case KEY_PRODUCERS:
        options->producers = (unsigned)number(text, 0, PRODUCERS_MAX, state);
        return 0;
    case KEY_STEADY:
        options->steady = (unsigned)number(text, 1, STEADY_MAX, state);
        return 0;
    case KEY_CHURNERS:
        options->churners = (unsigned)number(text, 0, 64, state);
        return 0;
    case KEY_SPAWNERS:
        options->spawners = (unsigned)number(text, 0, 64, state);
        return 0;
    case KEY_CHILD:
        options->child = text;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void options_parse(int argc, char **argv, struct options *options)
{
    static const struct argp argp = {
        known,
        parse,
        NULL,
        "Holds the exit-event bus to its promises, on real children and synthetic events, and says "
        "PASS or FAIL.\vExit status: 0 pass, 1 a promise was broken, 2 usage, 3 the environment "
        "does not allow the run.",
        NULL,
        NULL,
        NULL};
    *options = (struct options){.seconds = 10,
                                .producers = 3,
                                .steady = 4,
                                .churners = 3,
                                .spawners = 2,
                                .child = TINY_CHILD,
                                .argc = argc,
                                .argv = argv};
    if (getrandom(&options->seed, sizeof options->seed, GRND_NONBLOCK) < 0)
        options->seed = now_ns();
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, options);
}
