/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Event loops on a subscription's descriptor, as hosts have them: epoll, level- and edge-triggered,
 * poll, and io_uring's multishot poll. Each has a publisher of its own. A loop that sleeps on while
 * something is there for it has lost a wake-up; one that finds nothing was woken for nothing. Not
 * counted is the one wake-up of an event that was taken while its publish went on: that publish has
 * still to tell of it, and can't know.
 */
#include "../checks/stream.h"
#include "../checks/synthetic.h"
#include "../checks/verdict.h"
#include "../engine/calls.h"
#include "scenarios.h"

#include <errno.h>
#include <inttypes.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BURST_MAX 4
#define NAP_NS_MAX 200000
#define LEAD 256 /* events that a loop may be behind */
#define LONG_MS 50
/*
 * Wake-ups for nothing that are allowed: one for twenty events, and those of the begin. Where the
 * subject's steps are slowed, one for four: whoever helps with an event may tell of it late, too.
 */
#define EMPTY_SHARE 20
#define EMPTY_SHARE_SLOWED 4
#define EMPTY_FREE 20

struct loop;

/* A way to wait for a descriptor. Result: as of poll(). */
struct waiter {
    const char *name;
    bool leaves; /* takes some of what there is, and expects to be told again */
    int (*open)(struct loop *loop);
    int (*wait)(struct loop *loop, int ms);
    void (*close)(struct loop *loop);
};

struct loop {
    const struct waiter *waiter;
    struct publisher publisher;
    struct stream stream;
    void *subscription;
    int fd, epoll;
    struct io_uring ring;
    bool armed;
    bool early; /* one of the latest events was taken while its publish went on, perhaps */
    uint64_t woken, empty;
    _Atomic uint64_t published; /* events whose publish has returned */
    _Atomic uint64_t received;
    _Atomic bool over; /* nothing more will be published */
};

/* --------------------------------------------------------------------------------------- epoll */

static int epoll_open(struct loop *loop, uint32_t events)
{
    struct epoll_event event = {.events = events};
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0)
        return -errno;
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->fd, &event) == 0)
        return 0;
    int error = -errno;
    close(loop->epoll);
    return error;
}

static int open_level(struct loop *loop)
{
    return epoll_open(loop, EPOLLIN);
}

static int open_edge(struct loop *loop)
{
    return epoll_open(loop, EPOLLIN | EPOLLET);
}

static int wait_epoll(struct loop *loop, int ms)
{
    struct epoll_event event;
    return epoll_wait(loop->epoll, &event, 1, ms);
}

static void close_epoll(struct loop *loop)
{
    close(loop->epoll);
}

/* ---------------------------------------------------------------------------------------- poll */

static int open_poll(struct loop *loop)
{
    (void)loop;
    return 0;
}

static int wait_poll(struct loop *loop, int ms)
{
    struct pollfd fd = {.fd = loop->fd, .events = POLLIN};
    return poll(&fd, 1, ms);
}

static void close_poll(struct loop *loop)
{
    (void)loop;
}

/* ------------------------------------------------------------------------------------ io_uring */

/* Returns true if that was possible. */
static bool arm(struct io_uring *ring, int fd)
{
    struct io_uring_sqe *wish = io_uring_get_sqe(ring);
    if (!wish)
        return false;
    io_uring_prep_poll_multishot(wish, fd, POLLIN);
    return io_uring_submit(ring) == 1;
}

/* Take all that has completed. Returns how much, or a negative errno value. */
static int take_completions(struct io_uring *ring, bool *armed)
{
    struct io_uring_cqe *done;
    unsigned place, count_ = 0;
    int error = 0;
    io_uring_for_each_cqe(ring, place, done)
    {
        if (!(done->flags & IORING_CQE_F_MORE))
            *armed = false;
        if (done->res < 0)
            error = done->res;
        count_++;
    }
    io_uring_cq_advance(ring, count_);
    return error ? error : (int)count_;
}

