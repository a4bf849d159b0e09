/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The three ways to receive: by trying over and over, by a blocking call, and by waiting for the
 * descriptor before a try. A test written with TEST_EACH_WAY runs once for each.
 */
#ifndef WAYS_H
#define WAYS_H

#include "harness.h"
#include "threads.h"

#include <exitbus/exitbus.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>

enum way { WAY_TRY, WAY_BLOCKING, WAY_FD, WAYS };

#define TEST_EACH_WAY(suite, name)                                                                 \
    static void suite##_##name##_each(enum way way);                                               \
    TEST(suite, name##_try)                                                                        \
    {                                                                                              \
        suite##_##name##_each(WAY_TRY);                                                            \
    }                                                                                              \
    TEST(suite, name##_blocking)                                                                   \
    {                                                                                              \
        suite##_##name##_each(WAY_BLOCKING);                                                       \
    }                                                                                              \
    TEST(suite, name##_fd)                                                                         \
    {                                                                                              \
        suite##_##name##_each(WAY_FD);                                                             \
    }                                                                                              \
    static void suite##_##name##_each(enum way way)

/* True if the descriptor polls readable now. */
static inline bool fd_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int ready = poll(&poll_fd, 1, 0);
    must(ready >= 0);
    return ready == 1 && poll_fd.revents == POLLIN;
}

static inline void fd_wait(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    int ready;
    do
        ready = poll(&poll_fd, 1, -1);
    while (ready < 0 && errno == EINTR);
    must_equal(ready, 1);
    must_equal(poll_fd.revents, POLLIN);
}

/*
 * The subscription's descriptor. Those of subscriptions that are gone stay open until a grace
 * period is over, so a test that makes many has to wait when it has run out of them.
 */
static inline int fd_of(struct exitbus_subscription *subscription)
{
    int fd;
    await((fd = exitbus_subscription_fd(subscription)) != -EMFILE);
    must(fd >= 0);
    return fd;
}

/* What makes the way ready to receive; called once, before the events that are waited for. */
static inline void way_prepare(enum way way, struct exitbus_subscription *subscription)
{
    if (way == WAY_FD)
        (void)fd_of(subscription);
}

/* Receive the given way, and wait for the first event: how many, or -ESHUTDOWN. */
static inline ssize_t way_receive(enum way way, struct exitbus_subscription *subscription,
                                  struct exitbus_event *events, size_t capacity)
{
    ssize_t count;
    if (way == WAY_BLOCKING) {
        count = exitbus_receive_batch(subscription, events, capacity, -1);
        must(count > 0 || count == -ESHUTDOWN);
        return count;
    }
    int fd = way == WAY_FD ? fd_of(subscription) : -1;
    for (;;) {
        if (way == WAY_FD)
            fd_wait(fd);
        count = exitbus_receive_batch(subscription, events, capacity, 0);
        must(count > 0 || count == -EAGAIN || count == -ESHUTDOWN);
        if (count != -EAGAIN)
            return count;
        if (way == WAY_TRY)
            sched_yield();
    }
}

/* Nothing waits, the subscription is open, and the descriptor (if there is one) says so. */
static inline void must_be_empty(struct exitbus_subscription *subscription)
{
    struct exitbus_event event;
    must_equal(exitbus_receive(subscription, &event, 0), -EAGAIN);
    must_equal(exitbus_subscription_pending(subscription), 0);
}

#endif
