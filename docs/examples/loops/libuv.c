/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Exits in a loop of libuv (1.44), by a uv_poll_t.
 *
 *     cc libuv.c $(pkg-config --cflags --libs exitbus libuv) -pthread -o libuv && ./libuv 20000 200
 */
#include "feed.h"

#include <uv.h>

struct monitor {
    struct exitbus_subscription *exits;
    struct feed feed;
};

static void must_uv(const char *what, int result)
{
    if (result < 0)
        fail(what, uv_strerror(result));
}

/* The handle is out of the loop. */
static void on_close(uv_handle_t *handle)
{
    struct monitor *monitor = handle->data;
    must("exitbus_unsubscribe", exitbus_unsubscribe(monitor->exits));
}

/*
 * libuv is level-triggered: receive as much as you like, here all. Where memory is short (-ENOMEM)
 * the descriptor stays readable, and the next turn of the loop tries again.
 */
static void on_exits(uv_poll_t *handle, int status, int events)
{
    struct monitor *monitor = handle->data;
    struct exitbus_event event;
    int result;
    (void)events;
    must_uv("uv_poll", status);
    while ((result = exitbus_receive(monitor->exits, &event, 0)) == 0)
        feed_event(&monitor->feed, &event); /* your code */
    if (result != -EAGAIN && result != -ENOMEM)
        fail("exitbus_receive", exitbus_strerror(result));
    if (feed_woken(&monitor->feed))
        return;
    /* First out of the loop, then unsubscribe: that closes the descriptor, and the next file that
     * is opened may get its number, which libuv would still watch. */
    must_uv("uv_poll_stop", uv_poll_stop(handle));
    uv_close((uv_handle_t *)handle, on_close);
}

int main(int argc, char **argv)
{
    struct exitbus *bus;
    struct monitor monitor;
    uv_loop_t loop;
    uv_poll_t ready;
    feed_arguments(&monitor.feed, "libuv", argc, argv, false);
    must("exitbus_create", exitbus_create(&bus, NULL));
    must("exitbus_subscribe", exitbus_subscribe(bus, exitbus_topic_any_pid(), 0, &monitor.exits));
    int fd = must("exitbus_subscription_fd", exitbus_subscription_fd(monitor.exits));

    must_uv("uv_loop_init", uv_loop_init(&loop));
    must_uv("uv_poll_init", uv_poll_init(&loop, &ready, fd));
    ready.data = &monitor;
    must_uv("uv_poll_start", uv_poll_start(&ready, UV_READABLE, on_exits));
    feed_start(&monitor.feed, bus);
    must_uv("uv_run", uv_run(&loop, UV_RUN_DEFAULT)); /* until no handle is left */
    must_uv("uv_loop_close", uv_loop_close(&loop));

    feed_end(&monitor.feed);
    must("exitbus_destroy", exitbus_destroy(bus));
    return 0;
}
