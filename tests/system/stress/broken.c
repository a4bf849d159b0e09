/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Six broken buses for exitbus-stress: subject `mutex` with one small defect, which the macro
 * BROKEN names. Built by ./run, which expects that each is caught, and by what name.
 */
#include "monitor.c"

#include <time.h>

#define NEVER_DELIVERS 1
#define DELIVERS_TWICE 2         /* one event in ONE_IN */
#define REORDERS 3               /* an event of one producer behind one of another */
#define AFTER_UNSUBSCRIBE 4      /* some events, for one unsubscribe in ONE_IN */
#define LEAKS 5                  /* 64 bytes, for one unsubscribe in 100 */
#define CRASHES_IN_UNSUBSCRIBE 6 /* the thousandth */

#ifndef ONE_IN
#define ONE_IN 1000000
#endif
#define LAPSES 4

static const struct subject_host *host;
static _Atomic uint64_t publishes, unsubscribes;
/* Receives behind an unsubscribe that are let through: one may have begun before it. */
static _Atomic int lapses;

static int broken_create(const struct subject_host *given, void **bus)
{
    host = given;
    return create(0, bus);
}

static int publish_nothing(void *bus, size_t count, uint64_t *first_seq)
{
    struct monitor *monitor = bus;
    pthread_mutex_lock(&monitor->lock);
    *first_seq = monitor->seq + 1;
    monitor->seq += count;
    pthread_mutex_unlock(&monitor->lock);
    return 0;
}

/*
 * An event in a hundred is kept, and published behind the next one of another producer. If none
 * comes, a receiver that looks for events publishes it, so that it is late but not lost.
 */
static struct {
    pthread_mutex_t lock;
    void *bus;
    struct subject_event event;
    uint64_t since_ns;
    _Atomic bool any;
    uint64_t number;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define KEPT_NS 1000000

static uint64_t broken_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void publish_kept(void)
{
    uint64_t seq;
    if (kept.any)
        publish(kept.bus, &kept.event, 1, &seq);
    kept.any = false;
}

static int publish_late(void *bus, const struct subject_event *events, size_t count,
                        uint64_t *first_seq)
{
    pthread_mutex_lock(&kept.lock);
    *first_seq = 0;
    if (!kept.any && count == 1 && kept.number++ % 100 == 99) {
        kept.bus = bus;
        kept.event = *events;
        kept.since_ns = broken_now();
        kept.any = true;
        pthread_mutex_unlock(&kept.lock);
        return 0;
    }
    if (kept.any && kept.event.producer == events->producer)
        publish_kept();
    publish(bus, events, count, first_seq);
    publish_kept();
    pthread_mutex_unlock(&kept.lock);
    return 0;
}

static void look_for_kept(void)
{
    if (!kept.any || pthread_mutex_trylock(&kept.lock) != 0)
        return;
    if (kept.any && broken_now() > kept.since_ns + KEPT_NS)
        publish_kept();
    pthread_mutex_unlock(&kept.lock);
}

static int broken_publish(void *bus, const struct subject_event *events, size_t count,
                          uint64_t *first_seq)
{
    if (BROKEN == NEVER_DELIVERS)
        return publish_nothing(bus, count, first_seq);
    if (BROKEN == REORDERS)
        return publish_late(bus, events, count, first_seq);
    int result = publish(bus, events, count, first_seq);
    uint64_t seq;
    if (BROKEN == DELIVERS_TWICE && ++publishes % ONE_IN == 0)
        publish(bus, events, 1, &seq);
    return result;
}

/* Uses a little memory, and does not always give it back. */
static void use_memory(uint64_t number)
{
    void *memory = host->allocate(64, 64);
    if (memory && number % 100 != 0)
        host->release(memory, 64);
}

static int broken_unsubscribe(void *subscription)
{
    uint64_t number = ++unsubscribes;
    if (BROKEN == LEAKS)
        use_memory(number);
    if (BROKEN == AFTER_UNSUBSCRIBE && number % ONE_IN == 0)
        lapses = LAPSES;
    if (BROKEN == CRASHES_IN_UNSUBSCRIBE && number == 1000)
        return *(volatile int *)8;
    return unsubscribe(subscription);
}

static ssize_t broken_receive(void *subscription, struct subject_event *events, size_t capacity,
                              int64_t timeout_ns)
{
    struct channel *channel = subscription;
    if (BROKEN == REORDERS)
        look_for_kept();
    if (BROKEN == AFTER_UNSUBSCRIBE && lapses > 0) {
        pthread_mutex_lock(&channel->lock);
        ssize_t got = 0;
        if (channel->closed && channel->count > 0 && !channel->one_shot) {
            got = (ssize_t)take(channel, events, 1);
            lapses--;
        }
        pthread_mutex_unlock(&channel->lock);
        if (got > 0)
            return got;
    }
    return receive(subscription, events, capacity, timeout_ns);
}

const struct subject exitbus_stress_subject = {
    SUBJECT_HEAD("broken", "a monitor with a small defect"),
    .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER | SUBJECT_G3 | SUBJECT_G6,
    .features = SUBJECT_WAITS | SUBJECT_SHARED | SUBJECT_ONE_SHOT,
    MONITOR_FUNCTIONS,
    .create = broken_create,
    .publish = broken_publish,
    .unsubscribe = broken_unsubscribe,
    .receive = broken_receive,
};
