/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The run inside namespaces of its own: see sandbox.h. */
#include "sandbox.h"
#include "../checks/verdict.h"
#include "../scenarios/scenarios.h"
#include "options.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

/* The kernel begins again at 300, and threads take pids, too. */
#define PID_MAX "700"
#define PIDS 400
/* From this version on a pid namespace has its own limit; writing it before would change that of
 * the machine. */
#define KERNEL_MAJOR 6
#define KERNEL_MINOR 14
/* How the process between says that there could be no namespace. */
#define UNFIT 77
#define POLL_MS 50

static int outcome = -1; /* the pipe by which its exit status comes */
static int known = -1;   /* that status, if it has been read */
static int findings = -1;
static bool reuses, signals; /* what it is for */

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}

static bool enter_namespaces(void)
{
    char map[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (uid == 0)
        return unshare(CLONE_NEWPID | CLONE_NEWNS) == 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) != 0)
        return false;
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (!write_file("/proc/self/uid_map", map) || !write_file("/proc/self/setgroups", "deny"))
        return false;
    snprintf(map, sizeof map, "0 %u 1", gid);
    return write_file("/proc/self/gid_map", map);
}

/* As the first process of the pid namespace. */
static void prepare(void)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0 ||
        !write_file("/proc/sys/kernel/pid_max", PID_MAX))
        _exit(UNFIT);
}

static void run_inside(void)
{
    char seconds[16], seed[24], patience[16], json[32], program[] = "/proc/self/exe";
    prepare();
    snprintf(seconds, sizeof seconds, "%u", world->options.seconds);
    snprintf(seed, sizeof seed, "%" PRIu64, world->options.seed);
    snprintf(patience, sizeof patience, "%u", world->options.patience);
    snprintf(json, sizeof json, "/proc/self/fd/%d", findings);
    fcntl(findings, F_SETFD, 0);
    if (!freopen("/dev/null", "w", stdout))
        _exit(EXIT_ENVIRONMENT);
    const char *inside = !signals ? "exits,fork"
                         : reuses ? "exits,fork,signals-to-handles"
                                  : "signals-to-handles";
    execl(program, world->options.argv[0], "--inside", "--scenario", inside, "--producers", "1",
          "--steady", "1", "--every", "0", "--seconds", seconds, "--seed", seed, "--patience",
          patience, "--subject", world->options.subject, "--child", world->options.child, "--json",
          json, (char *)NULL);
    _exit(EXIT_ENVIRONMENT);
}

/* The status of the run; it is not to survive the one that waits for its outcome. */
static unsigned char await_end(pid_t first, int report)
{
    struct pollfd reader = {.fd = report}; /* POLLERR: nobody will read it any more */
    int wait_status;
    pid_t ended;
    while ((ended = waitpid(first, &wait_status, WNOHANG)) == 0)
        if (poll(&reader, 1, POLL_MS) != 0)
            kill(first, SIGKILL);
    if (ended != first)
        return UNFIT;
    return WIFEXITED(wait_status) ? (unsigned char)WEXITSTATUS(wait_status)
                                  : (unsigned char)(128 + WTERMSIG(wait_status));
}

/* In the process between: make the namespaces, wait, tell. */
static void supervise(int report)
{
    unsigned char status = UNFIT;
    if (enter_namespaces()) {
        pid_t first = fork();
        if (first == 0)
            run_inside();
        if (first > 0)
            status = await_end(first, report);
    }
    if (write(report, &status, 1) != 1)
        _exit(1);
    _exit(0);
}

const char *sandbox_unfit(void)
{
    struct utsname machine;
    int major, minor;
    if (world->options.inside)
        return "";
    uname(&machine);
    if (sscanf(machine.release, "%d.%d", &major, &minor) != 2 || major < KERNEL_MAJOR ||
        (major == KERNEL_MAJOR && minor < KERNEL_MINOR))
        return "needs Linux 6.14, where a pid namespace has a limit of its own";
    return NULL;
}

void sandbox_start(bool reuse, bool handles)
{
    int ends[2];
    reuses = reuse;
    signals = handles;
    if ((!reuse && !handles) || sandbox_unfit())
        return;
    findings = memfd_create("findings", MFD_CLOEXEC);
    if (findings < 0 || pipe2(ends, O_CLOEXEC) != 0)
        return;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        if (fork() == 0)
            supervise(ends[1]);
        _exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    close(ends[1]);
    outcome = ends[0];
}

static json_int_t total(const json_t *report, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(report, "totals"), name));
}

/* What has come of the signals there. Returns whether one has hit a stranger. */
static bool take_signals(const json_t *report)
{
    size_t i;
    json_t *guarantee;
    bool violated = false;
    json_array_foreach(json_object_get(report, "guarantees"), i, guarantee)
    {
        const char *id = json_string_value(json_object_get(guarantee, "id"));
        if (!id || strcmp(id, guarantee_ids[SIGNALS_HIT]) != 0)
            continue;
        json_int_t checks = json_integer_value(json_object_get(guarantee, "checks"));
        const char *first = json_string_value(json_object_get(guarantee, "first"));
        verdict_checked(SIGNALS_HIT, (uint64_t)checks);
        if (first)
            verdict_violated(SIGNALS_HIT, "with few pids: %s", first);
        violated = first;
    }
    count(&world->pids_back, (uint64_t)total(report, "pids_back"));
    return violated;
}

void sandbox_end(void)
{
    unsigned char status;
    if (outcome < 0)
        return;
    ssize_t got = 1;
    if (known >= 0)
        status = (unsigned char)known;
    else
        got = read(outcome, &status, 1);
    close(outcome);
    outcome = known = -1;
    if (got == 1 && status == UNFIT) {
        if (reuses)
            printf("reuse         not run: no pid namespace of our own to be had\n");
        return;
    }
    lseek(findings, 0, SEEK_SET);
    json_t *report = json_loadfd(findings, 0, NULL);
    json_int_t children = total(report, "children");
    if (reuses)
        printf("reuse         %" JSON_INTEGER_FORMAT " children with %d pids between them\n",
               children, PIDS);
    bool hit = signals && take_signals(report);
    /* With so few scenarios some guarantee is checked too rarely. */
    if (!hit && (got != 1 || (status != EXIT_PASS && status != EXIT_INCONCLUSIVE)))
        verdict_violated(NO_LOSS,
                         "the run with few pids failed (status %d): see what it has printed",
                         got == 1 ? status : -1);
    verdict_checked(NO_LOSS, children > 0 ? (uint64_t)children : 0);
    json_decref(report);
    close(findings);
}

void sandbox_look(void)
{
    struct pollfd ended = {.fd = outcome, .events = POLLIN};
    unsigned char status;
    if (outcome < 0 || known >= 0 || poll(&ended, 1, 0) <= 0 || read(outcome, &status, 1) != 1)
        return;
    known = status;
    if (status == EXIT_VIOLATION)
        sandbox_end();
}

/* ----------------------------------------------------------------------------- as a scenario */

static void start(struct crew *residents, struct crew *visitors)
{
    (void)residents; /* it was started before all others: see sandbox_start */
    (void)visitors;
}

static const char *unfit(void)
{
    const char *reason = exits_scenario.unfit();
    return reason ? reason : sandbox_unfit();
}

const struct scenario reuse_scenario = {
    "reuse", "pids that come round within seconds, in a pid namespace with 400 of them", unfit,
    start, NULL};
