/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tasks: see task.h.
 *
 * Why it is right
 *  1. STARTED comes before EXITED (G10). The thread that binds publishes STARTED before it sets
 *     EXEC_BOUND, and the reaper tells the exit of what is bound, and of nothing else.
 *  2. No exit of what is bound is missed. The thread that binds stores the exec into the handle,
 *     and then queues it; the thread that ends the handle settles its outcome, and then looks for
 *     the exec. All are sequentially consistent. So the reaper is told by the second, or it finds
 *     the outcome settled when it comes to what the first has queued.
 *  3. Members come before the leader (G11). `open` falls only behind the publish of an exec's exit,
 *     by the reaper, and an exec that was reserved counts. No exec is reserved once the leader has
 *     died, since both are in one word.
 *  4. An exec is looked at by what it has come to, and not by what happened to it. So news may be
 *     merged, and one that can't be published now is queued again.
 *  5. The reaper's reference lasts until the exec is settled and lies on no stack. A thread that
 *     ends a handle is inside a section while it has the exec, and an exec becomes free only behind
 *     a grace period; one that is settled is not queued any more. A leader lives as long as its
 *     task does.
 *  6. An exit is remembered in the pass that publishes it, and looked for while no pass is made. So
 *     a thread that finds the child gone finds its exit, if it was published behind the
 *     reservation. With a pidfd it is found by the inode, which is the process's own from Linux 6.9
 *     on; by a pid alone it is the latest that had that pid.
 *  7. An exit that is on its way can't be held back any more: EXEC_ENDED and EXEC_HELD are in one
 *     word, and the reaper sets the first only without the second.
 *  8. A thread that wakes the reaper keeps the set needed meanwhile, and an exec that it could
 *     queue kept it needed before. So the descriptor that it writes to is the set's.
 *  9. Nothing here waits for another thread: the helpers that a starter waits for are collected,
 *     and their exits published, whatever is reserved.
 */
#include "process/task.h"
#include "process/group.h"
#include "process/reaper.h"
#include "process/remember.h"

#include <errno.h>
#include <stdlib.h>

/* Returns how many processes of the cgroup the kernel has killed for want of memory. */
static uint64_t read_ooms(int cgroup_fd)
{
    char text[512];
    int fd = sys_open_at(cgroup_fd, "memory.events", false);
    int length = fd < 0 ? fd : sys_read(fd, text, sizeof text - 1);
    if (fd >= 0)
        sys_close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    const char *line = strstr(text, "oom_kill ");
    return line ? strtoull(line + sizeof "oom_kill", NULL, 10) : 0;
}

/* ------------------------------------------------------------------------------- begin and end */

void task_release(struct exitbus_task *task)
{
    /* Acquire and release; pairs with itself: the last thread sees what the others did. */
    if (fetch_sub_acq_rel(&task->references, 1) != 1)
        return;
    struct exitbus *bus = task->bus;
    struct watch_set *set = task->set;
    struct exitbus_exec *leader = task->leader;
    if (task->cgroup_fd >= 0)
        sys_close(task->cgroup_fd);
    if (leader->process)
        process_unref(leader->process);
    outcome_close(&leader->outcome);
    reclaim_enter();
    memory_retire(&bus->core.memory, GROUP_CLASS, leader);
    memory_retire(&bus->core.memory, GROUP_CLASS, task);
    reclaim_leave();
    watch_set_release(set);
    core_release(&bus->core);
}

void exec_release(struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    if (!exec_is_leader(exec)) {
        /* As in task_release(). */
        if (fetch_sub_acq_rel(&exec->references, 1) != 1)
            return;
        if (exec->process)
            process_unref(exec->process);
        outcome_close(&exec->outcome);
        reclaim_enter();
        memory_retire(&task->bus->core.memory, GROUP_CLASS, exec);
        reclaim_leave();
    }
    task_release(task);
}

