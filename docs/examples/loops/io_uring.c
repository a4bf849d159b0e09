/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits by io_uring (liburing 2.3, Linux 5.13), by a poll that stays: multishot.
 *
 *     cc io_uring.c $(pkg-config --cflags --libs exitbus liburing) -pthread -o io_uring
 *     ./io_uring 20000 200
 */
#include "feed.h"

#include <liburing.h>
#include <poll.h>

#define SKIPPED 77 /* the exit status that the test takes for "not here" */

enum request { WATCH = 1, UNWATCH = 2 };

static void must_uring(const char *what, int result)
{
    if (result < 0)
        fail(what, strerror(-result));
}

/*
 * Returns what io_uring_queue_init() does. With DEFER_TASKRUN (Linux 6.1) completions are made only
 * while the loop waits. Those made while it receives are often for nothing.
 */
static int make_ring(struct io_uring *ring)
{
    int result =
        io_uring_queue_init(8, ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    return result == -EINVAL ? io_uring_queue_init(8, ring, 0) : result;
}

static void submit(struct io_uring *ring, enum request request, int fd)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(ring);
    if (!entry)
        fail("io_uring_get_sqe", "the queue is full");
    if (request == WATCH)
        io_uring_prep_poll_multishot(entry, fd, POLLIN);
    else
        io_uring_prep_poll_remove(entry, WATCH);
    io_uring_sqe_set_data64(entry, request);
    must_uring("io_uring_submit", io_uring_submit(ring));
}

/*
 * Wait for a completion; `timeout` may be NULL. Returns whether the poll is in the ring from then
 * on. The kernel ends a multishot poll by a completion without F_MORE.
 */
static bool wait_completion(struct io_uring *ring, struct __kernel_timespec *timeout)
{
    struct io_uring_cqe *completion;
    int result;
    do
        result = io_uring_wait_cqe_timeout(ring, &completion, timeout);
    while (result == -EINTR);
    if (result == -ETIME)
        return true;
    must_uring("io_uring_wait_cqe_timeout", result);
    bool ended = completion->user_data == WATCH && !(completion->flags & IORING_CQE_F_MORE);
    if (completion->user_data == WATCH && completion->res != -ECANCELED)
        must_uring("poll", completion->res);
    io_uring_cqe_seen(ring, completion);
    return !ended;
}

/* Returns 0 or -ENOMEM: no completion tells that there is memory again. */
static int receive_all(struct exitbus_subscription *exits, struct feed *feed)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(exits, &event, 0)) == 0)
        feed_event(feed, &event); /* your code */
    if (result != -EAGAIN && result != -ENOMEM)
        fail("exitbus_receive", exitbus_strerror(result));
    return result == -ENOMEM ? result : 0;
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct exitbus_subscription *exits;
    struct feed feed;
    struct io_uring ring;
    struct __kernel_timespec later = {.tv_nsec = 100000000};
    bool more = true, short_of_memory = false;
    feed_arguments(&feed, "io_uring", argc, argv, false);
    int result = make_ring(&ring);
    if (result == -ENOSYS || result == -EPERM) {
        fprintf(stderr, "skipped: there is no io_uring here: %s\n", strerror(-result));
        return SKIPPED;
    }
    must_uring("io_uring_queue_init", result);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &exits));
    int fd = must("exitbus_subscription_fd", exitbus_subscription_fd(exits));

    submit(&ring, WATCH, fd);
    feed_start(&feed, bus);
    while (more) {
        if (!wait_completion(&ring, short_of_memory ? &later : NULL))
            submit(&ring, WATCH, fd); /* ended, perhaps for lack of room in the ring */
        /* A multishot poll is edge-triggered: receive until -EAGAIN, and only then wait again. */
        short_of_memory = receive_all(exits, &feed) < 0;
        more = feed_woken(&feed);
    }

    /* First out of the loop, then unsubscribe: the poll would keep the descriptor's file open, and
     * that closes no more than the number. It is out when its last completion has come. */
    submit(&ring, UNWATCH, -1);
    while (wait_completion(&ring, NULL))
        continue;
    must("exitbus_unsubscribe", exitbus_unsubscribe(exits));
    io_uring_queue_exit(&ring);
    feed_end(&feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
