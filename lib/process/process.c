/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Process handles: see process.h.
 *
 * Why it is right
 *  1. Identity. The event comes from the reaper that ends the handle's own watch. Why that is an
 *     exit of this process, and of no other, is argued in watch.c.
 *  2. A signal hits no other process. It goes by the pidfd, which stands for one process for ever.
 *     A handle that has none yet opens one while no pass is made: a child that has not been
 *     collected keeps its pid. The kernel then says whether the pidfd is of a child of ours.
 *  3. Lifetime. Two references are counted apart from the user's handles: one of all handles, and
 *     one of the watch. So the reaper ends a watch whose handles are gone.
 *  4. A foreign process whose handles are gone need not be watched. Its handle goes onto a stack,
 *     with the reference of all handles, and the reaper drops it. A set that is closed has no
 *     reaper: then the outcome is told. The pushing thread looks at it behind its push, and the one
 *     that closes the set takes the stack behind its stores. So one of the two finds the handle.
 *     A thread that takes handles off which still run pushes them again, in the same way.
 */
#include "process/process.h"
#include "process/details.h"
#include "process/direct.h"
#include "process/reaper.h"
#include "process/task.h"

#include <errno.h>

/* Attempts to watch a pid whose processes change meanwhile. */
#define ADOPT_TRIES 8
#define LOWEST_FD 3

/* --------------------------------------------------------------------------- begin and end */

struct exitbus_process *process_create(struct exitbus *bus, struct watch_set *set)
{
    reclaim_enter();
    struct exitbus_process *process = memory_alloc(&bus->core.memory, PROCESS_CLASS);
    reclaim_leave();
    if (!process)
        return NULL;
    process->bus = bus;
    process->set = set;
    process->give_up_ns = 0;
    process->inode = 0;
    atomic_init(&process->start_ns, 0);
    atomic_init(&process->references, 2);
    atomic_init(&process->handles, 1);
    atomic_init(&process->exec, NULL);
    outcome_init(&process->outcome);
    atomic_init(&process->watch.pidfd, -1);
    atomic_init(&process->watch.pid, 0);
    process->watch.kind = WATCH_IN_HANDLE; /* until it is entered */
    fetch_add_relaxed(&bus->core.references, 1);
    if (set)
        fetch_add_relaxed(&set->references, 1);
    return process;
}

void process_release(struct exitbus_process *process)
{
    /* Acquire and release; pairs with itself: the last thread sees what the others did. */
    if (fetch_sub_acq_rel(&process->references, 1) != 1)
        return;
    struct exitbus *bus = process->bus;
    struct watch_set *set = process->set;
    int pidfd = load_relaxed(&process->watch.pidfd);
    if (pidfd >= 0)
        sys_close(pidfd);
    outcome_close(&process->outcome);
    reclaim_enter();
    memory_retire(&bus->core.memory, PROCESS_CLASS, process);
    reclaim_leave();
    if (set)
        watch_set_release(set);
    core_release(&bus->core);
}

/*
 * Put a handle onto the stack. Returns true if it does not run any more: then the reaper may have
 * passed the stack, and the caller takes it.
 */
static bool push_withdrawn(struct watch_set *set, struct exitbus_process *process)
{
    fetch_add_relaxed(&process->references, 1); /* for the look behind the push */
    struct exitbus_process *top = load_relaxed(&set->withdrawn);
    do
        process->next_withdrawn = top;
    /* Release; pairs with watch_end_withdrawn(). Sequentially consistent: point 4. */
    while (!cas_weak_seq_cst(&set->withdrawn, &top, process));
    bool running = process_is_running(process);
    if (running)
        watch_set_wake(set);
    process_release(process);
    return !running;
}

/* Stop watching a foreign process that has no handle any more. Gives up a reference. */
static void withdraw(struct exitbus_process *process)
{
    struct exitbus *bus = process->bus;
    struct watch_set *set = process->set;
    /* The process may be gone before this call has done with the set. As long as a watch runs, and
     * then this call, the set is needed: so its descriptors stay open. */
    fetch_add_relaxed(&bus->core.references, 1);
    fetch_add_relaxed(&set->references, 1);
    fetch_add_acquire(&set->kept, 1);
    bool take = push_withdrawn(set, process);
    while (take) {
        take = false;
        struct exitbus_process *next, *taken = exchange_seq_cst(&set->withdrawn, NULL);
        for (; taken; taken = next) {
            next = taken->next_withdrawn;
            if (process_is_running(taken))
                take |= push_withdrawn(set, taken);
            else
                process_release(taken);
        }
    }
    /* Release; pairs with watch_set_needed(). */
    fetch_sub_release(&set->kept, 1);
    watch_set_release(set);
    core_release(&bus->core);
}

void process_unref(struct exitbus_process *process)
{
    /* Acquire and release; pairs with itself, as in process_release(). */
    if (fetch_sub_acq_rel(&process->handles, 1) != 1)
        return;
    if (process_is_direct(process))
        direct_hand_over(process);
    if ((process->watch.kind & WATCH_FOREIGN) && process_is_running(process))
        withdraw(process);
    else
        process_release(process);
}

