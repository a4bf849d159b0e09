/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a run shows: see report.h. */
#include "report.h"
#include "../checks/latency.h"
#include "../checks/verdict.h"
#include "../scenarios/scenarios.h"
#include "cases.h"
#include "dump.h"
#include "page.h"
#include "shared.h"
#include "text.h"
#include "watchdog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MIB (1024.0 * 1024.0)
/* Of report/result.schema.json. It rises when something goes, or changes its meaning. */
#define JSON_SCHEMA 1

struct result *result;

void report_init(void)
{
    result = shared_alloc(sizeof *result);
}

long resident_bytes(void)
{
    long pages, shared;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0; /* there may be no descriptor to be had at the moment */
    if (fscanf(file, "%*d %ld %ld", &pages, &shared) != 2)
        pages = shared = 0;
    fclose(file);
    return (pages - shared) * sysconf(_SC_PAGESIZE);
}

/* ------------------------------------------------------------------------------- while it runs */

static void show_sample(const struct sample *sample)
{
    static double next_s; /* of the line that is due next, where there is no terminal */
    bool terminal = isatty(STDERR_FILENO);
    if (!terminal) {
        if (world->options.every == 0)
            return;
        if (next_s == 0)
            next_s = world->options.every;
        if (sample->time_s < next_s)
            return;
        next_s += world->options.every;
    }
    fprintf(stderr, "%s%5.1f s  %" PRIu64 " exits  %.1f M events  %.1f M deliveries  %.1f MiB%s%s",
            terminal ? "\r\033[K" : "", sample->time_s, sample->exits,
            (double)sample->published / 1e6, (double)sample->deliveries / 1e6,
            (double)sample->resident / MIB, verdict_good() ? "" : "  VIOLATIONS",
            terminal ? "" : "\n");
}

void report_sample(void)
{
    struct sample sample = {
        .time_s = (double)(now_ns() - world->begin_ns) / 1e9,
        .published = atomic_load(&world->issued),
        .deliveries = atomic_load(&world->deliveries),
        .exits = atomic_load(&world->seen),
        .resident = resident_bytes(),
    };
    if (sample.resident > result->rss_peak)
        result->rss_peak = sample.resident;
    double interval = world->options.seconds / (double)(SAMPLES_MAX / 2);
    size_t count_ = result->sample_count;
    if (count_ < SAMPLES_MAX && sample.resident > 0 &&
        (count_ == 0 || sample.time_s >= result->samples[count_ - 1].time_s + interval))
        result->samples[result->sample_count++] = sample;
    show_sample(&sample);
}

void report_progress_end(void)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K");
}

/* ------------------------------------------------------------------------------------ summary */

void report_command_line(char *text, size_t size)
{
    const char *slash = strrchr(world->options.argv[0], '/');
    snprintf(text, size, "%s", slash ? slash + 1 : world->options.argv[0]);
    for (int i = 1; i < world->options.argc; i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, " %s", world->options.argv[i]);
    }
    text_clean(text);
}

static void print_scenarios(void)
{
    printf("scenarios    ");
    for (unsigned i = 0; i < scenario_count; i++)
        if (!result->skipped[i])
            printf(" %s", scenarios[i]->name);
    printf("\n");
    for (unsigned i = 0; i < scenario_count; i++)
        if (result->skipped[i] && result->skipped[i][0])
            printf("  without     %s: %s\n", scenarios[i]->name, result->skipped[i]);
}

/* Without that nothing was tried: so how often it was is said. */
static void print_pids_back(void)
{
    for (unsigned i = 0; i < scenario_count; i++)
        if (scenarios[i] == &handles_scenario && !result->skipped[i])
            printf("pids          %" PRIu64 " came back while signals went to their old handles\n",
                   atomic_load(&world->pids_back));
}

static void print_checks(void)
{
    printf("checks                                       held   violated\n");
    for (int g = 0; g < GUARANTEES; g++) {
        uint64_t violations = verdict_violations((enum guarantee)g);
        uint64_t checks = verdict_checks((enum guarantee)g);
        bool claimed = verdict_claimed((enum guarantee)g);
        if (checks == 0 && !claimed)
            continue;
        printf("  %-4s %-30s %12" PRIu64 " %10" PRIu64, guarantee_ids[g], guarantee_names[g],
               checks - violations, violations);
        if (violations == 0 && verdict_too_few((enum guarantee)g))
            printf("  (too few: %" PRIu64 " are wanted)", verdict_wanted((enum guarantee)g));
        printf("%s\n", claimed ? "" : "  (not claimed: measured only)");
    }
}

