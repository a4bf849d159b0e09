/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line: see options.h. */
#include "options.h"

#include <argp.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

const char *argp_program_version = "exitbus-stress " STRESS_VERSION;

enum {
    KEY_CHILD = 256,
    KEY_JSON,
    KEY_REPORT,
    KEY_HISTORY,
    KEY_SEED,
    KEY_PRODUCERS,
    KEY_STEADY,
    KEY_PATIENCE,
    KEY_SUBJECT,
    KEY_MUTANTS,
    KEY_LIST,
    KEY_MEDIAN,
    KEY_SCHEDULES,
    KEY_SCHEDULE,
    KEY_OUTCOMES,
    KEY_PLUGIN,
    KEY_EVERY,
    KEY_JUNIT,
    KEY_TAP,
    KEY_TRACE,
    KEY_REPEAT,
    KEY_UNTIL_FAILURE,
    KEY_KEEP_GOING,
    KEY_INSIDE
};

static const struct argp_option known[] = {
    {NULL, 0, NULL, 0, "What to run:", 1},
    {"seconds", 's', "N", 0, "how long (10); with --mutants, for each at the most (60)", 1},
    {"subject", KEY_SUBJECT, "NAME", 0, "the bus: a built-in one or ./FILE.so (exitbus)", 1},
    {"scenario", 'S', "NAME,…", 0, "only these scenarios (all that fit the subject)", 1},
    {"plugin", KEY_PLUGIN, "FILE.so", 0, "a scenario of your own, beside the others", 1},
    {"seed", KEY_SEED, "N", 0, "repeat the random choices of another run", 1},
    {"mutants", KEY_MUTANTS, NULL, 0, "run exitbus with one defect at a time: all must be caught",
     1},
    {"median", KEY_MEDIAN, NULL, 0, "--mutants, each five times: the median of the times", 1},
    {"history", KEY_HISTORY, "FILE", 0,
     "record short complete histories, and decide whether they are linearizable", 1},
    {"schedules", KEY_SCHEDULES, "N", 0,
     "run so many scenes with one thread at a time, and look for one that is not linearizable", 1},
    {"schedule", KEY_SCHEDULE, "STRING", 0, "run one of those again", 1},
    {"outcomes", KEY_OUTCOMES, "SCENE", 0,
     "run a small scene very often, and count what comes out (all: each of them)", 1},
    {"repeat", KEY_REPEAT, "N", 0, "so many runs, with one seed after the other (1)", 1},
    {"until-failure", KEY_UNTIL_FAILURE, NULL, 0, "runs without end, until one fails", 1},
    {"keep-going", KEY_KEEP_GOING, NULL, 0, "go on after a violation, until the time is over", 1},
    {"list", KEY_LIST, NULL, 0, "name the scenarios and the built-in subjects", 1},
    {NULL, 0, NULL, 0, "What to write:", 2},
    {"json", KEY_JSON, "FILE", 0, "the result as JSON", 2},
    {"report", KEY_REPORT, "FILE", 0, "the result as a page of HTML", 2},
    {"junit", KEY_JUNIT, "FILE", 0, "the result as test cases, for JUnit's readers", 2},
    {"tap", KEY_TAP, "FILE", 0, "the result as test cases, by the Test Anything Protocol", 2},
    {"trace", KEY_TRACE, "FILE", 0,
     "after a violation: the last calls of every thread, for ui.perfetto.dev", 2},
    {"every", KEY_EVERY, "SECONDS", 0,
     "a line of statistics, where standard error is no terminal (10; 0: none)", 2},
    {NULL, 0, NULL, 0, "How much:", 3},
    {"producers", KEY_PRODUCERS, "N", 0, "threads that publish synthetic events (3)", 3},
    {"steady", KEY_STEADY, "N", 0, "subscribers to everything for the whole run (4)", 3},
    {"patience", KEY_PATIENCE, "SECONDS", 0, "a call that takes longer hangs (8)", 3},
    {"child", KEY_CHILD, "PROGRAM", 0, "what is started, in place of the small one built here", 3},
    {"inside", KEY_INSIDE, NULL, OPTION_HIDDEN, NULL, 3},
    {0}};

