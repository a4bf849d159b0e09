/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in a loop of poll(2).
 *
 *     cc poll.c $(pkg-config --cflags --libs exitbus) -pthread -o poll && ./poll 20000 200
 */
#include "feed.h"

#include <poll.h>

/*
 * poll is level-triggered: receive as much as you like, here all. Where memory is short (-ENOMEM)
 * the descriptor stays readable, and the next turn of the loop tries again.
 */
static void receive_all(struct exitbus_subscription *exits, struct feed *feed)
{
    struct exitbus_event event;
    int result;
    while ((result = exitbus_receive(exits, &event, 0)) == 0)
        feed_event(feed, &event); /* your code */
    if (result != -EAGAIN && result != -ENOMEM)
        fail("exitbus_receive", exitbus_strerror(result));
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct exitbus_subscription *exits;
    struct feed feed;
    bool more = true;
    feed_arguments(&feed, "poll", argc, argv, false);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &exits));
    struct pollfd ready = {.fd = must("exitbus_subscription_fd", exitbus_subscription_fd(exits)),
                           .events = POLLIN};

    feed_start(&feed, bus);
    while (more) {
        if (poll(&ready, 1, -1) < 0) {
            if (errno != EINTR)
                fail("poll", strerror(errno));
            continue;
        }
        receive_all(exits, &feed);
        more = feed_woken(&feed);
    }

    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number. */
    ready.fd = -1;
    must("exitbus_unsubscribe", exitbus_unsubscribe(exits));
    feed_end(&feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
