/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * At rest nothing runs: a reaper, 1,000 threads blocked on 1,000 subscriptions and liburcu's
 * callback thread make not one context switch in ten seconds. Counts the switches of all threads
 * but the one that counts. Arguments: subscriptions, seconds.
 */
#include <dirent.h>
#include <exitbus/exitbus.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void must(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "idle: %s: %s\n", what, exitbus_strerror((int)result));
        exit(1);
    }
}

static void *wait_for_exit(void *subscription)
{
    struct exitbus_event event;
    exitbus_receive(subscription, &event, -1);
    exitbus_unsubscribe(subscription);
    return NULL;
}

static unsigned long field(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static unsigned long switches_of(const char *task)
{
    char path[300], status[4096];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    size_t size = fread(status, 1, sizeof status - 1, file);
    fclose(file);
    status[size] = '\0';
    return field(status, "\nvoluntary_ctxt_switches:") +
           field(status, "\nnonvoluntary_ctxt_switches:");
}

static unsigned long switches_of_others(unsigned *threads)
{
    unsigned long sum = 0;
    DIR *tasks = opendir("/proc/self/task");
    *threads = 0;
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
            continue;
        sum += switches_of(task->d_name);
        ++*threads;
    }
    if (tasks)
        closedir(tasks);
    return sum;
}

/* Until the threads have gone to sleep: no switch between two counts a moment apart. */
static unsigned long settle(unsigned *threads)
{
    const struct timespec moment = {.tv_nsec = 200000000};
    unsigned long before, now = switches_of_others(threads);
    do {
        before = now;
        nanosleep(&moment, NULL);
        now = switches_of_others(threads);
    } while (now != before);
    return now;
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
    struct timespec span = {.tv_sec = argc > 2 ? atoi(argv[2]) : 10};

    struct exitbus *bus;
    must(exitbus_create(&bus, NULL), "create");
    struct exitbus_reaper *reaper;
    struct exitbus_reaper_options options = {.mode = EXITBUS_REAPER_ALL};
    must(exitbus_reaper_start(bus, &options, &reaper), "reaper");

    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 128 << 10);
    pthread_t *threads = calloc(count, sizeof *threads);
    for (unsigned i = 0; i < count; i++) {
        struct exitbus_subscription *subscription;
        must(exitbus_subscribe(bus, exitbus_topic_pid((pid_t)i + 1), 0, &subscription),
             "subscribe");
        must(-pthread_create(&threads[i], &small, wait_for_exit, subscription), "thread");
    }
    struct exitbus_stats stats;
    do {
        sched_yield();
        must(exitbus_stats(bus, &stats), "stats");
    } while (stats.sleeping_receivers < count);

    unsigned others;
    unsigned long before = settle(&others);
    nanosleep(&span, NULL);
    unsigned long wakeups = switches_of_others(&others) - before;
    printf("%u blocked subscriptions, a reaper, %u threads: %lu wake-ups in %ld s\n", count, others,
           wakeups, (long)span.tv_sec);

    for (unsigned i = 0; i < count; i++)
        must(exitbus_publish_pid(bus, (pid_t)i + 1, 0), "publish");
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    must(exitbus_reaper_stop(reaper), "stop");
    must(exitbus_destroy(bus), "destroy");
    return wakeups == 0 ? 0 : 1;
}
