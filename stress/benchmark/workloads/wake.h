/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Something that one thread sleeps on and another wakes it by. */
#ifndef BENCH_WAKE_H
#define BENCH_WAKE_H

#include <stdbool.h>

struct waker {
    const char *parameter, *name; /* of the results */
    const void *peer;             /* for open */
    void *(*open)(const void *peer);
    void (*wake)(void *state);
    void (*wait)(void *state); /* until woken, or at once if that has been */
    void (*close)(void *state);
    /* Of an event loop: sleep, once, and take all that is there; how many. Or NULL. */
    unsigned (*pass)(void *state);
};

/* An epoll on one descriptor, and sleep on it. */
int wake_epoll(int fd);
void wake_epoll_wait(int epoll);

/* Measure `pass`, with both threads on one core or not. */
void wake_loop(const struct waker *waker, bool one_core);

extern const struct waker exitbus_epoll_waker;

#endif
