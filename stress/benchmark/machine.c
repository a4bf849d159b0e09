/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The machine as seen from here: clock, cores, distance between cores, memory. See bench.h. */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000u

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* -------------------------------------------------------------------------------------- cores */

/* What the process was allowed when it began: pinning narrows the calling thread's own mask. */
static cpu_set_t allowed;

__attribute__((constructor)) static void remember_cores(void)
{
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        CPU_SET(0, &allowed);
}

unsigned machine_cores(void)
{
    return (unsigned)CPU_COUNT(&allowed);
}

void machine_pin(unsigned core)
{
    unsigned left = core % machine_cores();
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || left-- > 0)
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

void machine_unpin(void)
{
    sched_setaffinity(0, sizeof allowed, &allowed);
}

/* ----------------------------------------------------------------------------------- distance */

#define TRIPS_OF_SERIES 200u
#define SERIES 20u /* the fastest counts: others were cut short by something else on the core */
#define LONGEST_NS 50000000u

static _Alignas(2 * CACHE_LINE) _Atomic uint32_t ball;

#define BALL_OVER UINT32_MAX

/* Answers every odd number with the next even one. */
static void *return_ball(void *unused)
{
    machine_pin(1);
    for (uint32_t seen; (seen = atomic_load_explicit(&ball, memory_order_acquire)) != BALL_OVER;)
        if (seen % 2 == 1)
            atomic_store_explicit(&ball, seen + 1, memory_order_release);
    return unused;
}

static double series_ns(uint32_t first)
{
    uint64_t begin = now_ns();
    for (uint32_t turn = first; turn < first + TRIPS_OF_SERIES; turn++) {
        atomic_store_explicit(&ball, 2 * turn + 1, memory_order_release);
        while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * turn + 2)
            ;
    }
    return (double)(now_ns() - begin) / TRIPS_OF_SERIES;
}

double machine_round_trip_ns(void)
{
    if (machine_cores() < 2)
        return 0;
    pthread_t other;
    machine_pin(0);
    atomic_store(&ball, 0);
    if (pthread_create(&other, NULL, return_ball, NULL) != 0)
        bench_die("cannot start a thread");
    double least = series_ns(0);
    uint64_t until = now_ns() + LONGEST_NS;
    for (uint32_t i = 1; i < SERIES && now_ns() < until; i++) {
        double ns = series_ns(i * TRIPS_OF_SERIES);
        least = ns < least ? ns : least;
    }
    atomic_store_explicit(&ball, BALL_OVER, memory_order_release);
    pthread_join(other, NULL);
    machine_unpin();
    return least;
}

/* ------------------------------------------------------------------------------------- memory */

size_t machine_resident(void)
{
    unsigned long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%lu %lu", &size, &resident) != 2)
        bench_die("cannot read /proc/self/statm");
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* -------------------------------------------------------------------------------------- model */

void machine_model(char *text, size_t size)
{
    static const char label[] = "model name";
    snprintf(text, size, "an unnamed model");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, label, sizeof label - 1) != 0 || !value)
            continue;
        value += 1 + strspn(value + 1, " ");
        snprintf(text, size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (file)
        fclose(file);
}
