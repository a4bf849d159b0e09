/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line, and EXITBUS_RUN_OPTIONS: see run.h. */
#include "tools/run/run.h"

#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS_MAX 256 /* in EXITBUS_RUN_OPTIONS */
#define DEATHS_MAX 10000
#define CODE_MAX (RUN_CODES - 1)

static const char help[] =
    "usage: exitbus-run [options] [--] COMMAND [ARGUMENT…] [::: COMMAND…]\n"
    "\n"
    "Runs commands as an init does: passes signals on, reaps orphans, and exits with\n"
    "the first code that is not 0 once all have ended.\n"
    "\n"
    "signals\n"
    "  -c, --child-only        signal the process of a command, not its group\n"
    "  -S, --session           a session for each command, not only a process group\n"
    "  -r, --rewrite FROM:TO   pass TO on in place of FROM; TO 0: ignore FROM\n"
    "  -p, --parent-death SIG  signal to get when the parent dies\n"
    "  -s, --subreaper         adopt orphans, also if this is not PID 1\n"
    "end\n"
    "  -u, --until WHICH       all (have ended), first, or main: the first one named\n"
    "  -m, --map CODES:CODE    exit code CODE for CODES, as 143:0 or 64-78:1\n"
    "  -g, --grace SECONDS     from SIGTERM to SIGKILL (10)\n"
    "      --cgroup DIRECTORY  where commands run, and what is killed\n"
    "restart\n"
    "      --restart WHEN      never, on-failure or always\n"
    "      --backoff FROM:TO   seconds before a restart; twice as long each time (0.1:30)\n"
    "      --tally N:SECONDS   give a command up after so many deaths in so long\n"
    "readiness\n"
    "      --ready-fd FD       in each command: a line written there says it is ready\n"
    "      --notify            a NOTIFY_SOCKET for each command\n"
    "      --ready-to FD       write a line there once all commands are ready\n"
    "reports\n"
    "      --log FD|FILE       a line of JSON for each start and exit\n"
    "      --record FILE       every exit, as exitbus_record_read() reads it\n"
    "  -v, --verbose           say more; twice: signals and orphans, too\n"
    "  -q, --quiet             no warnings\n"
    "      --separator WORD    between commands, in place of :::\n"
    "  -h, --help              this text\n"
    "  -V, --version           the version\n"
    "\n"
    "EXITBUS_RUN_OPTIONS may have more options, with spaces between them.\n";

enum {
    CGROUP = UCHAR_MAX + 1,
    RESTART,
    BACKOFF,
    TALLY,
    READY_FD,
    NOTIFY,
    READY_TO,
    LOG,
    RECORD,
    SEPARATOR
};