/* Linux knows it since 5.13. */
static bool knows_multishot(struct io_uring *ring)
{
    struct io_uring_cqe *done;
    bool armed = true;
    int ready = eventfd(1, EFD_CLOEXEC);
    bool knows = ready >= 0 && arm(ring, ready) && io_uring_wait_cqe(ring, &done) == 0 &&
                 take_completions(ring, &armed) > 0 && armed;
    if (ready >= 0)
        close(ready); /* and with the last of it, the poll ends */
    return knows;
}

static int open_uring(struct loop *loop)
{
    loop->armed = false;
    struct io_uring probe;
    int error = io_uring_queue_init(8, &probe, 0);
    if (error < 0)
        return error;
    bool knows = knows_multishot(&probe);
    io_uring_queue_exit(&probe);
    return knows ? io_uring_queue_init(8, &loop->ring, 0) : -EOPNOTSUPP;
}

static int wait_uring(struct loop *loop, int ms)
{
    struct __kernel_timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000LL};
    struct io_uring_cqe *done;
    if (!loop->armed && !arm(&loop->ring, loop->fd)) {
        errno = EIO;
        return -1;
    }
    loop->armed = true;
    int result = io_uring_wait_cqe_timeout(&loop->ring, &done, &time);
    if (result == -ETIME)
        return 0;
    /* What has completed meanwhile is one wake-up: a loop takes it all before it looks. */
    if (result == 0)
        result = take_completions(&loop->ring, &loop->armed);
    errno = result < 0 ? -result : 0;
    return result < 0 ? -1 : 1;
}

static void close_uring(struct loop *loop)
{
    io_uring_queue_exit(&loop->ring);
}

static const struct waiter waiters[] = {
    {"level-triggered epoll", true, open_level, wait_epoll, close_epoll},
    {"edge-triggered epoll", false, open_edge, wait_epoll, close_epoll},
    {"poll", true, open_poll, wait_poll, close_poll},
    {"io_uring", false, open_uring, wait_uring, close_uring},
};
#define LOOPS (sizeof waiters / sizeof waiters[0])

static struct loop loops[LOOPS];

/* ---------------------------------------------------------------------------------------- loop */

/* Receive once, or until there is nothing. Returns how many came, or a negative errno value. */
static ssize_t drain(struct loop *loop)
{
    struct subject_event events[BURST_MAX];
    ssize_t all = 0;
    while (all == 0 || !loop->waiter->leaves) {
        size_t capacity =
            loop->waiter->leaves ? 1 + random_below(&self->random, BURST_MAX) : BURST_MAX;
        uint64_t returned = atomic_load(&loop->published);
        ssize_t got = call_receive(loop->subscription, events, capacity, 0);
        if (got == -ENOMEM)
            continue;
        if (got <= 0)
            return got == -EAGAIN ? all : got;
        stream_check(&loop->stream, events, (size_t)got);
        all += got;
        uint64_t before = atomic_fetch_add(&loop->received, (uint64_t)got);
        loop->early |= before + (uint64_t)got > returned;
    }
    return all;
}

static bool is_over(const struct loop *loop)
{
    return flag(&loop->over) && atomic_load(&loop->received) >= atomic_load(&loop->published);
}

/* Wait for the descriptor. False: a wake-up was lost, or the wait fails. */
static bool sleeps_well(struct loop *loop)
{
    uint64_t due = atomic_load(&loop->published), since_ns = now_ns();
    while (now_ns() < since_ns + (uint64_t)patience_ns()) {
        call_begin(OPERATION_DESCRIPTOR, loop->subscription, LONG_MS * 1000000);
        int result = loop->waiter->wait(loop, LONG_MS);
        int error = errno;
        call_end(result, 0);
        if (result > 0) {
            loop->woken++;
            return true;
        }
        if (result < 0 && error != EINTR) {
            fprintf(stderr, "exitbus-stress: loops, %s: %s\n", loop->waiter->name, strerror(error));
            return false;
        }
        uint64_t now_due = atomic_load(&loop->published);
        uint64_t received = atomic_load(&loop->received);
        if (is_over(loop))
            return true;
        if (now_due != due || received >= now_due) { /* there is none, or a new one */
            due = now_due;
            since_ns = now_ns();
        }
    }
    verdict_violated(NO_LOSS, "%s was not told of an event for %u s", loop->waiter->name,
                     world->options.patience);
    return false;
}

