/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The public calls on process handles, but for exitbus_process_spawn(). */
#include "process/process.h"
#include "api/check.h"
#include "base/cancel.h"

/* The process is this one's, and not a parent's. A handle that a fork has wiped has no bus. */
#define CHECK_PROCESS(process)                                                                     \
    do {                                                                                           \
        CHECK_ARGUMENTS(process);                                                                  \
        if (unlikely(!(process)->bus))                                                             \
            return -ESTALE;                                                                        \
        CHECK_GENERATION(&(process)->bus->core);                                                   \
    } while (0)

static int check_bus(struct exitbus *bus)
{
    CHECK_GENERATION(&bus->core);
    return bus_closed(bus) ? -ESHUTDOWN : 0;
}

int exitbus_process_adopt(struct exitbus *bus, pid_t pid, uint32_t flags,
                          struct exitbus_process **process)
{
    CHECK_ARGUMENTS(bus && pid > 0 && flags == 0 && process);
    int result = check_bus(bus);
    if (result < 0)
        return result;
    int cancelling = cancel_disable();
    result = process_adopt(bus, pid, process);
    cancel_restore(cancelling);
    return result;
}

int exitbus_process_adopt_pidfd(struct exitbus *bus, int pidfd, uint32_t flags,
                                struct exitbus_process **process)
{
    CHECK_ARGUMENTS(bus && pidfd >= 0 && flags == 0 && process);
    int result = check_bus(bus);
    if (result < 0)
        return result;
    int cancelling = cancel_disable();
    result = process_adopt_pidfd(bus, pidfd, process);
    cancel_restore(cancelling);
    return result;
}

int exitbus_process_wait(struct exitbus_process *process, struct exitbus_event *event,
                         int64_t timeout_ns)
{
    CHECK_ARGUMENTS(event);
    CHECK_PROCESS(process);
    return process_wait(process, event, timeout_ns);
}

int exitbus_process_fd(struct exitbus_process *process)
{
    CHECK_PROCESS(process);
    return process_fd(process);
}

int exitbus_process_signal(struct exitbus_process *process, int signal, uint32_t flags)
{
    CHECK_ARGUMENTS(signal >= 0 && signal <= SIGRTMAX && !(flags & ~EXITBUS_SIGNAL_GROUP));
    CHECK_PROCESS(process);
    return process_signal(process, signal, flags & EXITBUS_SIGNAL_GROUP);
}

pid_t exitbus_process_pid(struct exitbus_process *process)
{
    CHECK_PROCESS(process);
    return process_pid(process);
}

int exitbus_process_pidfd(struct exitbus_process *process)
{
    CHECK_PROCESS(process);
    return process_pidfd(process);
}

int exitbus_process_start_time(struct exitbus_process *process, uint64_t *boottime_ns)
{
    CHECK_ARGUMENTS(boottime_ns);
    CHECK_PROCESS(process);
    return process_start_time(process, boottime_ns);
}

int exitbus_process_ref(struct exitbus_process *process)
{
    CHECK_PROCESS(process);
    fetch_add_relaxed(&process->handles, 1);
    return 0;
}

int exitbus_process_unref(struct exitbus_process *process)
{
    if (!process)
        return 0;
    CHECK_PROCESS(process);
    process_unref(process);
    return 0;
}
