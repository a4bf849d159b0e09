/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls on tasks and their execs. */
#include "process/task.h"
#include "api/check.h"
#include "base/cancel.h"

/* The task is this process's, and not a parent's. One that a fork has wiped has no bus. */
#define CHECK_TASK(task)                                                                           \
    do {                                                                                           \
        CHECK_ARGUMENTS(task);                                                                     \
        if (unlikely(!(task)->bus))                                                                \
            return -ESTALE;                                                                        \
        CHECK_GENERATION(&(task)->bus->core);                                                      \
    } while (0)

#define CHECK_EXEC(exec)                                                                           \
    do {                                                                                           \
        CHECK_ARGUMENTS(exec);                                                                     \
        if (unlikely(!(exec)->task))                                                               \
            return -ESTALE;                                                                        \
        CHECK_TASK((exec)->task);                                                                  \
    } while (0)

static bool options_are_valid(const struct exitbus_task_options *options)
{
    if (!options)
        return true;
    bool cgroup = options->flags & EXITBUS_TASK_CGROUP;
    bool kill_is_known = options->kill == EXITBUS_TASK_KILL_NONE ||
                         options->kill == EXITBUS_TASK_KILL_MEMBERS ||
                         (options->kill == EXITBUS_TASK_KILL_CGROUP && cgroup);
    return !(options->flags & ~EXITBUS_TASK_CGROUP) && (!cgroup || options->cgroup_fd >= 0) &&
           kill_is_known && options->bound_ns >= 0;
}

int exitbus_task_create(struct exitbus *bus, const char *container_id,
                        const struct exitbus_task_options *options, struct exitbus_task **task)
{
    CHECK_ARGUMENTS(bus && task && event_id_size(container_id) > 0 && options_are_valid(options));
    CHECK_GENERATION(&bus->core);
    if (bus_closed(bus))
        return -ESHUTDOWN;
    int cancelling = cancel_disable();
    int result = task_create(bus, container_id, options, task);
    cancel_restore(cancelling);
    return result;
}

int exitbus_task_end(struct exitbus_task *task, int signal, int64_t grace_ns)
{
    CHECK_ARGUMENTS(signal >= 0 && signal <= SIGRTMAX);
    CHECK_TASK(task);
    return task_end(task, signal, grace_ns);
}

int exitbus_task_ref(struct exitbus_task *task)
{
    CHECK_TASK(task);
    fetch_add_relaxed(&task->handles, 1);
    return 0;
}

int exitbus_task_unref(struct exitbus_task *task)
{
    if (!task)
        return 0;
    CHECK_TASK(task);
    task_unref(task);
    return 0;
}

int exitbus_exec_reserve(struct exitbus_task *task, const char *exec_id, struct exitbus_exec **exec)
{
    CHECK_ARGUMENTS(exec && event_id_size(exec_id) >= 0);
    CHECK_TASK(task);
    return exec_reserve(task, exec_id, exec);
}

int exitbus_exec_started(struct exitbus_exec *exec, pid_t pid, int pidfd)
{
    CHECK_ARGUMENTS(pid >= 0);
    CHECK_EXEC(exec);
    if (bus_closed(exec->task->bus))
        return -ESHUTDOWN;
    int cancelling = cancel_disable();
    int result = exec_started(exec, pid, pidfd);
    cancel_restore(cancelling);
    return result;
}

int exitbus_exec_restarting(struct exitbus_exec *exec)
{
    CHECK_EXEC(exec);
    return exec_restarting(exec);
}

int exitbus_exec_cancel(struct exitbus_exec *exec)
{
    CHECK_EXEC(exec);
    return exec_cancel(exec);
}

int exitbus_exec_wait(struct exitbus_exec *exec, struct exitbus_event *event, int64_t timeout_ns)
{
    CHECK_ARGUMENTS(event);
    CHECK_EXEC(exec);
    return exec_wait(exec, event, timeout_ns);
}

int exitbus_exec_fd(struct exitbus_exec *exec)
{
    CHECK_EXEC(exec);
    return outcome_fd(&exec->outcome);
}

int exitbus_exec_signal(struct exitbus_exec *exec, int signal)
{
    CHECK_ARGUMENTS(signal >= 0 && signal <= SIGRTMAX);
    CHECK_EXEC(exec);
    return exec_signal(exec, signal);
}

int exitbus_exec_ref(struct exitbus_exec *exec)
{
    CHECK_EXEC(exec);
    fetch_add_relaxed(&exec->handles, 1);
    return 0;
}

int exitbus_exec_unref(struct exitbus_exec *exec)
{
    if (!exec)
        return 0;
    CHECK_EXEC(exec);
    exec_unref(exec);
    return 0;
}
