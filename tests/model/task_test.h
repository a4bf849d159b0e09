/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tasks, with what stands for the kernel, the order of events, and the reaper: the first thread of
 * a program makes the passes. The processes and what becomes of them are the program's.
 */
#ifndef EXITBUS_TASK_TEST_H
#define EXITBUS_TASK_TEST_H

#include "process/reaper.h"
#include "process/task.h"

#include "model_test.h"
#include <poll.h>

#define CHILD 7 /* the pid of an exec's process */
#define LEADER 5

static struct exitbus *bus;
static struct watch_set set;
static struct exitbus_task *task;
static _Atomic int64_t latest; /* the number of the latest event */
/* Events by number. Upper case: that exec has started; lower case: it has exited. The leader is
 * 'l', and 'D' says that it died. */
static char told[16];

/* In place of the library's: what comes behind an event has a larger number, and no more. */
int64_t order_publish(struct order *order, const struct exitbus_event *event)
{
    (void)order;
    int64_t seq = fetch_add_relaxed(&latest, 1) + 1;
    char name = event->exec_id[0] ? event->exec_id[0] : 'l';
    told[seq - 1] = event->kind == EXITBUS_EVENT_STARTED       ? (char)(name + 'A' - 'a')
                    : event->kind == EXITBUS_EVENT_LEADER_DIED ? 'D'
                    : event->kind == EXITBUS_EVENT_PID         ? 'p'
                                                               : name;
    return seq;
}

uint64_t order_count(const struct order *order)
{
    (void)order;
    return (uint64_t)load_relaxed(&latest);
}

int reaper_set_acquire(struct exitbus *of, struct watch_set **found)
{
    fetch_add_relaxed(&of->core.references, 1);
    watch_set_acquire(&set);
    *found = &set;
    return 0;
}

void reaper_set_release(struct exitbus *of, struct watch_set *held)
{
    fetch_sub_release(&held->kept, 1);
    fetch_sub_release(&held->references, 1);
    fetch_sub_release(&of->core.references, 1);
}

/* The program has the set's first reference. */
void watch_set_release(struct watch_set *released)
{
    assert(fetch_sub_acq_rel(&released->references, 1) > 1);
}

int watch_set_wake(struct watch_set *woken)
{
    return sys_eventfd_add_again(woken->wake_fd);
}

static inline struct exitbus_event exit_event(pid_t pid)
{
    return (struct exitbus_event){.pid = pid, .exit_code = pid};
}

/* A process that runs, as a handle with its watch. */
static inline struct exitbus_process *process_new(pid_t pid)
{
    struct exitbus_process *process = process_create(bus, NULL);
    assert(process);
    atomic_init(&process->watch.pid, pid);
    return process;
}

/* A reaper has collected it. */
static inline void end_process(struct exitbus_process *process)
{
    struct exitbus_event event = exit_event(process_pid(process));
    process_end(process, &event);
    process_release(process); /* of its watch */
}

static inline void pass(void)
{
    if (tasks_need_a_look(&set))
        tasks_step(&set);
}

/* A bus, a set, and a task without a leader. */
static inline void begin(void)
{
    bus = bus_new();
    set.bus = bus;
    atomic_init(&set.references, 1);
    atomic_init(&set.ended_fd, -1);
    set.wake_fd = sys_eventfd(false);
    assert(task_create(bus, "c", NULL, &task) == 0);
}

static inline struct exitbus_exec *reserve(const char *id)
{
    struct exitbus_exec *exec;
    assert(exec_reserve(task, id, &exec) == 0);
    return exec;
}

static inline void await_wake(void)
{
    struct pollfd polled = {.fd = set.wake_fd, .events = POLLIN};
    poll(&polled, 1, -1);
    sys_eventfd_take(set.wake_fd);
}

/* Make passes, as they are asked for, until all that was reserved is settled. */
static inline void reap(void)
{
    while (set.execs) {
        await_wake();
        pass();
    }
    /* A set that is not needed has no reaper, and its descriptors are closed. */
    if (!watch_set_needed(&set))
        sys_close(set.wake_fd);
}

static inline void check_exit(struct exitbus_exec *exec, int64_t timeout_ns)
{
    struct exitbus_event event;
    assert(exec_wait(exec, &event, timeout_ns) == 0);
    assert(event.exit_code == event.pid);
}

/* Nothing is left. Context: the other threads have ended. */
static inline void check_freed(void)
{
    pass(); /* one that was settled before its thread had put it onto the stack comes off */
    assert(load_relaxed(&set.references) == 1 && load_relaxed(&set.kept) == 0);
    assert(load_relaxed(&set.reservations) == 0 && !load_relaxed(&set.exec_news));
    assert(load_relaxed(&bus->core.references) == 1);
}

#endif