static void judge(const struct loop *loop)
{
    uint64_t received = atomic_load(&loop->received);
    unsigned share = world->subject->set_step ? EMPTY_SHARE_SLOWED : EMPTY_SHARE;
    if (loop->empty > received / share + EMPTY_FREE)
        verdict_violated(LOOPS_TOLD_ONCE,
                         "%s was woken %" PRIu64 " times for nothing, by %" PRIu64 " events",
                         loop->waiter->name, loop->empty, received);
    verdict_checked(LOOPS_TOLD_ONCE, loop->woken);
}

static void *loop_body(void *number)
{
    struct loop *loop = &loops[(uintptr_t)number];
    worker_block_signals(); /* a signal would wake what the bus has left asleep */
    ssize_t got = drain(loop);
    while (got >= 0 && !is_over(loop)) {
        uint64_t woken = loop->woken;
        if (!sleeps_well(loop))
            break;
        bool early = loop->early;
        loop->early = false;
        got = drain(loop);
        if (got == 0 && loop->woken > woken && !early)
            loop->empty++;
    }
    if (got < 0)
        verdict_violated(CLEAN_FAILURE, "receive in a loop: %s", strerror((int)-got));
    judge(loop);
    loop->waiter->close(loop);
    call_unsubscribe(loop->subscription);
    return NULL;
}

static void *feeder_body(void *number)
{
    struct loop *loop = &loops[(uintptr_t)number];
    while (!flag(&world->stop_churn)) {
        for (unsigned burst = 1 + random_below(&self->random, BURST_MAX); burst > 0; burst--) {
            if (!publisher_send(&loop->publisher, 1))
                goto over;
            atomic_fetch_add(&loop->published, 1);
        }
        /* A wake-up that was lost shows only if no other comes behind it. */
        uint64_t lead = random_below(&self->random, 2) ? 0 : LEAD;
        while (atomic_load(&loop->published) > atomic_load(&loop->received) + lead &&
               !flag(&world->stop_churn))
            nap(NAP_NS_MAX, &world->stop_churn);
        if (random_below(&self->random, 2))
            nap(random_below(&self->random, NAP_NS_MAX), &world->stop_churn);
    }
over:
    atomic_store(&loop->over, true);
    return NULL;
}

/* Returns 0, or a negative errno value. */
static int loop_begin(struct loop *loop)
{
    struct subject_topic topic = synthetic_own_topic(loop->publisher.producer);
    stream_prepare(&loop->stream, &topic);
    loop->subscription = subscribe_surely(&topic, 0);
    if (!loop->subscription)
        return -ECANCELED;
    stream_begin(&loop->stream);
    loop->fd = world->subject->fd(loop->subscription);
    int error = loop->fd < 0 ? loop->fd : loop->waiter->open(loop);
    if (error < 0)
        call_unsubscribe(loop->subscription);
    return error;
}

static void loops_start(struct crew *residents, struct crew *visitors)
{
    (void)residents;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct loop *loop = &loops[i];
        memset(loop, 0, sizeof *loop);
        loop->waiter = &waiters[i];
        if (!publisher_claim(&loop->publisher))
            return;
        int error;
        struct plenty before;
        do {
            before = plenty_now();
            error = loop_begin(loop);
        } while (error < 0 && is_scarcity(error, &before));
        if (error < 0) { /* a sandbox forbids the call, or the kernel does not know it */
            fprintf(stderr, "exitbus-stress: loops, without %s: %s\n", loop->waiter->name,
                    strerror(-error));
            continue;
        }
        crew_add(visitors, "loop", i, loop_body);
        crew_add(visitors, "feeder", i, feeder_body);
    }
}

static const char *loops_unfit(void)
{
    if (!world->subject->fd)
        return "the subject has no descriptors";
    return needs_topics_of_one_pid();
}

const struct scenario loops_scenario = {
    "loops", "epoll, poll and io_uring: wake-ups that are lost, or for nothing", loops_unfit,
    loops_start, NULL};
