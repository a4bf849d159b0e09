/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Mutants: see mutants.h. Each is a shared object beside the program, and is run by another process
 * of this very program, until a violation, a crash, a hang, or the time is over. The library with
 * the same test hooks and no defect must pass first.
 */
#include "mutants.h"
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define CONTROL_SECONDS "15"
#define PATIENCE "4"
/* Past its time by more, a run is ended. */
#define OVERTIME 40
#define MEDIAN_RUNS 5
#define SOON_SECONDS 10u

static const struct defect {
    const char *name, *guarantee;
    const char *seen_by; /* "stress", or a test of its own */
    const char *what;
} defects[] = {
#define MUTANT(name, guarantee, seen_by, what) {#name, #guarantee, seen_by, what},
#include "mutants.inc" /* made from the headers in tests/mutants */
};
#define DEFECTS (sizeof defects / sizeof defects[0])

struct outcome {
    int status; /* exit status; 128 + signal; -1: it had to be ended */
    double seconds;
    char first[160]; /* what it said of the first violation */
};

static void path_of(const char *name, char *path, size_t size)
{
    char self_path[PATH_MAX] = "";
    if (readlink("/proc/self/exe", self_path, sizeof self_path - 1) < 0)
        self_path[0] = '\0';
    snprintf(path, size, "%s/mutants/%s.so", dirname(self_path), name);
}

static void first_violation(int fd, char *text, size_t size)
{
    static const char mark[] = "VIOLATION of ";
    char line[512];
    text[0] = '\0';
    FILE *file = lseek(fd, 0, SEEK_SET) == 0 ? fdopen(fd, "r") : NULL;
    while (file && !text[0] && fgets(line, sizeof line, file)) {
        if (strncmp(line, mark, strlen(mark)) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, size, "%.*s", (int)size - 1, line + strlen(mark));
    }
    if (file)
        fclose(file);
}

static int await_end(pid_t pid, unsigned seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds + OVERTIME) * 1000000000;
    int status;
    pid_t ended;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        if (now_ns() > end)
            kill(pid, SIGKILL);
        nap(5000000, NULL);
    }
    if (ended != pid || now_ns() > end)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int start(char *const argv[], int errors, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    int error = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static struct outcome run_one(const char *name, const char *seconds, uint64_t with_seed)
{
    struct outcome outcome = {.status = EXIT_ENVIRONMENT};
    char path[PATH_MAX + NAME_MAX], seed[24];
    path_of(name, path, sizeof path);
    snprintf(seed, sizeof seed, "%" PRIu64, with_seed);
    char scenarios[] = "churn,backlog,fanout,swarm,helpers,exits,signals,fork,oom,fds,threads,"
                       "stall,echo,idle,loops,misuse,lifecycle,groups,signals-to-handles";
    const char *argv[] = {world->options.argv[0],
                          "--subject",
                          path,
                          "--seconds",
                          seconds,
                          "--seed",
                          seed,
                          "--patience",
                          PATIENCE,
                          "--child",
                          world->options.child,
                          "--scenario",
                          scenarios,
                          NULL};
    int errors = memfd_create("errors", MFD_CLOEXEC);
    uint64_t began = now_ns();
    pid_t pid;
    int error = errors < 0 ? errno : start((char *const *)(uintptr_t)argv, errors, &pid);
    if (error) {
        snprintf(outcome.first, sizeof outcome.first, "%s", strerror(error));
        return outcome;
    }
    outcome.status = await_end(pid, (unsigned)strtoul(seconds, NULL, 10));
    outcome.seconds = (double)(now_ns() - began) / 1e9;
    first_violation(errors, outcome.first, sizeof outcome.first);
    if (outcome.status == EXIT_CRASH && !outcome.first[0])
        snprintf(outcome.first, sizeof outcome.first, "crashed");
    if (outcome.status > 128 && !outcome.first[0])
        snprintf(outcome.first, sizeof outcome.first, "crashed: %s",
                 strsignal(outcome.status - 128));
    return outcome;
}

static bool is_caught(const struct outcome *outcome)
{
    return outcome->status == EXIT_VIOLATION || outcome->status == EXIT_CRASH ||
           outcome->status == EXIT_HANG || outcome->status > 128;
}

static bool control_passes(void)
{
    struct outcome control = run_one("NONE", CONTROL_SECONDS, world->options.seed);
    bool passes = !is_caught(&control) && control.status != EXIT_ENVIRONMENT;
    printf("%-26s %-5s %s %5.1f s  %s\n", "(no defect)", "", passes ? "passes" : "FAILS ",
           control.seconds, control.first);
    fflush(stdout);
    return passes;
}

static int by_seconds(const void *a, const void *b)
{
    double one = ((const struct outcome *)a)->seconds, other = ((const struct outcome *)b)->seconds;
    return (one > other) - (one < other);
}

/*
 * One run; or several, with one seed after the other, and the one whose time is in the middle: a
 * defect that is missed counts with all the time it had.
 */
static struct outcome try_defect(const char *name, const char *seconds)
{
    struct outcome outcomes[MEDIAN_RUNS];
    unsigned runs = world->options.median ? MEDIAN_RUNS : 1;
    for (unsigned i = 0; i < runs; i++)
        outcomes[i] = run_one(name, seconds, world->options.seed + i);
    qsort(outcomes, runs, sizeof outcomes[0], by_seconds);
    return outcomes[runs / 2];
}

int mutants_run(void)
{
    unsigned caught = 0, run = 0, soon = 0;
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%u", world->options.seconds);
    printf("seed %" PRIu64 "\n%-26s %-5s %-14s %s\n", world->options.seed, "defect", "breaks",
           "caught after", "first violation");
    bool passes = control_passes();
    for (size_t i = 0; passes && i < DEFECTS; i++) {
        const struct defect *defect = &defects[i];
        if (strcmp(defect->seen_by, "stress") != 0) {
            printf("%-26s %-5s not run, seen by %s: %s\n", defect->name, defect->guarantee,
                   defect->seen_by, defect->what);
            continue;
        }
        struct outcome outcome = try_defect(defect->name, seconds);
        run++;
        caught += is_caught(&outcome);
        soon += is_caught(&outcome) && outcome.seconds <= SOON_SECONDS;
        printf("%-26s %-5s %s %5.1f s  %.100s\n", defect->name, defect->guarantee,
               is_caught(&outcome) ? "caught" : "MISSED", outcome.seconds, outcome.first);
        fflush(stdout);
    }
    printf("%u/%u caught, %u of them within %u s\n", caught, run, soon, SOON_SECONDS);
    return passes && caught == run ? EXIT_PASS : EXIT_VIOLATION;
}
