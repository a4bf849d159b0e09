/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The result as test cases: see cases.h. */
#include "cases.h"
#include "../checks/verdict.h"
#include "report.h"
#include "watchdog.h"

#include <glib.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CASES (1 + GUARANTEES)

enum outcome { PASSED, FAILED, NOT_KNOWN, SKIPPED, OUTCOMES };

struct test_case {
    char name[64];
    enum outcome outcome;
    const char *kind; /* of what went wrong */
    char text[320];   /* why it is no pass, or how often it was checked */
};

/* The run as such: it came to its end, or did not. */
static struct test_case case_of_run(void)
{
    struct test_case run = {.name = "the run comes to its end", .outcome = PASSED};
    snprintf(run.text, sizeof run.text, "%.1f s", result->elapsed);
    if (result->verdict != VERDICT_CRASH && result->verdict != VERDICT_HANG)
        return run;
    run.outcome = NOT_KNOWN;
    run.kind = verdict_names[result->verdict];
    watchdog_describe(run.text, sizeof run.text);
    return run;
}

static struct test_case case_of(enum guarantee g)
{
    struct test_case of = {.outcome = PASSED};
    const struct violation *first = verdict_first(g);
    uint64_t checks = verdict_checks(g);
    snprintf(of.name, sizeof of.name, "%s %s", guarantee_ids[g], guarantee_names[g]);
    snprintf(of.text, sizeof of.text, "%" PRIu64 " checks", checks);
    if (!verdict_claimed(g)) {
        of.outcome = SKIPPED;
        snprintf(of.text, sizeof of.text, "the subject does not claim it");
    } else if (verdict_violations(g) > 0) {
        of.outcome = FAILED;
        of.kind = verdict_names[VERDICT_FAIL];
        snprintf(of.text, sizeof of.text, "%s", first ? first->text : "violated");
    } else if (verdict_too_few(g)) {
        of.outcome = NOT_KNOWN;
        of.kind = verdict_names[VERDICT_INCONCLUSIVE];
        snprintf(of.text, sizeof of.text, "%" PRIu64 " checks, of %" PRIu64 " that are wanted",
                 checks, verdict_wanted(g));
    }
    return of;
}

static void make_cases(struct test_case cases[CASES], unsigned counts[OUTCOMES])
{
    memset(counts, 0, OUTCOMES * sizeof *counts);
    cases[0] = case_of_run();
    for (int g = 0; g < GUARANTEES; g++)
        cases[1 + g] = case_of((enum guarantee)g);
    for (size_t i = 0; i < CASES; i++)
        counts[cases[i].outcome]++;
}

/* -------------------------------------------------------------------------------------- JUnit */

/* Like fprintf(), but what is put in is escaped. */
static void put(FILE *file, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(FILE *file, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = g_markup_vprintf_escaped(format, arguments);
    va_end(arguments);
    fputs(text, file);
    g_free(text);
}

static void put_case(FILE *file, const struct test_case *of)
{
    put(file, "    <testcase classname=\"exitbus-stress.%s\" name=\"%s\"", world->subject_name,
        of->name);
    if (of->outcome == PASSED)
        put(file, "><system-out>%s</system-out></testcase>\n", of->text);
    else if (of->outcome == SKIPPED)
        put(file, "><skipped message=\"%s\"/></testcase>\n", of->text);
    else if (of->outcome == FAILED)
        put(file, "><failure type=\"%s\" message=\"%s\"/></testcase>\n", of->kind, of->text);
    else
        put(file, "><error type=\"%s\" message=\"%s\"/></testcase>\n", of->kind, of->text);
}

int cases_junit(FILE *file)
{
    struct test_case cases[CASES];
    unsigned counts[OUTCOMES];
    char command[1024], began[32];
    time_t now = time(NULL) - (time_t)result->elapsed;
    struct tm utc;
    make_cases(cases, counts);
    report_command_line(command, sizeof command);
    strftime(began, sizeof began, "%Y-%m-%dT%H:%M:%S", gmtime_r(&now, &utc));
    put(file,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<testsuites>\n"
        "  <testsuite name=\"exitbus-stress: %s\" tests=\"%d\" failures=\"%u\" errors=\"%u\" "
        "skipped=\"%u\" time=\"%.3f\" timestamp=\"%s\">\n",
        world->subject_name, CASES, counts[FAILED], counts[NOT_KNOWN], counts[SKIPPED],
        result->elapsed, began);
    put(file,
        "    <properties>\n"
        "      <property name=\"command\" value=\"%s\"/>\n"
        "      <property name=\"seed\" value=\"%" PRIu64 "\"/>\n"
        "      <property name=\"verdict\" value=\"%s\"/>\n"
        "      <property name=\"version\" value=\"%s\"/>\n"
        "    </properties>\n",
        command, world->options.seed, verdict_names[result->verdict], STRESS_VERSION);
    for (size_t i = 0; i < CASES; i++)
        put_case(file, &cases[i]);
    fputs("  </testsuite>\n</testsuites>\n", file);
    return 0;
}

/* ---------------------------------------------------------------------------------------- TAP */

/* A string of JSON is one of YAML, too. */
static void put_string(FILE *file, const char *key, const char *text)
{
    json_t *string = json_string(text);
    char *quoted = json_dumps(string, JSON_ENCODE_ANY);
    fprintf(file, "  %s: %s\n", key, quoted ? quoted : "\"\"");
    free(quoted);
    json_decref(string);
}

int cases_tap(FILE *file)
{
    struct test_case cases[CASES];
    unsigned counts[OUTCOMES];
    char command[1024];
    make_cases(cases, counts);
    report_command_line(command, sizeof command);
    fprintf(file, "TAP version 14\n1..%d\n# command: %s\n# seed: %" PRIu64 "\n", CASES, command,
            world->options.seed);
    for (size_t i = 0; i < CASES; i++) {
        const struct test_case *of = &cases[i];
        bool good = of->outcome == PASSED || of->outcome == SKIPPED;
        fprintf(file, "%s %zu - %s%s%s\n", good ? "ok" : "not ok", i + 1, of->name,
                of->outcome == SKIPPED ? " # SKIP " : "", of->outcome == SKIPPED ? of->text : "");
        if (of->outcome == SKIPPED)
            continue;
        fputs("  ---\n", file);
        if (of->kind)
            put_string(file, "verdict", of->kind);
        put_string(file, "message", of->text);
        fputs("  ...\n", file);
    }
    return 0;
}
