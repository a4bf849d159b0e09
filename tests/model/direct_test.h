/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A process that is waited for directly, and what stands for the kernel and the reaper. */
#ifndef EXITBUS_DIRECT_TEST_H
#define EXITBUS_DIRECT_TEST_H

#include "process/direct.h"

#include "model_test.h"
#include <poll.h>

static struct watch_set set;
static struct exitbus_process *process;
static int reaper_fd;
static _Atomic int ended, entered, collected;

static struct exitbus_event exit_event(void)
{
    return (struct exitbus_event){.seq = 1, .exit_code = 7, .max_rss_kib = 9};
}

/* In place of the library's: the kernel has an exit to collect as soon as `ended` says so. */
int collect_direct(struct watch_set *of, pid_t pid, int pidfd, struct exitbus_event *event,
                   bool *reaped)
{
    (void)of, (void)pid, (void)pidfd;
    *reaped = true;
    if (!load_seq_cst(&ended))
        return 1;
    fetch_add_relaxed(&collected, 1);
    *event = exit_event();
    return 0;
}

void child_watch_enter(struct watch_set *of, struct child_watch *watch, pid_t pid, unsigned kind)
{
    (void)of, (void)watch, (void)pid, (void)kind;
}

/* The reaper, which is the first thread here, has the watch from here on. */
bool child_watch_commit(struct watch_set *of, struct child_watch *watch, int pidfd)
{
    (void)of, (void)watch, (void)pidfd;
    store_release(&entered, 1);
    sys_eventfd_add(reaper_fd);
    return true;
}

static void *wait_a_moment(void *nothing)
{
    struct exitbus_event event;
    int result = process_wait(process, &event, 1);
    assert(result == -ETIMEDOUT || (result == 0 && event.exit_code == 7));
    process_unref(process);
    return nothing;
}

static void check_end(int64_t timeout_ns)
{
    struct exitbus_event event;
    assert(process_wait(process, &event, timeout_ns) == 0);
    assert(event.seq == 1 && event.exit_code == 7 && event.max_rss_kib == 9);
    process_unref(process);
    sys_eventfd_add(reaper_fd); /* there is no more to do for the reaper */
}

/* One thread waits for a moment, and `other` without limit. Here are the kernel and the reaper. */
static int run(void *(*other)(void *))
{
    pthread_t threads[2];
    struct exitbus *bus = bus_new();
    set.bus = bus;
    atomic_init(&set.references, 1);
    atomic_init(&set.ended_fd, -1);
    reaper_fd = sys_eventfd(false);
    process = process_create(bus, &set);
    assert(process && direct_reserve(process));
    fetch_add_relaxed(&process->handles, 1); /* one for each thread; none for this one */
    int pidfd = sys_eventfd(false);
    direct_commit(process, pidfd);
    fetch_add_relaxed(&process->references, 1); /* the pidfd stays open until it is readable */
    pthread_create(&threads[0], NULL, wait_a_moment, NULL);
    pthread_create(&threads[1], NULL, other, NULL);
    store_seq_cst(&ended, 1);
    sys_eventfd_add(pidfd);
    process_release(process);
    struct pollfd polled = {.fd = reaper_fd, .events = POLLIN};
    poll(&polled, 1, -1);
    if (load_acquire(&entered)) {
        struct exitbus_event event = exit_event();
        fetch_add_relaxed(&collected, 1);
        process_end(process, &event);
        process_release(process);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(load_relaxed(&collected) == 1);
    return 0;
}

#endif
