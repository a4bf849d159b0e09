/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* exitbus in an event loop: epoll on exitbus_subscription_fd, then receive until there is none. */
#include "../must.h"
#include "wake.h"
#include "workloads.h"

#include <stdlib.h>
#include <unistd.h>

struct state {
    struct exitbus *bus;
    struct exitbus_subscription *subscription;
    int epoll;
};

static void *open_state(const void *unused)
{
    (void)unused;
    struct state *state = peer_memory(sizeof *state);
    must(exitbus_create(&state->bus, NULL), "exitbus_create");
    must(exitbus_subscribe(state->bus, exitbus_topic_any_pid(), 0, &state->subscription),
         "exitbus_subscribe");
    int fd = exitbus_subscription_fd(state->subscription);
    must(fd, "exitbus_subscription_fd");
    state->epoll = wake_epoll(fd);
    return state;
}

static void wake(void *opaque)
{
    struct state *state = opaque;
    const struct exitbus_event event = {
        .kind = EXITBUS_EVENT_PID, .pid = 1, .monotonic_ns = 1, .realtime_ns = 1};
    must(exitbus_publish(state->bus, &event, NULL), "exitbus_publish");
}

static void wait(void *opaque)
{
    struct state *state = opaque;
    struct exitbus_event event;
    while (exitbus_receive(state->subscription, &event, 0) < 0)
        wake_epoll_wait(state->epoll);
}

static unsigned pass(void *opaque)
{
    struct state *state = opaque;
    struct exitbus_event event;
    unsigned count = 0;
    wake_epoll_wait(state->epoll);
    while (exitbus_receive(state->subscription, &event, 0) == 0)
        count++;
    return count;
}

static void close_state(void *opaque)
{
    struct state *state = opaque;
    close(state->epoll);
    must(exitbus_unsubscribe(state->subscription), "exitbus_unsubscribe");
    must(exitbus_destroy(state->bus), "exitbus_destroy");
    free(state);
}

const struct waker exitbus_epoll_waker = {"epoll", EXITBUS, NULL,        open_state,
                                          wake,    wait,    close_state, pass};
