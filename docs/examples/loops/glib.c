/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in a main loop of GLib (2.74), by g_unix_fd_add().
 *
 *     cc glib.c $(pkg-config --cflags --libs exitbus glib-2.0) -pthread -o glib && ./glib 20000 200
 */
#include "feed.h"

#include <glib-unix.h>

struct monitor {
    struct exitbus_subscription *exits;
    GMainLoop *loop;
    struct feed feed;
};

/*
 * GLib is level-triggered: receive as much as you like, here all. Where memory is short (-ENOMEM)
 * the descriptor stays readable, and the next turn of the loop tries again.
 */
static gboolean on_exits(gint fd, GIOCondition condition, gpointer data)
{
    struct monitor *monitor = data;
    struct exitbus_event event;
    int result;
    (void)fd, (void)condition;
    while ((result = exitbus_receive(monitor->exits, &event, 0)) == 0)
        feed_event(&monitor->feed, &event); /* your code */
    if (result != -EAGAIN && result != -ENOMEM)
        fail("exitbus_receive", exitbus_strerror(result));
    if (!feed_woken(&monitor->feed))
        g_main_loop_quit(monitor->loop);
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct monitor monitor;
    feed_arguments(&monitor.feed, "glib", argc, argv, false);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &monitor.exits));
    int fd = must("exitbus_subscription_fd", exitbus_subscription_fd(monitor.exits));

    monitor.loop = g_main_loop_new(NULL, FALSE);
    guint source = g_unix_fd_add(fd, G_IO_IN, on_exits, &monitor);
    feed_start(&monitor.feed, bus);
    g_main_loop_run(monitor.loop);

    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number. */
    g_source_remove(source);
    must("exitbus_unsubscribe", exitbus_unsubscribe(monitor.exits));
    g_main_loop_unref(monitor.loop);
    feed_end(&monitor.feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
