/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in a loop of libevent (2.1), level-triggered, or edge-triggered by the word edge.
 *
 *     cc libevent.c $(pkg-config --cflags --libs exitbus libevent_core) -pthread -o libevent
 *     ./libevent 20000 200 edge
 */
#include "feed.h"

#include <event2/event.h>

struct monitor {
    struct exitbus_subscription *exits;
    struct event *ready;
    struct feed feed;
};

/* No edge tells that there is memory again: come back after a tenth of a second in any case. */
static void try_again(struct monitor *monitor)
{
    struct timeval later = {.tv_usec = 100000};
    if (event_add(monitor->ready, &later) < 0)
        fail("event_add", "it has failed");
}

/* Receive until -EAGAIN: with EV_ET only the next event behind that makes an edge. */
static void on_exits(evutil_socket_t fd, short what, void *argument)
{
    struct monitor *monitor = argument;
    struct exitbus_event event;
    int result;
    (void)fd;
    if (what & EV_TIMEOUT)
        event_remove_timer(monitor->ready);
    while ((result = exitbus_receive(monitor->exits, &event, 0)) == 0)
        feed_event(&monitor->feed, &event); /* your code */
    if (result == -ENOMEM)
        try_again(monitor);
    else if (result != -EAGAIN)
        fail("exitbus_receive", exitbus_strerror(result));
    if (!feed_woken(&monitor->feed))
        event_del(monitor->ready); /* and the loop ends, since nothing else is in it */
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct monitor monitor;
    feed_arguments(&monitor.feed, "libevent", argc, argv, true);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &monitor.exits));
    int fd = must("exitbus_subscription_fd", exitbus_subscription_fd(monitor.exits));

    short kind = EV_READ | EV_PERSIST;
    if (monitor.feed.edge)
        kind |= EV_ET;
    struct event_base *loop = event_base_new();
    if (!loop)
        fail("event_base_new", "it has failed");
    monitor.ready = event_new(loop, fd, kind, on_exits, &monitor);
    if (!monitor.ready || event_add(monitor.ready, NULL) < 0)
        fail("event_new", "it has failed");
    feed_start(&monitor.feed, bus);
    if (event_base_dispatch(loop) < 0)
        fail("event_base_dispatch", "it has failed");

    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number. */
    event_free(monitor.ready);
    must("exitbus_unsubscribe", exitbus_unsubscribe(monitor.exits));
    event_base_free(loop);
    feed_end(&monitor.feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