bool exec_queue_news(struct exitbus_exec *exec)
{
    uint32_t none = NEWS_NONE;
    /* Sequentially consistent; pairs with come_off() in task_step.c: what the caller did before is
     * seen. */
    if (!cas_seq_cst_else_seq_cst(&exec->news, &none, NEWS_QUEUED))
        return false;
    struct watch_set *set = exec->task->set;
    struct exitbus_exec *top = load_relaxed(&set->exec_news);
    do
        exec->next_news = top;
    /* Release; pairs with take_news(). Sequentially consistent; pairs with tasks_need_a_look(). */
    while (!cas_weak_seq_cst(&set->exec_news, &top, exec));
    return true;
}

void exec_push_news(struct exitbus_exec *exec)
{
    struct watch_set *set = exec->task->set;
    fetch_add_acquire(&set->kept, 1); /* point 8 */
    if (exec_queue_news(exec))
        watch_set_wake(set);
    /* Release; pairs with watch_set_needed(). */
    fetch_sub_release(&set->kept, 1);
}

/* The same for a call of the user's, whose bus may be closed meanwhile. */
static void push_news_of_call(struct exitbus_exec *exec)
{
    exec_push_news(exec);
    reaper_drop_if_closed(exec->task->bus, exec->task->set);
}

/* Exits from now on are remembered, since they may be this exec's. */
static void begin_reservation(struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    /* Sequentially consistent; pairs with remember_prepare(). */
    fetch_add_seq_cst(&task->set->reservations, 1);
    store_relaxed(&exec->since_seq, order_count(&task->bus->core.order) + 1);
}

static void end_reservation(struct exitbus_exec *exec)
{
    fetch_sub_seq_cst(&exec->task->set->reservations, 1);
}

/* Make an exec, with a reference of the reaper's and one of its handles. NULL: no memory. */
static struct exitbus_exec *exec_create(struct exitbus_task *task, const char *id)
{
    reclaim_enter();
    struct exitbus_exec *exec = memory_alloc(&task->bus->core.memory, GROUP_CLASS);
    reclaim_leave();
    if (!exec)
        return NULL;
    exec->task = task;
    exec->process = NULL;
    exec->next_news = exec->next = exec->before = NULL;
    atomic_init(&exec->since_seq, UINT64_MAX);
    atomic_init(&exec->state, 0);
    atomic_init(&exec->news, NEWS_NONE);
    atomic_init(&exec->references, 2);
    atomic_init(&exec->handles, 1);
    exec->listed = exec->settled = exec->greeted = exec->told = false;
    outcome_init(&exec->outcome);
    memset(exec->id, 0, sizeof exec->id);
    memcpy(exec->id, id, strlen(id));
    fetch_add_relaxed(&task->references, 1);
    fetch_add_relaxed(&task->set->kept, 1);
    return exec;
}

static struct exitbus_task *create(struct exitbus *bus, struct watch_set *set,
                                   const char *container_id,
                                   const struct exitbus_task_options *options, int cgroup_fd)
{
    reclaim_enter();
    struct exitbus_task *task = memory_alloc(&bus->core.memory, GROUP_CLASS);
    reclaim_leave();
    if (!task)
        return NULL;
    task->bus = bus;
    task->set = set;
    task->cgroup_fd = cgroup_fd;
    task->kill = options ? (uint32_t)options->kill : EXITBUS_TASK_KILL_NONE;
    task->bound_ns = options ? options->bound_ns : 0;
    atomic_init(&task->kill_ns, INT64_MAX);
    atomic_init(&task->signals, 0);
    atomic_init(&task->ended, 0);
    task->ooms = cgroup_fd < 0 ? 0 : read_ooms(cgroup_fd); /* those before are not the task's */
    atomic_init(&task->ooms_found, task->ooms);
    atomic_init(&task->open, 0);
    atomic_init(&task->references, 1);
    atomic_init(&task->handles, 1);
    atomic_init(&task->reserved, 0);
    task->sent = 0;
    task->bound_at_ns = INT64_MAX;
    task->death_told = task->timed = false;
    task->next_timed = NULL;
    memset(task->name, 0, sizeof task->name);
    memcpy(task->name, container_id, strlen(container_id));
    task->leader = exec_create(task, ""); /* with the reaper's reference: no handle has it yet */
    if (!task->leader) {
        reclaim_enter();
        memory_retire(&bus->core.memory, GROUP_CLASS, task);
        reclaim_leave();
        return NULL;
    }
    atomic_init(&task->leader->handles, 0);
    fetch_add_relaxed(&bus->core.references, 1);
    fetch_add_relaxed(&set->references, 1);
    fetch_add_relaxed(&set->kept, 1);
    return task;
}

