/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Calls into the subject: see calls.h. */
#include "calls.h"
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <time.h>

/* Tries between two naps, for a subject whose receive does not wait. */
#define TRIES_PER_NAP 64

int call_publish(const struct subject_event *events, size_t count, uint64_t *first_seq)
{
    *first_seq = 0;
    call_begin(OPERATION_PUBLISH, NULL, 0);
    int result = world->subject->publish(world->bus, events, count, first_seq);
    call_end(result < 0 ? result : (int64_t)*first_seq, events->number);
    return result;
}

/* Who made which subscription: a later one may take the place of an earlier one. */
#define MAKERS 16384
static struct {
    _Atomic(const void *) subscription;
    _Atomic(const struct worker *) worker;
} makers[MAKERS];

static size_t maker_place(const void *subscription)
{
    return mix((uintptr_t)subscription) % MAKERS;
}

static void remember_maker(const void *subscription)
{
    size_t place = maker_place(subscription);
    atomic_store_explicit(&makers[place].worker, self, memory_order_relaxed);
    atomic_store_explicit(&makers[place].subscription, subscription, memory_order_relaxed);
}

const struct worker *call_maker_of(const void *subscription)
{
    size_t place = maker_place(subscription);
    return atomic_load(&makers[place].subscription) == subscription
               ? atomic_load(&makers[place].worker)
               : NULL;
}

int call_subscribe(const struct subject_topic *topic, uint32_t flags, void **subscription)
{
    call_begin(OPERATION_SUBSCRIBE, NULL, 0);
    int result = world->subject->subscribe(world->bus, topic, flags, subscription);
    call_end(result, (uint64_t)topic->kind);
    if (result == 0)
        remember_maker(*subscription);
    return result;
}

int call_unsubscribe(void *subscription)
{
    call_begin(OPERATION_UNSUBSCRIBE, subscription, 0);
    int result = world->subject->unsubscribe(subscription);
    call_end(result, 0);
    return result;
}

static ssize_t try_until(void *subscription, struct subject_event *events, size_t capacity,
                         int64_t timeout_ns)
{
    uint64_t end = timeout_ns < 0 ? FOR_EVER : now_ns() + (uint64_t)timeout_ns;
    const struct timespec moment = {.tv_nsec = 50000};
    for (unsigned tries = 1;; tries++) {
        ssize_t got = world->subject->receive(subscription, events, capacity, 0);
        if (got != -EAGAIN)
            return got;
        if (now_ns() >= end)
            return -ETIMEDOUT;
        if (tries % TRIES_PER_NAP == 0)
            nanosleep(&moment, NULL);
        else
            sched_yield();
    }
}

ssize_t call_receive(void *subscription, struct subject_event *events, size_t capacity,
                     int64_t timeout_ns)
{
    call_begin(timeout_ns == 0 ? OPERATION_RECEIVE : OPERATION_WAIT, subscription,
               timeout_ns < 0 ? FOR_EVER : (uint64_t)timeout_ns);
    ssize_t got = timeout_ns == 0 || can(SUBJECT_WAITS)
                      ? world->subject->receive(subscription, events, capacity, timeout_ns)
                      : try_until(subscription, events, capacity, timeout_ns);
    call_end(got, got > 0 ? events[0].number : 0);
    return got;
}

int call_poll(void *subscription, int ms)
{
    call_begin(OPERATION_DESCRIPTOR, subscription, (uint64_t)(ms < 0 ? 0 : ms) * 1000000);
    struct pollfd poll_fd = {.fd = world->subject->fd(subscription), .events = POLLIN};
    int result = poll_fd.fd;
    if (poll_fd.fd >= 0) {
        result = poll(&poll_fd, 1, ms);
        if (result < 0)
            result = -errno;
    }
    call_end(result, 0);
    return result;
}

int call_spawn(char *const argv[], pid_t *pid, void **subscription)
{
    call_begin(OPERATION_SPAWN, NULL, 0);
    int result = world->subject->spawn(world->bus, argv, pid, subscription);
    call_end(result, result < 0 ? 0 : (uint64_t)*pid);
    return result;
}

