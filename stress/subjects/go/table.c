/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The table of functions, which are in monitor.go: Go can't make one that C reads. */
#include "subject.h"
#include "_cgo_export.h"

static int make(const struct subject_host *host, void **bus)
{
    (void)host;
    return goCreate(bus);
}

static int publish(void *bus, const struct subject_event *events, size_t count, uint64_t *first_seq)
{
    (void)count;
    return goPublish(bus, (struct subject_event *)events, first_seq);
}

static int subscribe(void *bus, const struct subject_topic *topic, uint32_t flags,
                     void **subscription)
{
    (void)flags;
    return goSubscribe(bus, (struct subject_topic *)topic, subscription);
}

static ssize_t receive(void *subscription, struct subject_event *events, size_t capacity,
                       int64_t timeout_ns)
{
    (void)capacity;
    return goReceive(subscription, events, timeout_ns);
}

const struct subject exitbus_stress_subject = {
    SUBJECT_HEAD("go", "an unbounded queue and a channel for each subscription, behind a Mutex"),
    .claims = SUBJECT_G1 | SUBJECT_TOTAL_ORDER,
    .features = SUBJECT_WAITS,
    .topics = SUBJECT_TOPICS_ALL,
    .create = make,
    .destroy = goDestroy,
    .publish = publish,
    .subscribe = subscribe,
    .unsubscribe = goUnsubscribe,
    .receive = receive,
};