int task_create(struct exitbus *bus, const char *container_id,
                const struct exitbus_task_options *options, struct exitbus_task **task)
{
    struct watch_set *set;
    int cgroup_fd = -1;
    if (options && (options->flags & EXITBUS_TASK_CGROUP)) {
        int events_fd = group_copy_cgroup(options->cgroup_fd, &cgroup_fd);
        if (events_fd < 0)
            return events_fd;
        sys_close(events_fd);
    }
    int result = reaper_set_acquire(bus, &set);
    if (result == 0) {
        struct exitbus_task *made = create(bus, set, container_id, options, cgroup_fd);
        if (made) {
            push_news_of_call(made->leader); /* so that the reaper lists it */
            *task = made;
        }
        result = made ? 0 : -ENOMEM;
        reaper_set_release(bus, set);
    }
    if (result < 0 && cgroup_fd >= 0)
        sys_close(cgroup_fd);
    return result;
}

void exec_unref(struct exitbus_exec *exec)
{
    /* Acquire and release; pairs with itself. */
    if (fetch_sub_acq_rel(&exec->handles, 1) != 1)
        return;
    exec_cancel(exec); /* no thread can bind it any more */
    exec_release(exec);
}

void task_unref(struct exitbus_task *task)
{
    if (fetch_sub_acq_rel(&task->handles, 1) != 1)
        return;
    struct exitbus_exec *leader = task->leader;
    uint32_t none = 0;
    /* A leader that was not reserved can't be any more. */
    if (cas_seq_cst_else_seq_cst(&task->reserved, &none, 1)) {
        fetch_or_seq_cst(&leader->state, EXEC_CANCELLED);
        push_news_of_call(leader);
    }
    /* Release; pairs with watch_set_needed(). */
    fetch_sub_release(&task->set->kept, 1);
    task_release(task);
}

/* ------------------------------------------------------------------------------------ reserve */

int exec_reserve(struct exitbus_task *task, const char *exec_id, struct exitbus_exec **exec)
{
    if (bus_closed(task->bus))
        return -ESHUTDOWN;
    if (exec_id[0] == '\0') {
        uint32_t none = 0;
        if (load_seq_cst(&task->leader->state) & EXEC_CANCELLED)
            return -ECANCELED;
        if (!cas_seq_cst_else_seq_cst(&task->reserved, &none, 1))
            return -EEXIST;
        fetch_add_relaxed(&task->references, 1);
        fetch_add_relaxed(&task->leader->handles, 1);
        begin_reservation(task->leader);
        push_news_of_call(task->leader); /* so that the reaper sees since when */
        *exec = task->leader;
        return 0;
    }
    struct exitbus_exec *made = exec_create(task, exec_id);
    if (!made)
        return -ENOMEM;
    begin_reservation(made);
    uint32_t open = load_relaxed(&task->open);
    do {
        if (open & TASK_LEADER_DIED) {
            end_reservation(made);
            fetch_sub_release(&task->set->kept, 1);
            exec_release(made); /* the reaper's, which has not seen it */
            exec_release(made);
            return -EOWNERDEAD;
        }
        /* Sequentially consistent; pairs with note_death(). */
    } while (!cas_weak_seq_cst(&task->open, &open, open + 1));
    push_news_of_call(made);
    *exec = made;
    return 0;
}

