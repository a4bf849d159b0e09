/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus-stress: real children beside synthetic producers, beside subscribers of every kind, all
 * checked exactly while they run. The end comes in stages, so that nothing that was published can
 * hide: first those stop who come and go, then the producers, then all queues are drained.
 */
#include "../checks/agreement.h"
#include "../checks/latency.h"
#include "../checks/verdict.h"
#include "../scenarios/base.h"
#include "../scenarios/scenarios.h"
#include "calls.h"
#include "children.h"
#include "dump.h"
#include "ends.h"
#include "history.h"
#include "host.h"
#include "load.h"
#include "mutants.h"
#include "options.h"
#include "outcomes.h"
#include "pack.h"
#include "plugin.h"
#include "report.h"
#include "sandbox.h"
#include "schedule.h"
#include "shared.h"
#include "stopper.h"
#include "supervise.h"
#include "text.h"
#include "watchdog.h"
#include "worker.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Resident memory after the run may exceed that before it by so much; so may a drained bus. */
#define LEFT_LIMIT ((size_t)4 << 20)
#define WATCH_NS 100000000
#define FINISH_NS 2000000000

/* Sanitizers keep freed memory, and shadows of all memory; qemu-user 7.2 keeps 280 KiB of each
 * thread that ends. The resident set is theirs then, and only what the bus takes from the host is
 * judged. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(EXITBUS_EMULATED)
#define RESIDENT_IS_OURS false
#else
#define RESIDENT_IS_OURS true
#endif

struct world *world;

/* Scenes, of which the reports know nothing, in place of the scenarios. */
static bool in_scenes(void)
{
    const struct options *options = &world->options;
    return options->history || options->schedules || options->schedule || options->outcomes;
}

static double elapsed(void)
{
    return (double)(now_ns() - world->begin_ns) / 1e9;
}

/* -------------------------------------------------------------------------------------- watch */

/* A violation may keep threads from their end: they get so much time to come to it. */
static bool ends_by_itself(void)
{
    static uint64_t bad_ns;
    bool keeps_going = world->options.keep_going;
    if (verdict_good() || in_scenes() || (keeps_going && elapsed() < world->options.seconds))
        return true;
    if (bad_ns == 0)
        bad_ns = now_ns();
    return now_ns() < bad_ns + FINISH_NS + (keeps_going ? (uint64_t)patience_ns() : 0);
}

/* What hangs can't be joined: end. */
static void *watchdog_main(void *over)
{
    while (!flag(over)) {
        nap(WATCH_NS, over);
        supervise_beat();
        bool hangs = watchdog_hang();
        if (flag(over) || (!hangs && ends_by_itself()))
            continue;
        report_progress_end();
        result->elapsed = elapsed();
        atomic_store(&world->ending, hangs ? ENDING_HANG : ENDING_EARLY);
        fflush(NULL);
        _exit(EXIT_VIOLATION);
    }
    return NULL;
}

static _Atomic bool watchdog_over;
static pthread_t watchdog;

static void watchdog_start(void)
{
    atomic_store(&watchdog_over, false);
    supervise_beat();
    int error = pthread_create(&watchdog, NULL, watchdog_main, &watchdog_over);
    if (error) {
        fprintf(stderr, "exitbus-stress: start a thread: %s\n", strerror(error));
        refuse(EXIT_ENVIRONMENT);
    }
}

static void watchdog_end(void)
{
    atomic_store(&watchdog_over, true);
    pthread_join(watchdog, NULL);
    supervise_rest();
}

/* Children that are not known of yet: one for each thread that starts them, orphans included. */
#define IN_FLIGHT 64

static void watch_over(unsigned seconds)
{
    while (elapsed() < seconds && (verdict_good() || world->options.keep_going)) {
        nap(WATCH_NS, NULL);
        report_sample();
        sandbox_look();
        uint64_t seen = atomic_load(&world->seen), children = atomic_load(&world->children);
        if (seen > children + IN_FLIGHT)
            verdict_violated(NO_LOSS, "%" PRIu64 " exits were received, of %" PRIu64 " children",
                             seen, children);
    }
    report_progress_end();
}

/* ------------------------------------------------------------------------------------ the end */

static void check_exits(void)
{
    await(atomic_load(&world->seen) >= atomic_load(&world->children));
    uint64_t children = atomic_load(&world->children), seen = atomic_load(&world->seen);
    if (seen != children)
        verdict_violated(NO_LOSS,
                         "%" PRIu64 " children have exited, %" PRIu64 " exits were received",
                         children, seen);
    await(count_zombies() == 0);
    if (count_zombies() > 0)
        verdict_violated(NO_LOSS, "%u zombies are left", count_zombies());
    verdict_checked(NO_LOSS, 1);
}