static void print_latencies(void)
{
    printf("latency, us                                p50        p99      p99.9        max\n");
    for (int i = 0; i < LATENCIES; i++) {
        struct latency_summary s = latency_summarize((enum latency)i);
        if (s.count > 0)
            printf("  %-32s %9.1f %10.1f %10.1f %10.1f  (%" PRIu64 ")\n", latency_names[i], s.p50,
                   s.p99, s.p999, s.max, s.count);
    }
}

void report_heading(void)
{
    char command[1024];
    report_command_line(command, sizeof command);
    printf("command       %s\nseed          %" PRIu64 "\nsubject       %s: %s\n", command,
           world->options.seed, world->subject_name, world->subject_summary);
}

/* What has made the run fail, once more behind all else that was printed. */
static void print_first_violation(void)
{
    const struct violation *first = NULL;
    for (int g = 0; g < GUARANTEES; g++) {
        const struct violation *of = verdict_first((enum guarantee)g);
        if (of && verdict_claimed((enum guarantee)g) && (!first || of->time_ns < first->time_ns))
            first = of;
    }
    if (first)
        printf("first of all  %s %s, by %s after %.3f s: %s\n", guarantee_ids[first->guarantee],
               guarantee_names[first->guarantee], first->thread, first->time_s, first->text);
}

void report_end(void)
{
    if (result->verdict != VERDICT_PASS && result->verdict != VERDICT_INCONCLUSIVE) {
        dump_print(stdout);
        print_first_violation();
    }
    watchdog_print(stdout);
    printf("%s\n", verdict_names[result->verdict]);
    fflush(stdout);
}

void report_summary(void)
{
    report_heading();
    printf("time          %.1f s\n", result->elapsed);
    print_scenarios();
    printf("children      %" PRIu64 " exited, orphans included = %" PRIu64 " exits received\n",
           atomic_load(&world->children), atomic_load(&world->seen));
    printf("events        %" PRIu64 " published, %" PRIu64
           " publishes finished by another thread\n",
           atomic_load(&world->issued), result->stats.helped);
    printf("deliveries    %" PRIu64 " (%.2f M/s), on %" PRIu64 " subscriptions\n",
           atomic_load(&world->deliveries),
           (double)atomic_load(&world->deliveries) / 1e6 / (result->elapsed + 1e-9),
           atomic_load(&world->subscriptions));
    print_pids_back();
    print_checks();
    print_latencies();
    printf("resident, MiB %.2f at begin, %.2f at peak, %.2f at end\n",
           (double)result->rss_begin / MIB, (double)result->rss_peak / MIB,
           (double)result->rss_end / MIB);
    report_end();
}

/* --------------------------------------------------------------------------------------- JSON */

static json_t *json_scenarios(void)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < scenario_count; i++)
        if (!result->skipped[i] || result->skipped[i][0])
            json_array_append_new(array, json_pack("{s:s, s:s, s:i, s:s?}", "name",
                                                   scenarios[i]->name, "hunts", scenarios[i]->hunts,
                                                   "threads", (int)result->threads[i], "skipped",
                                                   result->skipped[i]));
    return array;
}

static json_t *json_guarantees(void)
{
    json_t *array = json_array();
    for (int i = 0; i < GUARANTEES; i++) {
        enum guarantee g = (enum guarantee)i;
        const struct violation *first = verdict_first(g);
        json_array_append_new(
            array, json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:s?}", "id", guarantee_ids[g], "name",
                             guarantee_names[g], "claimed", verdict_claimed(g), "wanted",
                             (json_int_t)verdict_wanted(g), "checks", (json_int_t)verdict_checks(g),
                             "violations", (json_int_t)verdict_violations(g), "first",
                             first ? first->text : NULL));
    }
    return array;
}

static json_t *json_violations(void)
{
    const struct violation *kept[VIOLATIONS_KEPT];
    json_t *array = json_array();
    size_t count_ = verdict_kept(kept);
    for (size_t i = 0; i < count_; i++)
        json_array_append_new(array,
                              json_pack("{s:s, s:s, s:f, s:s}", "guarantee",
                                        guarantee_ids[kept[i]->guarantee], "text", kept[i]->text,
                                        "time_s", kept[i]->time_s, "thread", kept[i]->thread));
    return array;
}