/* ----------------------------------------------------------------------------- for the reaper */

void process_end(struct exitbus_process *process, const struct exitbus_event *event)
{
    struct exitbus_event_details details;
    if (event)
        outcome_note(&process->outcome, event);
    if (event && event_details(event, &details) == 0)
        store_relaxed(&process->start_ns, details.start_ns);
    outcome_settle(&process->outcome, event ? OUTCOME_TOLD : OUTCOME_LEFT);
    task_process_ended(process);
}

/* -------------------------------------------------------------------------------------- adopt */

/* Open a pidfd of a child. Returns it; -ECHILD: there is no such child; or another -errno. */
static int open_pidfd(pid_t pid)
{
    int result = sys_find_child(pid, -1);
    if (result < 0)
        return result;
    int pidfd = sys_pidfd_open(pid);
    if (pidfd < 0)
        return pidfd == -ESRCH ? -ECHILD : pidfd;
    result = sys_find_child(0, pidfd); /* another waiter may have let the number go */
    if (result == 0)
        return pidfd;
    sys_close(pidfd);
    return result;
}

/*
 * Try to adopt a child. The watch is reserved before the look at the child: see watch.c, 1.
 * `pidfd`: the user's; negative: open one. Returns 0; 1 if the reaper was busy with that pid; or
 * -errno.
 */
static int adopt_once(struct exitbus *bus, struct watch_set *set, pid_t pid, int pidfd,
                      struct exitbus_process **process)
{
    struct exitbus_process *made = process_create(bus, NULL);
    if (!made)
        return -ENOMEM;
    child_watch_enter(set, &made->watch, pid, WATCH_IN_HANDLE);
    int own = pidfd < 0 ? open_pidfd(pid) : sys_find_child(0, pidfd);
    if (own == 0 && pidfd >= 0)
        own = sys_duplicate(pidfd, LOWEST_FD);
    if (own >= 0 && child_watch_commit(set, &made->watch, own)) {
        *process = made;
        return 0;
    }
    if (own < 0)
        child_watch_abort(set, &made->watch);
    process_release(made);
    return own < 0 ? own : 1;
}

static int adopt_child(struct exitbus *bus, struct watch_set *set, pid_t pid, int pidfd,
                       struct exitbus_process **process)
{
    int result = 1;
    for (int tries = 0; tries < ADOPT_TRIES && result == 1; tries++)
        result = adopt_once(bus, set, pid, pidfd, process);
    return result == 1 ? -EAGAIN : result;
}

/* `pidfd` is given up. */
static int adopt_foreign(struct exitbus *bus, struct watch_set *set, pid_t pid, int pidfd,
                         struct exitbus_process **process)
{
    struct exitbus_process *made = process_create(bus, set);
    if (!made) {
        sys_close(pidfd);
        return -ENOMEM;
    }
    child_watch_enter(set, &made->watch, -pid, WATCH_IN_HANDLE | WATCH_FOREIGN);
    child_watch_commit(set, &made->watch, pidfd);
    *process = made;
    return 0;
}

int process_adopt(struct exitbus *bus, pid_t pid, struct exitbus_process **process)
{
    struct watch_set *set;
    int result = reaper_set_acquire(bus, &set);
    if (result < 0)
        return result;
    result = adopt_child(bus, set, pid, -1, process);
    reaper_set_release(bus, set);
    return result;
}

struct identity {
    pid_t pid;
    int pidfd;
};

/* Returns 0 if the process is foreign and still has its pid. */
static int is_foreign(void *argument)
{
    const struct identity *identity = argument;
    int result = sys_find_child(0, identity->pidfd);
    if (result != -ECHILD)
        return result == 0 ? -EAGAIN : result;
    pid_t pid = sys_pidfd_pid(identity->pidfd);
    return pid == identity->pid ? 0 : pid < 0 ? pid : -ESRCH;
}

/* Context: `pidfd` is ours, and given up. */
static int adopt_by_pidfd(struct exitbus *bus, struct watch_set *set, int pidfd,
                          struct exitbus_process **process)
{
    pid_t pid = sys_pidfd_pid(pidfd);
    int result = pid < 0 ? pid : adopt_child(bus, set, pid, pidfd, process);
    if (result == -ECHILD) {
        /* It is no child, or was one. One that is just being reaped still has its pid. */
        struct identity identity = {pid, pidfd};
        result = reaper_between_passes(bus, is_foreign, &identity);
        if (result == 0)
            return adopt_foreign(bus, set, pid, pidfd, process);
    }
    sys_close(pidfd);
    return result;
}

int process_adopt_pidfd(struct exitbus *bus, int pidfd, struct exitbus_process **process)
{
    struct watch_set *set;
    int own = sys_duplicate(pidfd, LOWEST_FD);
    if (own < 0)
        return own;
    int result = reaper_set_acquire(bus, &set);
    if (result < 0) {
        sys_close(own);
        return result;
    }
    result = adopt_by_pidfd(bus, set, own, process);
    reaper_set_release(bus, set);
    return result;
}