/* All is drained; only the bus itself is there. */
static void check_drained(size_t fresh_bytes)
{
    if (host_used()) {
        await(host_bytes() <= fresh_bytes + LEFT_LIMIT);
        if (host_bytes() > fresh_bytes + LEFT_LIMIT)
            verdict_violated(BOUNDED_MEMORY,
                             "the bus held %zu KiB when fresh, and %zu KiB when drained",
                             fresh_bytes / 1024, host_bytes() / 1024);
        verdict_checked(BOUNDED_MEMORY, 1);
    }
    if (!world->subject->stats)
        return;
    must(call_stats(&result->stats), "stats");
    if (result->stats.subscriptions != 0)
        verdict_violated(DEFERRED_FREEING, "%" PRIu64 " subscriptions left",
                         result->stats.subscriptions);
    verdict_checked(DEFERRED_FREEING, 1);
}

static void check_gone(void)
{
    if (!host_used())
        return;
    await(host_bytes() == 0);
    if (host_bytes() > 0)
        verdict_violated(DEFERRED_FREEING, "%zu bytes are left after destroy", host_bytes());
    verdict_checked(DEFERRED_FREEING, 1);
}

/* ---------------------------------------------------------------------------------------- run */

static void start_scenarios(struct crew *residents, struct crew *visitors)
{
    for (unsigned i = 0; i < scenario_count; i++) {
        if (result->skipped[i])
            continue;
        unsigned before = residents->count + visitors->count;
        if (scenario_plugins[i])
            plugin_start(scenario_plugins[i], visitors);
        else
            scenarios[i]->start(residents, visitors);
        result->threads[i] = residents->count + visitors->count - before;
    }
}

static void start_quietly(void)
{
    for (unsigned i = 0; i < scenario_count; i++)
        if (!result->skipped[i] && !scenario_plugins[i] && scenarios[i]->first)
            scenarios[i]->first();
}

static void run(unsigned seconds)
{
    struct crew visitors = {0}, producers = {0}, steady = {0}, residents = {0};
    const struct subject *subject = world->subject;
    world->begin_ns = now_ns();
    must(call_create(), "create");
    size_t fresh_bytes = host_bytes();
    if (subject->set_step)
        subject->set_step(worker_step);
    must(reaper_start(), "reaper");
    crew_start(&steady, "steady", steady_body, world->options.steady);
    await(atomic_load(&world->residents) == world->options.steady);
    start_quietly();
    crew_start(&producers, "producer", producer_body, world->options.producers);
    start_scenarios(&residents, &visitors);

    watch_over(seconds);
    atomic_store(&world->stop_churn, true);
    crew_join(&visitors);
    check_exits();
    atomic_store(&world->stop_producers, true);
    crew_join(&producers);
    atomic_store(&world->drained, true);
    crew_join(&steady);
    crew_join(&residents);
    result->elapsed = elapsed();
    if (subject->set_step)
        subject->set_step(NULL);
    check_drained(fresh_bytes);
    must(reaper_stop(), "stop the reaper");
    must(call_destroy(), "destroy");
    check_gone();
}

/* What the first use of everything costs stays: threads' arenas, stacks, standard output. */
static void warm_up(void)
{
    if (verdict_claimed(BOUNDED_MEMORY))
        run(0);
    watchdog_end(); /* which looks at what is going to be forgotten */
    malloc_trim(0);
    /* All behind what describes the run. */
    memset((char *)world + offsetof(struct world, bus), 0,
           sizeof *world - offsetof(struct world, bus));
    agreement_forget();
    pack_forget();
    plugin_forget();
}

/* ------------------------------------------------------------------------------------ choices */

static bool is_named(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (const char *part = list; part; part = strchr(part, ',')) {
        part += *part == ',';
        if (strncmp(part, name, size) == 0 && (part[size] == ',' || part[size] == '\0'))
            return true;
    }
    return false;
}

static void check_names(const char *list)
{
    char copy[512], *rest = copy, *name;
    snprintf(copy, sizeof copy, "%s", list);
    while ((name = strsep(&rest, ","))) {
        if (scenario_named(name))
            continue;
        fprintf(stderr, "exitbus-stress: there is no scenario '%s'; --list shows those there are\n",
                name);
        refuse(EXIT_USAGE);
    }
}