static const struct option table[] = {
    {"child-only", no_argument, NULL, 'c'},
    {"session", no_argument, NULL, 'S'},
    {"rewrite", required_argument, NULL, 'r'},
    {"parent-death", required_argument, NULL, 'p'},
    {"subreaper", no_argument, NULL, 's'},
    {"until", required_argument, NULL, 'u'},
    {"map", required_argument, NULL, 'm'},
    {"grace", required_argument, NULL, 'g'},
    {"cgroup", required_argument, NULL, CGROUP},
    {"restart", required_argument, NULL, RESTART},
    {"backoff", required_argument, NULL, BACKOFF},
    {"tally", required_argument, NULL, TALLY},
    {"ready-fd", required_argument, NULL, READY_FD},
    {"notify", no_argument, NULL, NOTIFY},
    {"ready-to", required_argument, NULL, READY_TO},
    {"log", required_argument, NULL, LOG},
    {"record", required_argument, NULL, RECORD},
    {"verbose", no_argument, NULL, 'v'},
    {"quiet", no_argument, NULL, 'q'},
    {"separator", required_argument, NULL, SEPARATOR},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

static bool write_out(const char *text)
{
    size_t length = strlen(text);
    return write(STDOUT_FILENO, text, length) == (ssize_t)length;
}

static const char *option_name(int key)
{
    const struct option *each = table;
    while (each->name && each->val != key)
        each++;
    return each->name;
}

/* Say what was wanted. Returns false. */
static bool refuse(int key, const char *text, const char *wanted)
{
    say(SAY_ERROR, "--%s %s: %s", option_name(key), text, wanted);
    return false;
}

/* -------------------------------------------------------------------------------------- values */

/* Look a word up. Returns its place, or -1. */
static int choice(const char *text, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    return -1;
}

static bool set_until(struct run_options *options, const char *text)
{
    int which = choice(text, (const char *const[]){"all", "first", "main", NULL});
    if (which < 0)
        return refuse('u', text, "all, first or main is wanted");
    options->until = (enum run_until)which;
    return true;
}

static bool set_restart(struct run_options *options, const char *text)
{
    int when = choice(text, (const char *const[]){"never", "on-failure", "always", NULL});
    if (when < 0)
        return refuse(RESTART, text, "never, on-failure or always is wanted");
    options->restart = (enum run_restart)when;
    return true;
}

static bool set_rewrite(struct run_options *options, const char *text)
{
    char from[12] = "";
    const char *colon = strchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof from)
        return refuse('r', text, "FROM:TO is wanted, as TERM:QUIT");
    memcpy(from, text, (size_t)(colon - text));
    int signal = words_signal(from), to = words_signal(colon + 1);
    if (signal <= 0 || to < 0)
        return refuse('r', text, "there is no such signal");
    if (signal == SIGKILL || signal == SIGSTOP || signal == SIGCHLD)
        return refuse('r', text, "that signal is never passed on");
    options->rewrite[signal] = (uint8_t)to;
    return true;
}

static bool set_parent_death(struct run_options *options, const char *text)
{
    options->parent_death = words_signal(text);
    return options->parent_death > 0 || refuse('p', text, "there is no such signal");
}

static bool set_map(struct run_options *options, const char *text)
{
    const char *at = text;
    int64_t first, last, code;
    bool range = words_number(&at, '-', CODE_MAX, &first);
    if (!words_number(&at, ':', CODE_MAX, range ? &last : &first) ||
        !words_number(&at, '\0', CODE_MAX, &code))
        return refuse('m', text, "CODE:CODE or CODE-CODE:CODE is wanted, of 0 to 255");
    if (!range)
        last = first;
    if (last < first)
        return refuse('m', text, "the range is empty");
    memset(options->map + first, (int)code, (size_t)(last - first + 1));
    return true;
}

static bool set_grace(struct run_options *options, const char *text)
{
    const char *at = text;
    options->grace_given = true;
    return words_seconds(&at, '\0', &options->grace_ns) ||
           refuse('g', text, "a number of seconds is wanted");
}

static bool set_backoff(struct run_options *options, const char *text)
{
    const char *at = text;
    if (!words_seconds(&at, ':', &options->backoff_from_ns) ||
        !words_seconds(&at, '\0', &options->backoff_to_ns))
        return refuse(BACKOFF, text, "FROM:TO is wanted, in seconds");
    return options->backoff_from_ns <= options->backoff_to_ns ||
           refuse(BACKOFF, text, "FROM is more than TO");
}

static bool set_tally(struct run_options *options, const char *text)
{
    const char *at = text;
    return (words_number(&at, ':', DEATHS_MAX, &options->tally_deaths) &&
            options->tally_deaths > 0 && words_seconds(&at, '\0', &options->tally_ns)) ||
           refuse(TALLY, text, "DEATHS:SECONDS is wanted, of 1 to 10000 deaths");
}

static bool set_fd(int key, const char *text, int64_t least, int *fd)
{
    const char *at = text;
    int64_t number;
    if (!words_number(&at, '\0', INT_MAX, &number) || number < least)
        return refuse(key, text, least > 0 ? "a number from 3 on is wanted" : "no descriptor");
    *fd = (int)number;
    return true;
}

static bool set_separator(struct run_options *options, const char *text)
{
    options->separator = text;
    return *text || refuse(SEPARATOR, text, "a word is wanted");
}