/* --------------------------------------------------------------------------------------- wait */

/* Wait, as the thread that collects, or for another. */
static int wait_until(struct exitbus_process *process, struct exitbus_event *event,
                      int64_t until_ns)
{
    int result;
    do {
        result = process_is_direct(process) ? direct_wait(process, event, until_ns) : DIRECT_NOT;
        if (result == DIRECT_NOT)
            result = outcome_sleep(&process->outcome, event, until_ns);
    } while (result == -EAGAIN);
    return result;
}

int process_wait(struct exitbus_process *process, struct exitbus_event *event, int64_t timeout_ns)
{
    int result = outcome_look(&process->outcome, event);
    if (result != -EAGAIN)
        return result;
    /* A sleep in a section would hold up the freeing of memory. */
    bool inside = timeout_ns != 0 && reclaim_inside();
    if (timeout_ns != 0 && !inside)
        return wait_until(process, event, outcome_deadline(timeout_ns));
    if (process_is_direct(process))
        result = direct_wait(process, event, 0);
    if (result == DIRECT_NOT)
        result = -EAGAIN;
    return result == -EAGAIN && inside ? -EDEADLK : result;
}

int process_fd(struct exitbus_process *process)
{
    int fd = outcome_fd(&process->outcome);
    if (fd >= 0 && process_is_direct(process))
        direct_hand_over(process); /* an event loop does not collect */
    return fd;
}

/* --------------------------------------------------------------------------- identity, signals */

pid_t process_pid(const struct exitbus_process *process)
{
    pid_t pid = watch_pid(&process->watch);
    return pid < 0 ? -pid : pid;
}

/* A question to be answered while no pass over the bus's children is made. */
struct question {
    struct exitbus_process *process;
    int signal;
};

/* Open a pidfd for a handle that has none. Returns it, or -errno. */
static int open_held(void *argument)
{
    const struct question *question = argument;
    if (!process_is_running(question->process))
        return -ESRCH;
    int pidfd = open_pidfd(process_pid(question->process));
    return pidfd == -ECHILD ? -ESRCH : pidfd;
}

/* Signal the process group of a child, which the child's pid keeps as long as it is not reaped. */
static int signal_group_held(void *argument)
{
    const struct question *question = argument;
    int pidfd = watch_pidfd(&question->process->watch);
    if (!process_is_running(question->process) || pidfd < 0 || sys_find_child(0, pidfd) < 0)
        return -ESRCH;
    return sys_kill(-process_pid(question->process), question->signal);
}

/* Returns a pidfd of the caller's own. */
int process_pidfd(struct exitbus_process *process)
{
    struct question question = {.process = process};
    int pidfd = watch_pidfd(&process->watch);
    return pidfd >= 0 ? sys_duplicate(pidfd, LOWEST_FD)
                      : reaper_between_passes(process->bus, open_held, &question);
}

int process_signal_in_pass(struct exitbus_process *process, int signal, bool group)
{
    int shared = watch_pidfd(&process->watch);
    struct question question = {process, signal};
    int pidfd = shared >= 0 ? shared : open_held(&question);
    if (pidfd < 0)
        return pidfd;
    int result =
        !group && !process_is_running(process) ? -ESRCH : sys_pidfd_signal(pidfd, signal, group);
    if (shared < 0)
        sys_close(pidfd);
    return result;
}

/* Before Linux 6.9 a pidfd does not name a process group. */
static int signal_group_by_pid(struct exitbus_process *process, int signal)
{
    if (process->watch.kind & WATCH_FOREIGN)
        return -ENOTSUP;
    struct question question = {process, signal};
    return process_is_direct(process)
               ? direct_between_waits(process, signal_group_held, &question)
               : reaper_between_passes(process->bus, signal_group_held, &question);
}

int process_signal(struct exitbus_process *process, int signal, bool group)
{
    if (!group && load_acquire(&process->outcome.state) == OUTCOME_TOLD)
        return -ESRCH;
    int shared = watch_pidfd(&process->watch);
    int pidfd = shared >= 0 ? shared : process_pidfd(process);
    if (pidfd < 0)
        return pidfd;
    int result = sys_pidfd_signal(pidfd, signal, group);
    if (group && result == -EINVAL)
        result = signal_group_by_pid(process, signal);
    if (shared < 0)
        sys_close(pidfd);
    return result;
}

int process_start_time(struct exitbus_process *process, uint64_t *boottime_ns)
{
    uint64_t known = load_relaxed(&process->start_ns);
    if (known == 0) {
        struct exitbus_event_details details;
        int result = details_of_pid(process_pid(process), &details);
        /* It was this process's file if this process has not been reaped. */
        int alive = process_signal(process, 0, false);
        if (alive < 0 && alive != -EPERM)
            return alive;
        if (result < 0)
            return result;
        known = details.start_ns;
        store_relaxed(&process->start_ns, known);
    }
    *boottime_ns = known;
    return 0;
}