static const char *why_unfit(unsigned i)
{
    if (scenario_plugins[i])
        return plugin_unfit(scenario_plugins[i]);
    return scenarios[i]->unfit ? scenarios[i]->unfit() : NULL;
}

static void choose_scenarios(void)
{
    const char *list = world->options.scenarios;
    if (list)
        check_names(list);
    for (unsigned i = 0; i < scenario_count; i++) {
        const char *unfit = why_unfit(i);
        bool unwanted = in_scenes() || (list && !is_named(list, scenarios[i]->name));
        result->skipped[i] = unwanted ? "" : unfit;
    }
}

static bool is_chosen(const struct scenario *scenario)
{
    for (unsigned i = 0; i < scenario_count; i++)
        if (scenarios[i] == scenario)
            return !result->skipped[i];
    return false;
}

static int list(void)
{
    printf("scenarios\n");
    for (unsigned i = 0; i < scenario_count; i++)
        printf("  %-18s %s\n", scenarios[i]->name, scenarios[i]->hunts);
    printf("subjects\n");
    subject_list();
    return EXIT_PASS;
}

/* Ask whether the subject takes its memory from us, and is one at all. */
static void try_subject(void)
{
    int error = call_create();
    if (error < 0) {
        fprintf(stderr, "exitbus-stress: create: %s\n", strerror(-error));
        refuse(EXIT_ENVIRONMENT);
    }
    must(call_destroy(), "destroy");
    world->bus = NULL;
    unsigned limit = world->subject->subscriptions_max;
    if (limit > 0 && world->options.steady > limit)
        world->options.steady = limit;
}

static void begin(void)
{
    const struct rlimit no_cores = {0, 0};
    setrlimit(RLIMIT_CORE, &no_cores);
    workers_init();
    watchdog_init();
    stopper_start();
    choose_scenarios(); /* first without oom, of which the subject decides */
    sandbox_start(is_chosen(&reuse_scenario), is_chosen(&handles_scenario));
    worker_adopt("main");
    watchdog_start();
    try_subject();
    choose_scenarios();
}

static void load_subject(void)
{
    const struct subject *subject = subject_load(world->options.subject);
    if (!subject)
        refuse(EXIT_USAGE);
    world->subject = subject;
    snprintf(world->subject_name, sizeof world->subject_name, "%s", subject->name);
    snprintf(world->subject_summary, sizeof world->subject_summary, "%s", subject->summary);
    text_clean(world->subject_name);
    text_clean(world->subject_summary);
    world->claims = subject->claims;
    world->begin_ns = now_ns();
    atomic_store(&world->begun, true);
}

/* ------------------------------------------------------------------- in a process of its own */

static void run_whole(void)
{
    warm_up();
    watchdog_start();
    result->rss_begin = result->rss_peak = resident_bytes();
    run(world->options.seconds);
    stopper_end();
    sandbox_end();
    watchdog_end();
    malloc_trim(0);
    result->rss_end = resident_bytes();
    if (RESIDENT_IS_OURS && result->rss_end > result->rss_begin + (long)LEFT_LIMIT)
        verdict_violated(BOUNDED_MEMORY, "%ld KiB resident before, %ld KiB after",
                         result->rss_begin / 1024, result->rss_end / 1024);
    verdict_checked(BOUNDED_MEMORY, RESIDENT_IS_OURS);
}

static int run_child(void)
{
    int status = EXIT_PASS;
    load_subject();
    begin();
    if (in_scenes()) {
        world->begin_ns = now_ns();
        status = world->options.history    ? history_run()
                 : world->options.outcomes ? outcomes_run()
                                           : schedule_run();
    } else {
        run_whole();
    }
    atomic_store(&world->ending, ENDING_WHOLE);
    return status;
}

/* ---------------------------------------------------------- in the process that watches over it */

static void share(void)
{
    verdict_init();
    workers_share();
    latency_init();
    dump_init();
    watchdog_share();
    report_init();
}

/* A scenario that was asked for by name could not be run. */
static bool lacks_a_scenario(void)
{
    for (unsigned i = 0; world->options.scenarios && i < scenario_count; i++)
        if (result->skipped[i] && result->skipped[i][0] != '\0')
            return true;
    return false;
}

/* Nothing was violated: was it checked often enough? */
static enum verdict good_or_not_known(void)
{
    if (lacks_a_scenario())
        return VERDICT_INCONCLUSIVE;
    for (int g = 0; g < GUARANTEES; g++)
        if (verdict_too_few((enum guarantee)g))
            return VERDICT_INCONCLUSIVE;
    return VERDICT_PASS;
}