static uint64_t number(const char *text, uint64_t lowest, uint64_t highest,
                       const struct argp_state *state)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno || *end || end == text || *text == '-' || value < lowest || value > highest)
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
    case 'S':
        options->scenarios = text;
        return 0;
    case KEY_SUBJECT:
        options->subject = text;
        return 0;
    case KEY_SEED:
        options->seed = number(text, 0, UINT64_MAX, state);
        return 0;
    case KEY_MUTANTS:
        options->mutants = true;
        return 0;
    case KEY_MEDIAN:
        options->mutants = options->median = true;
        return 0;
    case KEY_LIST:
        options->list = true;
        return 0;
    case KEY_INSIDE:
        options->inside = true;
        return 0;
    case KEY_SCHEDULES:
        options->schedules = number(text, 1, UINT64_MAX, state);
        return 0;
    case KEY_SCHEDULE:
        options->schedule = text;
        return 0;
    case KEY_OUTCOMES:
        options->outcomes = text;
        return 0;
    case KEY_PLUGIN:
        if (options->plugin_count == PLUGINS_MAX)
            argp_error(state, "there can be %d plug-ins", PLUGINS_MAX);
        options->plugins[options->plugin_count++] = text;
        return 0;
    case KEY_EVERY:
        options->every = (unsigned)number(text, 0, 1000000, state);
        return 0;
    case KEY_REPEAT:
        options->repeat = (unsigned)number(text, 1, 1000000000, state);
        return 0;
    case KEY_UNTIL_FAILURE:
        options->until_failure = true;
        return 0;
    case KEY_KEEP_GOING:
        options->keep_going = true;
        return 0;
    case KEY_HISTORY:
        options->history = text;
        return 0;
    case KEY_JSON:
        options->outputs[OUTPUT_JSON] = text;
        return 0;
    case KEY_REPORT:
        options->outputs[OUTPUT_PAGE] = text;
        return 0;
    case KEY_JUNIT:
        options->outputs[OUTPUT_JUNIT] = text;
        return 0;
    case KEY_TAP:
        options->outputs[OUTPUT_TAP] = text;
        return 0;
    case KEY_TRACE:
        options->outputs[OUTPUT_TRACE] = text;
        return 0;
    case KEY_PRODUCERS:
        options->producers = (unsigned)number(text, 1, 6, state);
        return 0;
    case KEY_STEADY:
        options->steady = (unsigned)number(text, 1, STEADY_MAX, state);
        return 0;
    case KEY_PATIENCE:
        options->patience = (unsigned)number(text, 1, 1000, state);
        return 0;
    case KEY_CHILD:
        options->child = text;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The small child: where it was built, or installed. */
static const char *find_child(void)
{
    static char path[PATH_MAX + 64];
    char self_path[PATH_MAX] = "";
    if (access(TINY_CHILD, X_OK) == 0 ||
        readlink("/proc/self/exe", self_path, sizeof self_path - 1) < 0)
        return TINY_CHILD;
    snprintf(path, sizeof path, "%s/../libexec/exitbus/exitbus-tiny", dirname(self_path));
    return path;
}

void options_parse(int argc, char **argv, struct options *options)
{
    static const struct argp argp = {
        known,
        parse,
        NULL,
        "Holds an event bus to its promises, on real children and synthetic events, and says "
        "PASS, FAIL, INCONCLUSIVE, CRASH or HANG.\vExit status: 0 pass, 1 a promise was broken, 2 "
        "usage, 3 the environment does "
        "not allow the run, 4 inconclusive, 5 a crash, 6 a hang. See exitbus-stress(1).",
        NULL,
        NULL,
        NULL};
    *options = (struct options){.producers = 3,
                                .steady = 4,
                                .patience = 8,
                                .every = 10,
                                .repeat = 1,
                                .subject = "exitbus",
                                .child = find_child(),
                                .argc = argc,
                                .argv = argv};
    if (getrandom(&options->seed, sizeof options->seed, GRND_NONBLOCK) < 0)
        options->seed = now_ns();
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, options);
    if (options->seconds == 0)
        options->seconds = options->mutants ? 60 : 10;
}