int exec_publish(struct exitbus_exec *exec, enum exitbus_event_kind kind, pid_t pid,
                 const struct exitbus_event *from, struct exitbus_event *event)
{
    struct exitbus_task *task = exec->task;
    *event = from ? *from : (struct exitbus_event){.pid = pid};
    event->kind = (uint8_t)kind;
    if (!from || kind != EXITBUS_EVENT_EXEC)
        event->monotonic_ns = event->realtime_ns = 0; /* publish fills them in */
    memset(event->container_id, 0, sizeof event->container_id);
    memset(event->exec_id, 0, sizeof event->exec_id);
    memcpy(event->container_id, task->name, strlen(task->name));
    memcpy(event->exec_id, exec->id, strlen(exec->id));
    int result = bus_publish(task->bus, event, 1, &event->seq);
    event->container_id_size = (uint8_t)strlen(task->name);
    event->exec_id_size = (uint8_t)strlen(exec->id);
    return result;
}

/* ------------------------------------------------------------------------------- bind, let go */

/* Find a handle of the process, alive or not. Returns 0 or -errno. */
static int find_process(struct exitbus_exec *exec, pid_t pid, int pidfd,
                        struct exitbus_process **process)
{
    struct exitbus *bus = exec->task->bus;
    int result =
        pidfd >= 0 ? process_adopt_pidfd(bus, pidfd, process) : process_adopt(bus, pid, process);
    if (result != -ECHILD && result != -ESRCH)
        return result;
    return remember_take(bus, exec->task->set, pid, pidfd, process) < 0 ? result : 0;
}

/* Give a handle back. An exit that was remembered is so again. */
static void lose_process(struct exitbus_exec *exec, struct exitbus_process *process)
{
    struct exitbus *bus = exec->task->bus;
    if (process_is_running(process) || load_relaxed(&process->watch.pidfd) >= 0 || bus_closed(bus))
        process_unref(process);
    else
        remember_again(bus, exec->task->set, process);
}

void task_find_ooms(struct exitbus_task *task)
{
    if (task->cgroup_fd < 0)
        return;
    uint64_t found = read_ooms(task->cgroup_fd), known = load_relaxed(&task->ooms_found);
    while (found > known && !cas_weak_relaxed(&task->ooms_found, &known, found))
        continue;
}

static int bind(struct exitbus_exec *exec, pid_t pid, int pidfd)
{
    struct exitbus_process *process;
    struct exitbus_event event;
    int result = find_process(exec, pid, pidfd, &process);
    if (result < 0)
        return result;
    result = pid == 0 || process_pid(process) == pid ? 0 : -EINVAL;
    if (result == 0)
        result = exec_publish(exec, EXITBUS_EVENT_STARTED, process_pid(process), NULL, &event);
    if (result < 0) {
        lose_process(exec, process);
        return result;
    }
    exec->process = process;
    store_seq_cst(&process->exec, exec); /* point 2 */
    task_find_ooms(exec->task);          /* it may have been a zombie before that store */
    return 0;
}

/* Become the thread that binds it, or starts it again. Returns 0 or -errno. */
static int begin_start(struct exitbus_exec *exec, uint32_t *state)
{
    *state = load_seq_cst(&exec->state);
    do {
        if (*state & EXEC_CANCELLED)
            return -ECANCELED;
        if (*state & EXEC_STARTING)
            return -EBUSY;
        if ((*state & EXEC_BOUND) && !(*state & EXEC_HELD))
            return -EALREADY;
    } while (!cas_weak_seq_cst(&exec->state, state, *state | EXEC_STARTING));
    return 0;
}

/* STARTED once more, of the process that it is bound to. */
static int start_again(struct exitbus_exec *exec, pid_t pid)
{
    struct exitbus_event event;
    pid_t bound = process_pid(exec->process);
    return pid == 0 || pid == bound ? exec_publish(exec, EXITBUS_EVENT_STARTED, bound, NULL, &event)
                                    : -EINVAL;
}