static enum verdict decide(const struct end *end)
{
    uint32_t ending = atomic_load(&world->ending);
    if (ending == ENDING_HANG || ending == ENDING_STILL || watchdog_hangs())
        return VERDICT_HANG;
    if (supervise_interrupted() && ending == ENDING_NONE)
        return verdict_good() ? VERDICT_INCONCLUSIVE : VERDICT_FAIL;
    /* A sanitizer ends with a status of its own what has come to its end. */
    if (ending == ENDING_NONE ||
        (ending == ENDING_WHOLE && (end->signal || (!in_scenes() && end->status != EXIT_PASS)))) {
        watchdog_ended(end->signal, end->status);
        return VERDICT_CRASH;
    }
    if (!verdict_good() || ending == ENDING_FAILED || ending == ENDING_EARLY)
        return VERDICT_FAIL;
    return good_or_not_known();
}

static const int exit_status[VERDICTS] = {[VERDICT_PASS] = EXIT_PASS,
                                          [VERDICT_FAIL] = EXIT_VIOLATION,
                                          [VERDICT_INCONCLUSIVE] = EXIT_INCONCLUSIVE,
                                          [VERDICT_CRASH] = EXIT_CRASH,
                                          [VERDICT_HANG] = EXIT_HANG};

static void print_scene_end(void)
{
    if (world->schedule[0])
        printf("again with    --schedule %s\n", world->schedule);
    report_end();
}

/* Run once. Returns the exit status. */
static int run_once(void)
{
    struct end end = supervise(run_child);
    uint32_t ending = atomic_load(&world->ending);
    if (ending == ENDING_REFUSED)
        return end.status;
    if (!flag(&world->begun)) {
        fprintf(stderr, "exitbus-stress: the process ended when it loaded %s\n",
                world->options.subject);
        return supervise_interrupted() ? EXIT_ENVIRONMENT : EXIT_CRASH;
    }
    result->verdict = decide(&end);
    watchdog_settle();
    if (result->elapsed == 0 && world->begin_ns)
        result->elapsed = elapsed();
    if (!in_scenes())
        report_summary();
    else if (ending == ENDING_WHOLE && result->verdict != VERDICT_CRASH)
        return end.status;
    else
        print_scene_end();
    return exit_status[result->verdict];
}

/* For the next run: all but the options is as it was. */
static void begin_anew(void)
{
    struct options options = world->options;
    shared_clear();
    world->options = options;
    world->options.seed++;
    latency_init();
}

static bool is_failure(int status)
{
    return status != EXIT_PASS && status != EXIT_INCONCLUSIVE;
}

static int run_all(void)
{
    const struct options *options = &world->options;
    bool single = options->repeat == 1 && !options->until_failure;
    int worst = EXIT_PASS;
    for (unsigned number = 1;; number++) {
        if (!single)
            printf("run           %u\n", number);
        int status = run_once();
        if (status != EXIT_PASS)
            worst = status;
        bool last = number >= options->repeat && !options->until_failure;
        if (is_failure(status) || last || supervise_interrupted())
            return worst;
        printf("\n");
        begin_anew();
    }
}

static bool names_are_known(void)
{
    const struct options *options = &world->options;
    if (options->schedule && !schedule_valid(options->schedule)) {
        fprintf(stderr, "exitbus-stress: '%s' is not a schedule\n", options->schedule);
        return false;
    }
    if (options->outcomes && !outcomes_known(options->outcomes)) {
        fprintf(stderr, "exitbus-stress: there is no small scene '%s'\n", options->outcomes);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    world = shared_alloc(sizeof *world);
    options_parse(argc, argv, &world->options);
    for (unsigned i = 0; i < world->options.plugin_count; i++)
        if (plugin_load(world->options.plugins[i]) < 0)
            return EXIT_USAGE;
    if (world->options.list)
        return list();
    if (world->options.mutants)
        return mutants_run();
    if (!names_are_known())
        return EXIT_USAGE;
    share();
    if (!in_scenes() && report_open() < 0)
        return EXIT_ENVIRONMENT;
    int status = run_all();
    bool any = flag(&world->begun) && atomic_load(&world->ending) != ENDING_REFUSED;
    if (any && report_write() < 0)
        status = EXIT_ENVIRONMENT;
    int interrupted = supervise_interrupted();
    if (interrupted) {
        fflush(NULL);
        signal(interrupted, SIG_DFL);
        raise(interrupted);
    }
    return status;
}
