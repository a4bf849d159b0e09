/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child is collected before its exec is bound, while another exec is cancelled. Its exit was
 * published behind the reservation, so it is remembered, and bound to.
 */
#include "process/remember.h"

#include "task_test.h"

static _Atomic uint32_t passing;
static int zombie_fd, gone_fd; /* readable: the child is a zombie; it was reaped */

static void gate_close(void)
{
    while (exchange_acquire(&passing, 1))
        sys_futex_wait((uint32_t *)&passing, 1, SYS_FUTEX_ANY, NULL);
}

static void gate_open(void)
{
    store_release(&passing, 0);
    sys_futex_wake_all((uint32_t *)&passing);
}

/* In place of the library's; so the next two. */
int reaper_between_passes(struct exitbus *of, int (*ask)(void *), void *argument)
{
    assert(of == bus);
    gate_close();
    int result = ask(argument);
    gate_open();
    return result;
}

int process_adopt(struct exitbus *of, pid_t pid, struct exitbus_process **process)
{
    (void)of, (void)pid, (void)process;
    return -ECHILD;
}

int sys_pidfd_open(pid_t pid)
{
    (void)pid;
    return -EMFILE; /* known by its pid alone */
}

static void *binder(void *nothing)
{
    struct exitbus_exec *exec = reserve("a");
    task_unref(task);
    sys_eventfd_add(zombie_fd); /* it starts, and exits */
    struct pollfd polled = {.fd = gone_fd, .events = POLLIN};
    poll(&polled, 1, -1);
    assert(exec_started(exec, CHILD, -1) == 0);
    check_exit(exec, -1);
    exec_unref(exec);
    return nothing;
}

static void *other(void *exec)
{
    exec_unref(exec);
    return NULL;
}

/* A pass that collects the child, as collect_zombie() does. */
static void collect(void)
{
    struct exitbus_process *process;
    struct exitbus_event event = exit_event(CHILD);
    struct pollfd polled = {.fd = zombie_fd, .events = POLLIN};
    poll(&polled, 1, -1);
    gate_close();
    assert(remember_prepare(&set, CHILD, -1, &process));
    event.kind = EXITBUS_EVENT_PID;
    assert(bus_publish(bus, &event, 1, &event.seq) == 0);
    remember_exit(&set, process, &event);
    sys_eventfd_add(gone_fd);
    pass();
    gate_open();
}

int main(void)
{
    pthread_t threads[2];
    begin();
    zombie_fd = sys_eventfd(false);
    gone_fd = sys_eventfd(false);
    struct exitbus_exec *exec = reserve("b");
    pass();
    pthread_create(&threads[0], NULL, binder, NULL);
    pthread_create(&threads[1], NULL, other, exec);
    collect();
    while (set.execs) {
        await_wake();
        gate_close();
        pass();
        gate_open();
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    check_freed();
    return 0;
}
