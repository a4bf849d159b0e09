/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in a loop of epoll(7), level-triggered, or edge-triggered by the word edge.
 *
 *     cc epoll.c $(pkg-config --cflags --libs exitbus) -pthread -o epoll && ./epoll 20000 200 edge
 */
#include "feed.h"

#include <sys/epoll.h>
#include <unistd.h>

#define RETRY_MS 100

/*
 * Receive until -EAGAIN: only the next event behind that makes an edge. A batch that is not full
 * would not do. Returns how long epoll_wait() may wait, in milliseconds: no edge tells that there
 * is memory again.
 */
static int receive_all(struct exitbus_subscription *exits, struct feed *feed)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(exits, &event, 0)) == 0)
        feed_event(feed, &event); /* your code */
    if (result == -ENOMEM)
        return RETRY_MS;
    if (result != -EAGAIN)
        fail("exitbus_receive", exitbus_strerror(result));
    return -1;
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct exitbus_subscription *exits;
    struct feed feed;
    bool more = true;
    int timeout_ms = -1;
    feed_arguments(&feed, "epoll", argc, argv, true);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &exits));
    int fd = must("exitbus_subscription_fd", exitbus_subscription_fd(exits));

    struct epoll_event ready = {.events = feed.edge ? EPOLLIN | EPOLLET : EPOLLIN};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, fd, &ready) < 0)
        fail("epoll", strerror(errno));
    feed_start(&feed, bus);
    while (more) {
        if (epoll_wait(loop, &ready, 1, timeout_ms) < 0) {
            if (errno != EINTR)
                fail("epoll_wait", strerror(errno));
            continue;
        }
        timeout_ms = receive_all(exits, &feed);
        more = feed_woken(&feed);
    }

    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number. */
    if (epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL) < 0)
        fail("epoll_ctl", strerror(errno));
    must("exitbus_unsubscribe", exitbus_unsubscribe(exits));
    close(loop);
    feed_end(&feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