/* ------------------------------------------------------------------------------------- options */

static bool set_valued(struct run_options *options, int key, const char *value)
{
    switch (key) {
    case 'r':
        return set_rewrite(options, value);
    case 'p':
        return set_parent_death(options, value);
    case 'u':
        return set_until(options, value);
    case 'm':
        return set_map(options, value);
    case 'g':
        return set_grace(options, value);
    case RESTART:
        return set_restart(options, value);
    case BACKOFF:
        return set_backoff(options, value);
    case TALLY:
        return set_tally(options, value);
    case READY_FD:
        return set_fd(key, value, 3, &options->ready_fd);
    case READY_TO:
        return set_fd(key, value, 0, &options->ready_to);
    case SEPARATOR:
        return set_separator(options, value);
    default:
        return false; /* getopt has told */
    }
}

static bool set(struct run_options *options, int key, const char *value)
{
    switch (key) {
    case 'c':
        options->child_only = true;
        break;
    case 'S':
        options->session = true;
        break;
    case 's':
        options->subreaper = true;
        break;
    case NOTIFY:
        options->notify = true;
        break;
    case CGROUP:
        options->cgroup = value;
        break;
    case LOG:
        options->log = value;
        break;
    case RECORD:
        options->record = value;
        break;
    case 'v':
        options->verbosity++;
        break;
    case 'q':
        options->verbosity = SAY_ERROR;
        break;
    default:
        return set_valued(options, key, value);
    }
    return true;
}

/* Read the options of one list. Returns -1 to go on, or the exit status. */
static int read_list(struct run_options *options, int argc, char **argv)
{
    int key;
    optind = 0;
    while ((key = getopt_long(argc, argv, "+cSr:p:su:m:g:vqhV", table, NULL)) != -1) {
        if (key == 'h')
            return write_out(help) ? 0 : CODE_OURS;
        if (key == 'V')
            return write_out("exitbus-run ") && write_out(exitbus_version()) && write_out("\n")
                       ? 0
                       : CODE_OURS;
        if (!set(options, key, optarg))
            return CODE_OURS;
    }
    return -1;
}

static int read_environment(struct run_options *options, char *program)
{
    const char *given = getenv("EXITBUS_RUN_OPTIONS");
    char *argv[WORDS_MAX + 1] = {program}, *rest;
    static char *text; /* for good: options point into it */
    text = given ? strdup(given) : NULL;
    int argc = 1;
    if (!text)
        return -1;
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (argc == WORDS_MAX) {
            say(SAY_ERROR, "EXITBUS_RUN_OPTIONS has more than %d words", WORDS_MAX);
            return CODE_OURS;
        }
        argv[argc++] = word;
    }
    int status = read_list(options, argc, argv);
    if (status < 0 && optind < argc) {
        say(SAY_ERROR, "EXITBUS_RUN_OPTIONS: %s is no option", argv[optind]);
        return CODE_OURS;
    }
    return status;
}

static void set_defaults(struct run_options *options)
{
    *options = (struct run_options){.separator = ":::",
                                    .verbosity = SAY_WARNING,
                                    .backoff_from_ns = SECOND_NS / 10,
                                    .backoff_to_ns = 30 * SECOND_NS,
                                    .grace_ns = 10 * SECOND_NS,
                                    .ready_fd = -1,
                                    .ready_to = -1};
    for (int i = 0; i < RUN_SIGNALS; i++)
        options->rewrite[i] = (uint8_t)i;
    for (int i = 0; i < RUN_CODES; i++)
        options->map[i] = (uint8_t)i;
}

int options_read(struct run_options *options, int argc, char **argv)
{
    set_defaults(options);
    int status = read_environment(options, argv[0]);
    if (status < 0)
        status = read_list(options, argc, argv);
    options->words = argv + optind;
    say_verbosity = options->verbosity;
    if (status >= 0)
        return status;
    if (optind < argc)
        return -1;
    say(SAY_ERROR, "no command is given; try exitbus-run --help");
    return CODE_OURS;
}
