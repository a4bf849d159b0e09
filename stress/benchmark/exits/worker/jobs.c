/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Ends jobs in cgroups, one after the other. A job is a process that starts another, which leaves
 * its session and starts a third. All ignore SIGTERM.
 *
 *     exitbus-jobs exitbus COUNT   by exitbus_group_end(), SIGKILL at once
 *     exitbus-jobs bare COUNT      cgroup.kill is written, and cgroup.events polled
 *     exitbus-jobs job FD          be such a job, which writes a byte for each process
 *
 * Prints ns until the job is empty: p50, p99 and the most. Exit status 1 if a job is not empty
 * then, or can't be made.
 */
#include <exitbus/exitbus.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES 3

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "jobs: %s: %s\n", what, strerror(error));
    exit(1);
}

static void must(int result, const char *what)
{
    if (result < 0)
        die(what, -result);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* ------------------------------------------------------------------------------------- the job */

static _Noreturn void rest(int told)
{
    if (write(told, "", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static _Noreturn void be_a_job(int told)
{
    signal(SIGTERM, SIG_IGN);
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            rest(told);
        rest(told);
    }
    rest(told);
}

/* ----------------------------------------------------------------------------------- its cgroup */

static char cgroup[PATH_MAX];

/* Make it below this process's own. Returns a descriptor of its directory. */
static int cgroup_make(void)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char line[PATH_MAX], own[PATH_MAX] = "/";
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "0::", 3) == 0)
            sscanf(line + 3, "%4000s", own);
    if (file)
        fclose(file);
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        snprintf(cgroup, sizeof cgroup, "%s%.3000s/cgroup.procs", roots[i], own);
        if (access(cgroup, F_OK) != 0)
            continue;
        snprintf(cgroup, sizeof cgroup, "%s%.3000s/exitbus-job-%d", roots[i], own, getpid());
        if (mkdir(cgroup, 0755) == 0)
            return open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return -1;
}

static bool cgroup_is_populated(int events)
{
    char text[256];
    ssize_t size = pread(events, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    return !strstr(text, "populated 0");
}

/* ------------------------------------------------------------------------------- end it, timed */

static struct exitbus *bus;

/* Start one in the cgroup, and wait for its processes. */
static struct exitbus_process *start(int directory)
{
    int told[2];
    char number[16], byte[PROCESSES];
    char *argv[] = {"/proc/self/exe", "job", number, NULL};
    if (pipe(told) != 0)
        die("pipe", errno);
    snprintf(number, sizeof number, "%d", told[1]);
    struct exitbus_spawn_attributes attributes = {.set = EXITBUS_ATTRIBUTE_CGROUP,
                                                  .cgroup_fd = directory};
    struct exitbus_spawn_options options = {
        .argv = argv, .flags = EXITBUS_SPAWN_ATTRIBUTES, .attributes = &attributes};
    struct exitbus_process *process;
    struct exitbus_spawn_report report;
    options.report = &report;
    if (exitbus_process_spawn(bus, &options, &process) < 0)
        die(exitbus_spawn_strerror(&report), -report.error);
    close(told[1]);
    for (size_t i = 0; i < PROCESSES; i++)
        if (read(told[0], &byte[i], 1) != 1)
            die("a job has not begun", EPIPE);
    close(told[0]);
    return process;
}

static int64_t end_by_group(int directory)
{
    struct exitbus_group_options options = {
        .kind = EXITBUS_GROUP_CGROUP, .name = "job", .cgroup_fd = directory};
    struct exitbus_group *group;
    struct exitbus_event event;
    must(exitbus_group_create(bus, &options, &group), "make a group");
    int64_t begin = now_ns();
    must(exitbus_group_end(group, SIGTERM, 0), "end a group");
    must(exitbus_group_wait(group, &event, -1), "wait for a group");
    int64_t end = now_ns();
    must(exitbus_group_unref(group), "give a group back");
    return end - begin;
}

static int64_t end_by_hand(int directory, int events)
{
    int64_t begin = now_ns();
    int fd = openat(directory, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "1", 1) != 1)
        die("cgroup.kill", errno);
    close(fd);
    while (cgroup_is_populated(events)) {
        struct pollfd changed = {.fd = events, .events = POLLPRI};
        poll(&changed, 1, -1);
    }
    return now_ns() - begin;
}

static int64_t run_one(bool by_group)
{
    int directory = cgroup_make();
    if (directory < 0)
        die("no cgroup v2 can be made", errno);
    int events = openat(directory, "cgroup.events", O_RDONLY | O_CLOEXEC);
    struct exitbus_process *process = start(directory);
    struct exitbus_event event;
    int64_t taken = by_group ? end_by_group(directory) : end_by_hand(directory, events);
    if (cgroup_is_populated(events))
        die("a job was said to be empty", EBUSY);
    must(exitbus_process_wait(process, &event, -1), "wait for a job");
    must(exitbus_process_unref(process), "give a handle back");
    close(events);
    close(directory);
    if (rmdir(cgroup) != 0)
        die("a job was said to be empty, and its cgroup is not", errno);
    return taken;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

int main(int argc, char *argv[])
{
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "job") == 0)
        be_a_job(atoi(argv[2]));
    int count = atoi(argv[2]);
    int64_t *taken = calloc((size_t)count, sizeof *taken);
    if (!taken || count <= 0)
        return 2;
    must(exitbus_create(&bus, NULL), "make a bus");
    for (int i = 0; i < count; i++)
        taken[i] = run_one(strcmp(argv[1], "exitbus") == 0);
    qsort(taken, (size_t)count, sizeof *taken, compare);
    printf("%lld %lld %lld\n", (long long)taken[count / 2], (long long)taken[count * 99 / 100],
           (long long)taken[count - 1]);
    free(taken);
    must(exitbus_destroy(bus), "destroy the bus");
    return 0;
}
