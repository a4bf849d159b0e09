/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The command line of exitbus-forward: see the manual page. */
#include "tools/forward/options.h"

#include <exitbus/forward.h>

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *argp_program_version = "exitbus-forward " FORWARD_VERSION;

enum option_key {
    OPTION_NAME = 256,
    OPTION_ONCE,
    OPTION_LINGER,
    OPTION_MAX_BYTES,
    OPTION_WAIT,
    OPTION_SYNC,
    OPTION_STREAM,
    OPTION_CREATE,
    OPTION_CREDENTIALS,
    OPTION_HOST,
    OPTION_MACHINE,
    OPTION_STATS,
};

static const struct argp_option known[] = {
    {"spool", 's', "DIRECTORY", 0, "Where events wait; made if it is not there", 1},
    {"to", 't', "OUTPUT", 0, "json:FILE, json:-, journal or nats:URL; without it only write", 1},
    {"lines", 'l', "FILE", 0, "Take the JSON lines of FILE, and what is appended; - is a pipe", 1},
    {"once", OPTION_ONCE, NULL, 0, "End when all that is there now is delivered", 1},
    {"linger", OPTION_LINGER, "SECONDS", 0, "How long to deliver once the source has ended", 1},
    {"name", OPTION_NAME, "NAME", 0, "Of the cursor in the spool: one for each output", 2},
    {"max-bytes", OPTION_MAX_BYTES, "N[K|M|G]", 0, "Most bytes of the spool (256M)", 2},
    {"wait", OPTION_WAIT, NULL, 0, "Where the spool is full wait, and drop nothing", 2},
    {"sync", OPTION_SYNC, NULL, 0, "Have each write on the disk before the next", 2},
    {"stream", OPTION_STREAM, "NAME", 0,
     "nats: accept no other stream; with --create its name (EXITBUS)", 3},
    {"create", OPTION_CREATE, NULL, 0, "nats: make the stream if it is not there", 3},
    {"credentials", OPTION_CREDENTIALS, "FILE", 0, "nats: a user's credentials", 3},
    {"host", OPTION_HOST, "NAME", 0, "Instead of the machine's host name", 4},
    {"machine", OPTION_MACHINE, "ID", 0, "Instead of /etc/machine-id", 4},
    {"stats", OPTION_STATS, NULL, 0, "Print a line of counts at the end", 4},
    {0},
};

/* Returns a number with a unit, or ends the process. */
static uint64_t bytes(const struct argp_state *state, const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10), unit = 1;
    if (*end == 'K' || *end == 'M' || *end == 'G')
        unit = 1ull << (*end == 'K' ? 10 : *end == 'M' ? 20 : 30);
    end += unit > 1;
    if (errno || end == text || *end || text[0] == '-' || value > UINT64_MAX / unit ||
        value * unit < SPOOL_MIN_BYTES)
        argp_error(state, "'%s' is no number of bytes from 1M on", text);
    return value * unit;
}

static int64_t milliseconds(const struct argp_state *state, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= 0 && value <= 1e9))
        argp_error(state, "'%s' is no number of seconds", text);
    return (int64_t)(value * 1000);
}

/* Returns a word that may be part of a file's name or of an id, or ends the process. */
static const char *word(const struct argp_state *state, const char *text)
{
    size_t length =
        strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    if (length == 0 || text[length] || length > 63)
        argp_error(state, "'%s' is not 1 to 63 letters, digits, - and _", text);
    return text;
}

static void set_host(const struct argp_state *state, struct options *options, const char *name)
{
    if (!name[0] || strlen(name) >= sizeof options->host)
        argp_error(state, "'%s' is no host name", name);
    snprintf(options->host, sizeof options->host, "%s", name);
}

static error_t parse_output(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 't':
        options->output.target = argument;
        return 0;
    case OPTION_STREAM:
        options->output.stream = word(state, argument);
        return 0;
    case OPTION_CREATE:
        options->output.create = true;
        return 0;
    case OPTION_CREDENTIALS:
        options->output.credentials = argument;
        return 0;
    case OPTION_HOST:
        set_host(state, options, argument);
        return 0;
    case OPTION_MACHINE:
        snprintf(options->machine, sizeof options->machine, "%s", word(state, argument));
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void check(const struct argp_state *state, const struct options *options)
{
    if (!options->spool)
        argp_error(state, "--spool is wanted");
    if (options->lines && options->command)
        argp_error(state, "there is one source: --lines or a command");
    if (!options->output.target && !options->lines && !options->command)
        argp_error(state, "neither a source (--lines, or a command) nor an output (--to)");
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;
    switch (key) {
    case 's':
        options->spool = argument;
        return 0;
    case 'l':
        options->lines = argument;
        return 0;
    case OPTION_NAME:
        options->name = word(state, argument);
        return 0;
    case OPTION_ONCE:
        options->once = true;
        return 0;
    case OPTION_LINGER:
        options->linger_ms = milliseconds(state, argument);
        return 0;
    case OPTION_MAX_BYTES:
        options->max_bytes = bytes(state, argument);
        return 0;
    case OPTION_WAIT:
        options->flags |= EXITBUS_FORWARD_WAIT;
        return 0;
    case OPTION_SYNC:
        options->flags |= EXITBUS_FORWARD_SYNC;
        return 0;
    case OPTION_STATS:
        options->stats = true;
        return 0;
    case ARGP_KEY_ARGS:
        options->command = state->argv + state->next;
        return 0;
    case ARGP_KEY_END:
        check(state, options);
        return 0;
    default:
        return parse_output(key, argument, state);
    }
}

/* A cursor is named by the kind of its output, unless it has a name. */
static void name_cursor(struct options *options)
{
    static char name[16];
    if (options->name || !options->output.target)
        return;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(options->output.target, ":"),
             options->output.target);
    options->name = name;
}

static void read_machine(struct options *options)
{
    FILE *file = options->machine[0] ? NULL : fopen("/etc/machine-id", "re");
    if (file && fscanf(file, "%64[0-9a-f]", options->machine) != 1)
        options->machine[0] = '\0';
    if (file)
        fclose(file);
    if (!options->machine[0]) {
        fprintf(stderr, "exitbus-forward: /etc/machine-id has no id: give one by --machine\n");
        exit(2);
    }
}

void options_parse(int argc, char **argv, struct options *options)
{
    static const struct argp argp = {
        .options = known,
        .parser = parse,
        .args_doc = "[-- COMMAND [ARGUMENT...]]",
        .doc = "Forward exit events to an engine: JSON lines, the journal, NATS JetStream."};
    *options = (struct options){.linger_ms = -1};
    gethostname(options->host, sizeof options->host - 1);
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, options);
    name_cursor(options);
    read_machine(options);
}
