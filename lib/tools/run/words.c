/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Signals, numbers and times as words: see run.h. */
#include "tools/run/run.h"

#include <stdio.h>
#include <string.h>

static const char names[][8] = {
    [SIGHUP] = "HUP",       [SIGINT] = "INT",   [SIGQUIT] = "QUIT", [SIGILL] = "ILL",
    [SIGTRAP] = "TRAP",     [SIGABRT] = "ABRT", [SIGBUS] = "BUS",   [SIGFPE] = "FPE",
    [SIGKILL] = "KILL",     [SIGUSR1] = "USR1", [SIGSEGV] = "SEGV", [SIGUSR2] = "USR2",
    [SIGPIPE] = "PIPE",     [SIGALRM] = "ALRM", [SIGTERM] = "TERM", [SIGCHLD] = "CHLD",
    [SIGCONT] = "CONT",     [SIGSTOP] = "STOP", [SIGTSTP] = "TSTP", [SIGTTIN] = "TTIN",
    [SIGTTOU] = "TTOU",     [SIGURG] = "URG",   [SIGXCPU] = "XCPU", [SIGXFSZ] = "XFSZ",
    [SIGVTALRM] = "VTALRM", [SIGPROF] = "PROF", [SIGPOLL] = "POLL", [SIGWINCH] = "WINCH",
    [SIGPWR] = "PWR",       [SIGSYS] = "SYS",
};
#define NAMES ((int)(sizeof names / sizeof *names))

int words_signal(const char *text)
{
    int64_t number;
    if (words_number(&text, '\0', RUN_SIGNALS - 1, &number))
        return (int)number;
    if (strncmp(text, "SIG", 3) == 0)
        text += 3;
    for (int signal = 1; signal < NAMES; signal++)
        if (names[signal][0] && strcmp(names[signal], text) == 0)
            return signal;
    return -1;
}

const char *words_signal_name(int signal)
{
    static char number[12];
    if (signal > 0 && signal < NAMES && names[signal][0])
        return names[signal];
    snprintf(number, sizeof number, "%d", signal);
    return number;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Read digits, at most `max`. Returns false if there are none, or too many. */
static bool digits(const char **at, int64_t max, int64_t *value)
{
    if (!is_digit(**at))
        return false;
    for (*value = 0; is_digit(**at); ++*at) {
        *value = *value * 10 + (**at - '0');
        if (*value > max)
            return false;
    }
    return true;
}

/* The text goes on with `end`: move on behind that, but not behind the text's own end. */
static bool ends(const char **text, const char *at, char end)
{
    if (*at != end)
        return false;
    *text = end ? at + 1 : at;
    return true;
}

bool words_number(const char **text, char end, int64_t max, int64_t *value)
{
    const char *at = *text;
    return digits(&at, max, value) && ends(text, at, end);
}

bool words_seconds(const char **text, char end, int64_t *ns)
{
    const char *at = *text;
    int64_t seconds;
    if (!digits(&at, 1000 * 1000 * 1000, &seconds)) /* 31 years */
        return false;
    *ns = seconds * SECOND_NS;
    if (*at == '.') {
        at++;
        for (int64_t unit = SECOND_NS / 10; is_digit(*at); at++, unit /= 10)
            *ns += unit * (*at - '0');
    }
    return ends(text, at, end);
}
