/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in a loop of sd-event (systemd 252).
 *
 *     cc sd_event.c $(pkg-config --cflags --libs exitbus libsystemd) -pthread -o sd_event
 *     ./sd_event 20000 200
 */
#include "feed.h"

#include <sys/epoll.h>
#include <systemd/sd-event.h>

struct monitor {
    struct exitbus_subscription *exits;
    struct feed feed;
};

static void must_sd(const char *what, int result)
{
    if (result < 0)
        fail(what, strerror(-result));
}

/*
 * sd-event is level-triggered here: receive as much as you like, here all. Where memory is short
 * (-ENOMEM) the descriptor stays readable, and the next turn of the loop tries again.
 */
static int on_exits(sd_event_source *source, int fd, uint32_t events, void *data)
{
    struct monitor *monitor = data;
    struct exitbus_event event;
    int result;
    (void)fd, (void)events;
    while ((result = exitbus_receive(monitor->exits, &event, 0)) == 0)
        feed_event(&monitor->feed, &event); /* your code */
    if (result != -EAGAIN && result != -ENOMEM)
        fail("exitbus_receive", exitbus_strerror(result));
    if (feed_woken(&monitor->feed))
        return 0;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct monitor monitor;
    sd_event *loop;
    sd_event_source *ready;
    feed_arguments(&monitor.feed, "sd_event", argc, argv, false);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &monitor.exits));
    int fd = must("exitbus_subscription_fd", exitbus_subscription_fd(monitor.exits));

    must_sd("sd_event_new", sd_event_new(&loop));
    must_sd("sd_event_add_io", sd_event_add_io(loop, &ready, fd, EPOLLIN, on_exits, &monitor));
    feed_start(&monitor.feed, bus);
    must_sd("sd_event_loop", sd_event_loop(loop));

    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number. An unref alone leaves a source that others hold in the loop. */
    sd_event_source_disable_unref(ready);
    must("exitbus_unsubscribe", exitbus_unsubscribe(monitor.exits));
    sd_event_unref(loop);
    feed_end(&monitor.feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
