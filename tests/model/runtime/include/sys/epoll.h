/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Stands before the system's: edge-triggered, one descriptor a set, waited for without end. */
#ifndef MODEL_SYS_EPOLL_H
#define MODEL_SYS_EPOLL_H

#include_next <sys/epoll.h>

void model_await_edge(int fd, unsigned *seen);

static struct {
    int fd;
    unsigned seen;
} model_sets[4];
static int model_sets_used;

#define epoll_create1(flags) (model_sets_used++)
#define epoll_ctl(set, operation, number, event)                                                   \
    (model_sets[set].fd = (number), model_sets[set].seen = ~0u, 0)
#define epoll_wait(set, events, capacity, timeout)                                                 \
    (model_await_edge(model_sets[set].fd, &model_sets[set].seen), 1)

#endif