int exec_started(struct exitbus_exec *exec, pid_t pid, int pidfd)
{
    uint32_t state;
    int result = begin_start(exec, &state);
    if (result < 0)
        return result;
    bool again = state & EXEC_BOUND;
    result = again ? start_again(exec, pid) : bind(exec, pid, pidfd);
    /* Release; pairs with look_at(), for `process`. No other thread changes it meanwhile. */
    if (result < 0)
        store_seq_cst(&exec->state, state);
    else
        store_seq_cst(&exec->state, again ? state & ~(uint32_t)EXEC_HELD : state | EXEC_BOUND);
    if (result < 0)
        return result;
    if (!again)
        end_reservation(exec);
    push_news_of_call(exec);
    return 0;
}

int exec_restarting(struct exitbus_exec *exec)
{
    uint32_t state = load_seq_cst(&exec->state);
    do {
        if (state & EXEC_CANCELLED)
            return -ECANCELED;
        if (state & EXEC_STARTING)
            return -EBUSY;
        if (state & EXEC_ENDED)
            return -ESRCH;
    } while (!cas_weak_seq_cst(&exec->state, &state, state | EXEC_HELD));
    return 0;
}

int exec_cancel(struct exitbus_exec *exec)
{
    uint32_t state = load_seq_cst(&exec->state), next;
    do {
        if (state & EXEC_STARTING)
            return -EBUSY;
        /* One that is bound can't be taken back: it is let go. */
        next = state & EXEC_BOUND ? state & ~(uint32_t)EXEC_HELD : state | EXEC_CANCELLED;
    } while (!cas_weak_seq_cst(&exec->state, &state, next));
    if (next & ~state & EXEC_CANCELLED)
        end_reservation(exec);
    if (next != state)
        push_news_of_call(exec);
    return 0;
}

/* -------------------------------------------------------------------------- ask, signal, end */

int exec_wait(struct exitbus_exec *exec, struct exitbus_event *event, int64_t timeout_ns)
{
    if (load_seq_cst(&exec->state) & EXEC_CANCELLED)
        return -ECANCELED;
    int result = outcome_wait(&exec->outcome, event, timeout_ns);
    if (result == 0) {
        memcpy(event->container_id, exec->task->name, sizeof event->container_id);
        memcpy(event->exec_id, exec->id, sizeof event->exec_id);
    }
    bool cancelled = load_seq_cst(&exec->state) & EXEC_CANCELLED;
    return result == -ESHUTDOWN && cancelled ? -ECANCELED : result;
}

int exec_signal(struct exitbus_exec *exec, int signal)
{
    uint32_t state = load_seq_cst(&exec->state); /* acquire; pairs with exec_started() */
    if (state & EXEC_CANCELLED)
        return -ECANCELED;
    return state & EXEC_BOUND ? process_signal(exec->process, signal, false) : -ESRCH;
}

int task_end(struct exitbus_task *task, int signal, int64_t grace_ns)
{
    if (bus_closed(task->bus))
        return -ESHUTDOWN;
    if (!outcome_is_open(&task->leader->outcome) &&
        !(load_seq_cst(&task->open) & ~TASK_LEADER_DIED))
        return -ESRCH;
    if (grace_ns >= 0) {
        store_relaxed(&task->ended, 1); /* the CAS below, or the queue, hands it on */
        outcome_bring_forward(&task->kill_ns, outcome_deadline(grace_ns));
    }
    if (signal != 0 && grace_ns != 0)
        fetch_or_seq_cst(&task->signals, (uint64_t)1 << (signal - 1));
    push_news_of_call(task->leader);
    return 0;
}

/* ----------------------------------------------------------------------------- for the reaper */

void task_process_ended(struct exitbus_process *process)
{
    reclaim_enter();                                          /* point 5 */
    struct exitbus_exec *exec = load_seq_cst(&process->exec); /* point 2 */
    if (exec)
        exec_push_news(exec);
    reclaim_leave();
}

void task_before_exit(struct exitbus_process *process)
{
    struct exitbus_exec *exec = load_seq_cst(&process->exec);
    if (exec)
        task_find_ooms(exec->task);
}