/* ------------------------------------------------------------------- tasks, handles and groups */

static int ended(int result, uint64_t detail)
{
    call_end(result, detail);
    return result;
}

int call_task_create(uint8_t container, void **task)
{
    call_begin(OPERATION_TASK, NULL, 0);
    return ended(world->subject->task_create(world->bus, container, task), container);
}

int call_task_release(void *task)
{
    call_begin(OPERATION_TASK, NULL, 0);
    return ended(world->subject->task_release(task), 0);
}

int call_exec_reserve(void *task, uint8_t exec, void **handle)
{
    call_begin(OPERATION_RESERVE, NULL, 0);
    return ended(world->subject->exec_reserve(task, exec, handle), exec);
}

int call_exec_started(void *handle, pid_t pid)
{
    call_begin(OPERATION_STARTED, NULL, 0);
    return ended(world->subject->exec_started(handle, pid), (uint64_t)pid);
}

int call_exec_cancel(void *handle)
{
    call_begin(OPERATION_CANCEL, NULL, 0);
    return ended(world->subject->exec_cancel(handle), 0);
}

int call_exec_wait(void *handle, int *status, int64_t timeout_ns)
{
    call_begin(OPERATION_EXEC_WAIT, NULL, (uint64_t)timeout_ns);
    return ended(world->subject->exec_wait(handle, status, timeout_ns), 0);
}

int call_exec_release(void *handle)
{
    call_begin(OPERATION_EXEC, NULL, 0);
    return ended(world->subject->exec_release(handle), 0);
}

int call_adopt(pid_t pid, void **process)
{
    call_begin(OPERATION_HANDLE, NULL, 0);
    return ended(world->subject->process_adopt(world->bus, pid, process), (uint64_t)pid);
}

int call_signal(void *process, int signal)
{
    call_begin(OPERATION_SIGNAL, NULL, 0);
    return ended(world->subject->process_signal(process, signal), (uint64_t)signal);
}

int call_process_wait(void *process, int *status, int64_t timeout_ns)
{
    call_begin(OPERATION_HANDLE_WAIT, NULL, (uint64_t)timeout_ns);
    return ended(world->subject->process_wait(process, status, timeout_ns), 0);
}

int call_process_release(void *process)
{
    call_begin(OPERATION_HANDLE, NULL, 0);
    return ended(world->subject->process_release(process), 0);
}

int call_group_create(void **group)
{
    call_begin(OPERATION_GROUP, NULL, 0);
    return ended(world->subject->group_create(world->bus, group), 0);
}

int call_group_add(void *group, void *process)
{
    call_begin(OPERATION_GROUP_ADD, NULL, 0);
    return ended(world->subject->group_add(group, process), 0);
}

int call_group_end(void *group, int signal, int64_t grace_ns)
{
    call_begin(OPERATION_GROUP_END, NULL, 0);
    return ended(world->subject->group_end(group, signal, grace_ns), (uint64_t)signal);
}

int call_group_wait(void *group, int64_t timeout_ns)
{
    call_begin(OPERATION_GROUP_WAIT, NULL, (uint64_t)timeout_ns);
    return ended(world->subject->group_wait(group, timeout_ns), 0);
}

int call_group_release(void *group)
{
    call_begin(OPERATION_GROUP, NULL, 0);
    return ended(world->subject->group_release(group), 0);
}

/* -------------------------------------------------------------------- of the thread that leads */

int call_create(void)
{
    call_begin(OPERATION_CREATE, NULL, 0);
    int result = world->subject->create(&host, &world->bus);
    call_end(result, 0);
    return result;
}

int call_destroy(void)
{
    call_begin(OPERATION_DESTROY, NULL, 0);
    int result = world->subject->destroy(world->bus);
    call_end(result, 0);
    return result;
}

int call_stats(struct subject_stats *stats)
{
    call_begin(OPERATION_STATS, NULL, 0);
    int result = world->subject->stats(world->bus, stats);
    call_end(result, 0);
    return result;
}
