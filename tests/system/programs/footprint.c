/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What things cost in memory, and that it comes back: bytes per idle one-pid subscription (over
 * 100,000 of them), bytes per undelivered pid event, and what is left after unsubscribe and drain.
 * Two figures for each: what the bus says it holds, and how the resident set of the process grew.
 * Fails where a limit is exceeded.
 */
#include <exitbus/exitbus.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUBSCRIPTIONS 100000
#define EVENTS 1000000
#define SUBSCRIPTION_LIMIT 640
#define EVENT_LIMIT 80
#define LEFT_LIMIT (1L << 20)

static bool failed;

static void must(long result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "footprint: %s: %s\n", what, exitbus_strerror((int)result));
        exit(1);
    }
}

static long resident(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        exit(1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* All memory there is: mapped by the bus, and whatever anybody has from malloc. */
static long held(struct exitbus *bus)
{
    struct exitbus_stats stats;
    must(exitbus_stats(bus, &stats), "stats");
    struct mallinfo2 heap = mallinfo2();
    return (long)(stats.bytes + heap.uordblks + heap.hblkhd);
}

/* Sanitizers keep freed memory for a while. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RESIDENT_IS_OURS false
#else
#define RESIDENT_IS_OURS true
#endif

static void judge(const char *what, double value, double limit)
{
    bool over = value > limit && (RESIDENT_IS_OURS || !strstr(what, "resident"));
    printf("  %-52s %10.1f (limit %.0f)%s\n", what, value, limit, over ? "  OVER" : "");
    failed |= over;
}

/* Memory comes back by grace periods: wait until it stops getting less. */
static long settled(struct exitbus *bus)
{
    long before, now = held(bus);
    unsigned same = 0;
    while (same < 50) {
        usleep(20000);
        before = now;
        now = held(bus);
        same = now == before ? same + 1 : 0;
    }
    return now;
}

static void subscriptions(struct exitbus *bus)
{
    struct exitbus_subscription **all = calloc(SUBSCRIPTIONS, sizeof *all);
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        all[i] = NULL;
    long held_before = held(bus), resident_before = resident();
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        must(exitbus_subscribe(bus, exitbus_topic_pid(i + 1), 0, &all[i]), "subscribe");
    long held_more = held(bus) - held_before, resident_more = resident() - resident_before;
    printf("%d idle one-pid subscriptions\n", SUBSCRIPTIONS);
    judge("bytes held, each", (double)held_more / SUBSCRIPTIONS, SUBSCRIPTION_LIMIT);
    judge("bytes resident, each", (double)resident_more / SUBSCRIPTIONS, SUBSCRIPTION_LIMIT);
    for (int i = 0; i < SUBSCRIPTIONS; i++)
        must(exitbus_unsubscribe(all[i]), "unsubscribe");
    free(all);
}

static void events(struct exitbus *bus)
{
    struct exitbus_subscription *slow;
    must(exitbus_subscribe(bus, exitbus_topic_all(), 0, &slow), "subscribe");
    long held_before = settled(bus), resident_before = resident();
    for (int i = 0; i < EVENTS; i++)
        must(exitbus_publish_pid(bus, 1, 0), "publish");
    long held_more = held(bus) - held_before, resident_more = resident() - resident_before;
    printf("%d undelivered pid events\n", EVENTS);
    judge("bytes held, each", (double)held_more / EVENTS, EVENT_LIMIT);
    judge("bytes resident, each", (double)resident_more / EVENTS, EVENT_LIMIT);

    static struct exitbus_event taken[64];
    long count = 0;
    while (count < EVENTS) {
        ssize_t got = exitbus_receive_batch(slow, taken, 64, 0);
        must(got, "receive");
        count += got;
    }
    must(exitbus_unsubscribe(slow), "unsubscribe");
}

int main(void)
{
    struct exitbus *bus;
    must(exitbus_create(&bus, NULL), "create");
    must(exitbus_publish_pid(bus, 1, 0), "publish"); /* what every use needs is there from here */
    long held_begin = held(bus), resident_begin = resident();
    subscriptions(bus);
    events(bus);
    printf("left afterwards\n");
    judge("bytes held", (double)(settled(bus) - held_begin), LEFT_LIMIT * 2);
    judge("bytes resident", (double)(resident() - resident_begin), LEFT_LIMIT * 2);
    must(exitbus_destroy(bus), "destroy");
    malloc_trim(0);
    judge("bytes resident after destroy", (double)(resident() - resident_begin), LEFT_LIMIT);
    return failed;
}