static void append_rate(json_t *array, uint64_t before, uint64_t after, double seconds)
{
    json_array_append_new(array, json_real((double)(after - before) / seconds));
}

static json_t *json_series(void)
{
    json_t *t = json_array(), *published = json_array(), *deliveries = json_array();
    json_t *children = json_array(), *resident = json_array();
    for (size_t i = 1; i < result->sample_count; i++) {
        const struct sample *a = &result->samples[i - 1], *b = &result->samples[i];
        double seconds = b->time_s - a->time_s;
        if (seconds <= 0)
            continue;
        json_array_append_new(t, json_real(b->time_s));
        append_rate(published, a->published, b->published, seconds);
        append_rate(deliveries, a->deliveries, b->deliveries, seconds);
        append_rate(children, a->exits, b->exits, seconds);
        json_array_append_new(resident, json_real((double)b->resident / MIB));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "t", t, "published_per_s", published,
                     "deliveries_per_s", deliveries, "children_per_s", children, "resident_mib",
                     resident);
}

static json_t *json_totals(void)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "children",
        (json_int_t)atomic_load(&world->children), "exits_delivered",
        (json_int_t)atomic_load(&world->seen), "published", (json_int_t)atomic_load(&world->issued),
        "deliveries", (json_int_t)atomic_load(&world->deliveries), "subscriptions",
        (json_int_t)atomic_load(&world->subscriptions), "helped", (json_int_t)result->stats.helped,
        "pids_back", (json_int_t)atomic_load(&world->pids_back));
}

static json_t *json_report(void)
{
    char command[1024], seed[24];
    struct utsname machine;
    report_command_line(command, sizeof command);
    snprintf(seed, sizeof seed, "%" PRIu64, world->options.seed); /* JSON's numbers are doubles */
    uname(&machine);
    return json_pack(
        "{s:i, s:s, s:o, s:o, s:{s:s, s:s}, s:s, s:s, s:f, s:s, s:{s:I, s:s}, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o, s:{s:I, s:I, s:I}}",
        "schema", JSON_SCHEMA, "verdict", verdict_names[result->verdict], "hang",
        watchdog_hang_json(), "crash", watchdog_crash_json(), "subject", "name",
        world->subject_name, "summary", world->subject_summary, "command", command, "seed", seed,
        "seconds", result->elapsed, "version", STRESS_VERSION, "machine", "cores",
        (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "kernel", machine.release, "scenarios",
        json_scenarios(), "guarantees", json_guarantees(), "totals", json_totals(), "latency",
        latency_json(), "series", json_series(), "violations", json_violations(), "lanes",
        dump_json(), "resident_bytes", "begin", (json_int_t)result->rss_begin, "peak",
        (json_int_t)result->rss_peak, "end", (json_int_t)result->rss_end);
}

/* -------------------------------------------------------------------------------------- files */

static json_t *root; /* of the JSON, which the page has, too; NULL: nobody has asked for it yet */

static const json_t *json_root(void)
{
    if (!root)
        root = json_report();
    return root;
}

static int write_json(FILE *file)
{
    return json_dumpf(json_root(), file, JSON_INDENT(2));
}

static int write_page(FILE *file)
{
    return page_write(json_root(), file);
}

static int (*const writers[OUTPUTS])(FILE *file) = {
    [OUTPUT_JSON] = write_json, [OUTPUT_PAGE] = write_page,  [OUTPUT_JUNIT] = cases_junit,
    [OUTPUT_TAP] = cases_tap,   [OUTPUT_TRACE] = dump_trace,
};
static FILE *files[OUTPUTS];

int report_open(void)
{
    for (int i = 0; i < OUTPUTS; i++) {
        const char *path = world->options.outputs[i];
        files[i] = path ? fopen(path, "we") : NULL;
        if (path && !files[i]) {
            fprintf(stderr, "exitbus-stress: %s: %s\n", path, strerror(errno));
            return -1;
        }
    }
    return 0;
}

int report_write(void)
{
    int failed = 0;
    for (int i = 0; i < OUTPUTS; i++) {
        if (!files[i])
            continue;
        int wrong = writers[i](files[i]) != 0 || ferror(files[i]);
        if (fclose(files[i]) == 0 && !wrong)
            continue;
        fprintf(stderr, "exitbus-stress: cannot write %s\n", world->options.outputs[i]);
        failed = -1;
    }
    json_decref(root);
    return failed;
}
