/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A host program that forks and execs, compiled with the library (HOST_WITH_EXITBUS) and without.
 * Prints the median time of COUNT times fork, exec and wait, in nanoseconds. A second argument is a
 * number of threads that do nothing: for a process with more than one, the kernel must tell other
 * cores of every page that fork has protected.
 *
 * With the library there is a WATCHED reaper, which leaves the host's children alone, and a bus
 * with subscriptions, one of which has a backlog. Either program has some memory of its own.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HOST_BYTES (32 << 20)

#ifdef HOST_WITH_EXITBUS
#include <exitbus/exitbus.h>

#define SUBSCRIPTIONS 1000
/* Of 64 bytes each. */
#define BACKLOG ((8 << 20) / 64)

static int start_bus(void)
{
    const struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_WATCHED};
    struct exitbus *bus = exitbus_default();
    struct exitbus_reaper *reaper;
    struct exitbus_subscription *subscription;
    if (!bus || exitbus_reaper_start(bus, &options, &reaper) < 0 ||
        exitbus_subscribe(bus, exitbus_topic_all(), 0, &subscription) < 0)
        return -1;
    for (int i = 1; i < SUBSCRIPTIONS; i++)
        if (exitbus_subscribe(bus, exitbus_topic_pid(i), 0, &subscription) < 0)
            return -1;
    for (int i = 0; i < BACKLOG; i++)
        if (exitbus_publish_pid(bus, SUBSCRIPTIONS + i, 0) < 0)
            return -1;
    return 0;
}
#else
static int start_bus(void)
{
    return 0;
}
#endif

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return (left > right) - (left < right);
}

static int64_t fork_once(void)
{
    char *argv[] = {TINY_CHILD, "0", NULL};
    int status;
    int64_t begin = now_ns();
    pid_t pid = fork();
    if (pid == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        fprintf(stderr, "host: a child could not be started\n");
        exit(1);
    }
    return now_ns() - begin;
}

static void *do_nothing(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

static int start_threads(int count)
{
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, do_nothing, NULL) != 0)
            return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 0;
    if (count <= 0)
        return 2;
    int64_t *times = calloc((size_t)count, sizeof *times);
    char *memory = malloc(HOST_BYTES);
    if (!times || !memory || start_bus() < 0 || start_threads(argc > 2 ? atoi(argv[2]) : 0) < 0)
        return 1;
    memset(memory, 1, HOST_BYTES);
    for (int i = 0; i < count; i++)
        times[i] = fork_once();
    qsort(times, (size_t)count, sizeof *times, compare);
    printf("%lld %d\n", (long long)times[count / 2], memory[count % HOST_BYTES]);
    return 0;
}
