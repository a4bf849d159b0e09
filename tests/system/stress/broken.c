/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Six broken buses for exitbus-stress: subject `mutex` with one small defect, which the macro
 * BROKEN names. Built by ./run, which expects that each is caught, and by what name.
 */
#include "monitor.c"

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

/* An event in a hundred is kept, and published behind the next one of another producer. */
static int publish_late(void *bus, const struct subject_event *events, size_t count,
                        uint64_t *first_seq)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct subject_event kept;
    static bool keeps;
    static uint64_t number;
    uint64_t seq;
    pthread_mutex_lock(&lock);
    if (!keeps && count == 1 && number++ % 100 == 99) {
        kept = *events;
        keeps = true;
        *first_seq = 0;
        pthread_mutex_unlock(&lock);
        return 0;
    }
    bool same = keeps && kept.producer == events->producer;
    if (same)
        publish(bus, &kept, 1, &seq);
    publish(bus, events, count, first_seq);
    if (keeps && !same)
        publish(bus, &kept, 1, &seq);
    keeps = false;
    pthread_mutex_unlock(&lock);
    return 0;
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
