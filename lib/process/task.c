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

#include <errno.h>
#include <stdlib.h>

/* Between attempts to publish, and between SIGKILLs to what is left. */
#define INTERVAL_NS 100000000LL
/* Exits that are remembered before any is looked at for being too old. */
#define REMEMBERED_FEW 64

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

/* Give up a reference. Context: any thread; lock-free. */
static void task_release(struct exitbus_task *task)
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

static bool is_leader(const struct exitbus_exec *exec)
{
    return exec == exec->task->leader;
}

/* Give up a reference. Context: any thread; lock-free. */
static void exec_release(struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    if (!is_leader(exec)) {
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

/* Queue it. Returns false if it lies there already, or is settled. */
static bool queue_news(struct exitbus_exec *exec)
{
    uint32_t none = NEWS_NONE;
    /* Sequentially consistent; pairs with come_off(): what the caller did before is seen. */
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

/* Let the reaper look at it. Context: inside a section, or with a reference. */
static void push_news(struct exitbus_exec *exec)
{
    struct watch_set *set = exec->task->set;
    fetch_add_acquire(&set->kept, 1); /* point 8 */
    if (queue_news(exec))
        watch_set_wake(set);
    /* Release; pairs with watch_set_needed(). */
    fetch_sub_release(&set->kept, 1);
}

/* The same for a call of the user's, whose bus may be closed meanwhile. */
static void push_news_of_call(struct exitbus_exec *exec)
{
    push_news(exec);
    reaper_drop_if_closed(exec->task->bus, exec->task->set);
}

/* Exits from now on are remembered, since they may be this exec's. */
static void begin_reservation(struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    /* Sequentially consistent; pairs with task_remember(). */
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

/* Publish an event of an exec. `from`: what it says of the process; NULL: its pid alone. */
static int publish(struct exitbus_exec *exec, enum exitbus_event_kind kind, pid_t pid,
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

/* ----------------------------------------------------------------------------- remembered exits */

/* Returns what tells a pidfd's process from others; 0: nothing does, as before Linux 6.9. */
static uint64_t identity(const struct watch_set *set, int pidfd)
{
    uint64_t inode = sys_inode(pidfd);
    return inode == sys_inode(set->wake_fd) ? 0 : inode; /* which is of no file of its own */
}

/* A process whose exit may be remembered. */
struct sought {
    struct watch_set *set;
    pid_t pid; /* 0: not known */
    int pidfd; /* < 0: none */
    struct exitbus_process *found;
};

/* Take it out. Context: no pass is made. */
static int take_remembered(void *argument)
{
    struct sought *sought = argument;
    uint64_t inode = sought->pidfd < 0 ? 0 : identity(sought->set, sought->pidfd);
    for (struct exitbus_process **link = &sought->set->remembered; *link;
         link = &(*link)->next_withdrawn) {
        struct exitbus_process *process = *link;
        bool both = inode != 0 && process->inode != 0;
        bool same_pid = process_pid(process) == sought->pid;
        if (both ? inode == process->inode && (same_pid || sought->pid == 0) : same_pid) {
            *link = process->next_withdrawn;
            sought->set->remembered_count--;
            sought->found = process;
            return 0;
        }
    }
    return -ECHILD;
}

/* Put it back. Context: no pass is made. */
static int put_back(void *argument)
{
    struct sought *sought = argument;
    sought->found->next_withdrawn = sought->set->remembered;
    sought->set->remembered = sought->found;
    sought->set->remembered_count++;
    return 0;
}

/* Find a handle of the process, alive or not. Returns 0 or -errno. */
static int find_process(struct exitbus_exec *exec, struct sought *sought)
{
    struct exitbus *bus = exec->task->bus;
    int result = sought->pidfd >= 0 ? process_adopt_pidfd(bus, sought->pidfd, &sought->found)
                                    : process_adopt(bus, sought->pid, &sought->found);
    if (result != -ECHILD && result != -ESRCH)
        return result;
    return reaper_between_passes(bus, take_remembered, sought) < 0 ? result : 0;
}

/* Give a handle back. An exit that was remembered is so again. */
static void lose_process(struct exitbus_exec *exec, struct sought *sought)
{
    if (process_is_running(sought->found) || load_relaxed(&sought->found->watch.pidfd) >= 0 ||
        bus_closed(exec->task->bus))
        process_unref(sought->found);
    else
        reaper_between_passes(exec->task->bus, put_back, sought);
}

/* ------------------------------------------------------------------------------- bind, let go */

/* Note how many processes of the task's cgroup were killed for want of memory. */
static void find_ooms(struct exitbus_task *task)
{
    if (task->cgroup_fd < 0)
        return;
    uint64_t found = read_ooms(task->cgroup_fd), known = load_relaxed(&task->ooms_found);
    while (found > known && !cas_weak_relaxed(&task->ooms_found, &known, found))
        continue;
}

static int bind(struct exitbus_exec *exec, pid_t pid, int pidfd)
{
    struct sought sought = {exec->task->set, pid, pidfd, NULL};
    struct exitbus_event event;
    int result = find_process(exec, &sought);
    if (result < 0)
        return result;
    struct exitbus_process *process = sought.found;
    result = pid == 0 || process_pid(process) == pid ? 0 : -EINVAL;
    if (result == 0)
        result = publish(exec, EXITBUS_EVENT_STARTED, process_pid(process), NULL, &event);
    if (result < 0) {
        lose_process(exec, &sought);
        return result;
    }
    exec->process = process;
    store_seq_cst(&process->exec, exec); /* point 2 */
    find_ooms(exec->task);               /* it may have been a zombie before that store */
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
    return pid == 0 || pid == bound ? publish(exec, EXITBUS_EVENT_STARTED, bound, NULL, &event)
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
        push_news(exec);
    reclaim_leave();
}

void task_before_exit(struct exitbus_process *process)
{
    struct exitbus_exec *exec = load_seq_cst(&process->exec);
    if (exec)
        find_ooms(exec->task);
}

bool task_remember(struct watch_set *set, pid_t pid, int pidfd, struct exitbus_process **process)
{
    *process = NULL;
    /* Sequentially consistent; pairs with begin_reservation(). */
    if (likely(load_seq_cst(&set->reservations) == 0))
        return true;
    struct exitbus_process *made = process_create(set->bus, NULL);
    if (!made)
        return false;
    int own = pidfd < 0 ? sys_pidfd_open(pid) : pidfd;
    if (own >= 0)
        made->inode = identity(set, own);
    if (pidfd < 0 && own >= 0)
        sys_close(own);
    store_relaxed(&made->watch.pid, pid);
    *process = made;
    return true;
}

/* Forget exits before `seq`. */
static void forget_before(struct watch_set *set, uint64_t seq)
{
    for (struct exitbus_process **link = &set->remembered; *link;) {
        struct exitbus_process *process = *link;
        struct exitbus_event event;
        if (outcome_look(&process->outcome, &event) == 0 && event.seq >= seq) {
            link = &process->next_withdrawn;
            continue;
        }
        *link = process->next_withdrawn;
        set->remembered_count--;
        process_unref(process);
    }
}

/* Forget exits that were published before each exec that may still be bound was reserved. */
static void forget_old(struct watch_set *set)
{
    uint64_t oldest = UINT64_MAX;
    uint32_t open = load_seq_cst(&set->reservations), listed = 0;
    for (struct exitbus_exec *exec = set->execs; exec; exec = exec->next) {
        uint64_t since_seq = load_relaxed(&exec->since_seq);
        if (since_seq == UINT64_MAX || (load_seq_cst(&exec->state) & (EXEC_BOUND | EXEC_CANCELLED)))
            continue;
        oldest = since_seq < oldest ? since_seq : oldest;
        listed++;
    }
    if (listed < open) /* one is on its way here, and may be the oldest */
        return;
    forget_before(set, oldest);
    /* Half of a crowd that all are needed is looked at again when it has doubled. */
    set->remembered_most = 2 * set->remembered_count + REMEMBERED_FEW;
}

void task_remembered(struct watch_set *set, struct exitbus_process *process,
                     const struct exitbus_event *event)
{
    if (likely(!process))
        return;
    process_release(process); /* of a watch, which it has none of */
    if (!event) {
        process_unref(process);
        return;
    }
    outcome_note(&process->outcome, event);
    outcome_settle(&process->outcome, OUTCOME_TOLD);
    process->next_withdrawn = set->remembered;
    set->remembered = process;
    set->remembered_count++;
}

/* ----------------------------------------------------------------------------------- the looks */

static void list(struct watch_set *set, struct exitbus_exec *exec)
{
    exec->listed = true;
    exec->before = NULL;
    exec->next = set->execs;
    if (set->execs)
        set->execs->before = exec;
    set->execs = exec;
}

static void unlist(struct watch_set *set, struct exitbus_exec *exec)
{
    if (exec->before)
        exec->before->next = exec->next;
    else
        set->execs = exec->next;
    if (exec->next)
        exec->next->before = exec->before;
    exec->listed = false;
}

/* Look at it by time, too. */
static void time_leader(struct watch_set *set, struct exitbus_exec *leader)
{
    struct exitbus_task *task = leader->task;
    if (task->timed)
        return;
    fetch_add_relaxed(&task->references, 1);
    task->timed = true;
    task->next_timed = set->timed_leaders;
    set->timed_leaders = leader;
}

static bool is_bound(const struct exitbus_exec *exec)
{
    /* Acquire; pairs with exec_started(), for `process`. */
    return load_seq_cst(&exec->state) & EXEC_BOUND;
}

/* It is done with. Gives up the reaper's reference, now or when it is taken off the stack. */
static void settle(struct watch_set *set, struct exitbus_exec *exec)
{
    exec->settled = true;
    unlist(set, exec);
    if (is_bound(exec))
        store_seq_cst(&exec->process->exec, NULL);
    /* Release; pairs with watch_set_needed(). The set is held by the task. */
    fetch_sub_release(&set->kept, 1);
    if (exchange_seq_cst(&exec->news, NEWS_OVER) != NEWS_QUEUED)
        exec_release(exec);
}

/* Let its exit be on its way. Returns false if it is held. */
static bool end(struct exitbus_exec *exec)
{
    uint32_t state = load_seq_cst(&exec->state);
    do
        if (state & (EXEC_HELD | EXEC_STARTING)) /* one that is started again is let go then */
            return false;
    while (!cas_weak_seq_cst(&exec->state, &state, state | EXEC_ENDED));
    return true;
}

/* Tell the exit of an exec. Returns false if that can't be published now. */
static bool tell_exit(struct exitbus_exec *exec, uint8_t flags)
{
    struct exitbus_event told = {.pid = process_pid(exec->process)}, event;
    if (outcome_look(&exec->process->outcome, &told) != 0)
        told.status = told.exit_code = -1;
    told.flags |= flags;
    if (publish(exec, EXITBUS_EVENT_EXEC, 0, &told, &event) < 0)
        return false;
    outcome_note(&exec->outcome, &event);
    outcome_settle(&exec->outcome, OUTCOME_TOLD);
    return true;
}

/* Signal the processes of a task that run. Returns whether there are any. Context: in a pass. */
static bool signal_all(struct watch_set *set, const struct exitbus_task *task, int signal)
{
    bool any = false;
    for (struct exitbus_exec *exec = set->execs; exec; exec = exec->next)
        if (exec->task == task && is_bound(exec) && process_is_running(exec->process)) {
            process_signal_in_pass(exec->process, signal, false);
            any = true;
        }
    return any;
}

/* Send SIGKILL where it is due. Returns whether it is due again: a kill may fail, and a fork may
 * escape one by one. Context: in a pass. */
static bool kill_all(struct watch_set *set, const struct exitbus_task *task)
{
    bool again = false;
    if (task->kill == EXITBUS_TASK_KILL_CGROUP) {
        group_kill_cgroup(task->cgroup_fd);
        again = load_seq_cst(&task->open) & ~TASK_LEADER_DIED;
    }
    if (task->kill == EXITBUS_TASK_KILL_MEMBERS || load_relaxed(&task->ended))
        again |= signal_all(set, task, SIGKILL);
    return again;
}

/* Tell how many processes were killed for want of memory. Returns false if it can't be now. */
static bool tell_ooms(struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    find_ooms(task);
    uint64_t found = load_relaxed(&task->ooms_found);
    if (found <= task->ooms)
        return true;
    struct exitbus_event event,
        from = {.pid = process_pid(exec->process), .exit_code = (int32_t)(found - task->ooms)};
    if (publish(task->leader, EXITBUS_EVENT_OOM, 0, &from, &event) < 0)
        return false;
    task->ooms = found;
    return true;
}

/* The leader has died: no exec is reserved any more, and the rest is killed if that was said. */
static void note_death(struct watch_set *set, struct exitbus_exec *leader)
{
    struct exitbus_task *task = leader->task;
    /* Sequentially consistent; pairs with exec_reserve(): point 3. */
    if (fetch_or_seq_cst(&task->open, TASK_LEADER_DIED) & TASK_LEADER_DIED)
        return;
    if (task->kill != EXITBUS_TASK_KILL_NONE) {
        /* And again, as long as members are left. */
        outcome_bring_forward(&task->kill_ns, sys_clock_ns(CLOCK_MONOTONIC));
        time_leader(set, leader);
        kill_all(set, task);
    }
    if (task->bound_ns > 0) {
        task->bound_at_ns = outcome_deadline(task->bound_ns);
        time_leader(set, leader);
    }
}

/* The leader has died. Returns false if something can't be published now. */
static bool end_leader(struct watch_set *set, struct exitbus_exec *leader)
{
    struct exitbus_task *task = leader->task;
    struct exitbus_event event;
    note_death(set, leader);
    if (!tell_ooms(leader))
        return false;
    pid_t pid = process_pid(leader->process);
    if (!task->death_told && publish(leader, EXITBUS_EVENT_LEADER_DIED, pid, NULL, &event) < 0)
        return false;
    task->death_told = true;
    bool alone = load_seq_cst(&task->open) == TASK_LEADER_DIED;
    bool cut = !alone && sys_clock_ns(CLOCK_MONOTONIC) >= task->bound_at_ns;
    if (!leader->told && (alone || cut)) {
        if (!end(leader))
            return true;
        if (!tell_exit(leader, cut ? EXITBUS_EVENT_CUT_SHORT : 0))
            return false;
        leader->told = true;
        task->bound_at_ns = INT64_MAX;
    }
    if (leader->told && alone)
        settle(set, leader);
    return true;
}

/* One exec fewer is open. Context: with a reference of the task. */
static void close_exec(struct exitbus_task *task)
{
    if (fetch_sub_seq_cst(&task->open, 1) == (TASK_LEADER_DIED | 1))
        push_news(task->leader);
}

static bool end_member(struct watch_set *set, struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    if (!end(exec))
        return true;
    if (!tell_ooms(exec) || !tell_exit(exec, 0))
        return false;
    fetch_add_relaxed(&task->references, 1); /* the exec's goes with it */
    settle(set, exec);
    close_exec(task);
    task_release(task);
    return true;
}

/* The exec will not be bound. A leader stays until its execs are settled, for the task's end. */
static void end_cancelled(struct watch_set *set, struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    if (!exec->told)
        outcome_settle(&exec->outcome, OUTCOME_LEFT);
    exec->told = true;
    if (is_leader(exec)) {
        uint32_t open = fetch_or_seq_cst(&task->open, TASK_LEADER_DIED);
        if ((open & ~TASK_LEADER_DIED) == 0)
            settle(set, exec);
        return;
    }
    fetch_add_relaxed(&task->references, 1); /* the exec's goes with it */
    settle(set, exec);
    close_exec(task);
    task_release(task);
}

/* Signal what the user has ended. */
static void end_task(struct watch_set *set, struct exitbus_exec *leader)
{
    struct exitbus_task *task = leader->task;
    uint64_t signals = exchange_seq_cst(&task->signals, 0);
    task->sent |= signals;
    for (int signal = 1; signals != 0; signal++, signals >>= 1)
        if (signals & 1)
            signal_all(set, task, signal);
    if (load_relaxed(&task->kill_ns) != INT64_MAX)
        time_leader(set, leader);
}

/* Signal one that was bound behind the end of its task. */
static void greet(struct watch_set *set, struct exitbus_exec *exec)
{
    struct exitbus_task *task = exec->task;
    uint64_t sent = task->sent;
    exec->greeted = true;
    for (int signal = 1; sent != 0; signal++, sent >>= 1)
        if (sent & 1)
            process_signal_in_pass(exec->process, signal, false);
    if (load_relaxed(&task->kill_ns) != INT64_MAX)
        time_leader(set, task->leader);
}

/* Look at what an exec has come to. Returns false if something can't be published now. */
static bool look_at(struct watch_set *set, struct exitbus_exec *exec)
{
    if (is_leader(exec))
        end_task(set, exec);
    if (!is_bound(exec)) {
        if (load_seq_cst(&exec->state) & EXEC_CANCELLED)
            end_cancelled(set, exec);
        return true;
    }
    if (!exec->greeted)
        greet(set, exec);
    if (process_is_running(exec->process))
        return true;
    return is_leader(exec) ? end_leader(set, exec) : end_member(set, exec);
}

/* Take the oldest news first. All are listed, so that a signal to a task goes to them, too. */
static struct exitbus_exec *take_news(struct watch_set *set)
{
    /* Acquire; pairs with queue_news(). */
    struct exitbus_exec *taken = exchange_seq_cst(&set->exec_news, NULL), *first = NULL;
    while (taken) {
        struct exitbus_exec *next = taken->next_news;
        taken->next_news = first;
        first = taken;
        if (!taken->listed && !taken->settled)
            list(set, taken);
        taken = next;
    }
    return first;
}

/* Returns false if it was settled while it lay on the stack: then its reference is given up. */
static bool come_off(struct exitbus_exec *exec)
{
    uint32_t queued = NEWS_QUEUED;
    /* Sequentially consistent; pairs with queue_news(). */
    if (cas_seq_cst_else_seq_cst(&exec->news, &queued, NEWS_NONE))
        return true;
    exec_release(exec);
    return false;
}

/* Returns whether something is left for later. */
static bool step_news(struct watch_set *set)
{
    bool later = false;
    struct exitbus_exec *next, *exec = take_news(set);
    for (; exec; exec = next) {
        next = exec->next_news;
        if (come_off(exec) && !look_at(set, exec)) {
            queue_news(exec);
            later = true;
        }
    }
    return later;
}

/*
 * Kill what is due, and have the leader looked at if its exit is due. Returns when to look again;
 * INT64_MAX: not by time.
 */
static int64_t look_at_time(struct watch_set *set, struct exitbus_exec *leader, int64_t now)
{
    struct exitbus_task *task = leader->task;
    if (leader->settled)
        return INT64_MAX;
    bool held = load_seq_cst(&leader->state) & EXEC_HELD; /* it is looked at when it is let go */
    int64_t kill_ns = load_relaxed(&task->kill_ns), next = held ? INT64_MAX : task->bound_at_ns;
    if (now >= next) {
        queue_news(leader);
        next = now + INTERVAL_NS;
    }
    if (now >= kill_ns)
        kill_ns = kill_all(set, task) ? now + INTERVAL_NS : INT64_MAX;
    return kill_ns < next ? kill_ns : next;
}

static int64_t step_times(struct watch_set *set, int64_t now)
{
    int64_t next_ns = INT64_MAX;
    for (struct exitbus_exec **link = &set->timed_leaders; *link;) {
        struct exitbus_exec *leader = *link;
        int64_t at_ns = look_at_time(set, leader, now);
        if (at_ns == INT64_MAX) {
            *link = leader->task->next_timed;
            leader->task->timed = false;
            task_release(leader->task);
            continue;
        }
        next_ns = at_ns < next_ns ? at_ns : next_ns;
        link = &leader->task->next_timed;
    }
    return next_ns;
}

int64_t tasks_step(struct watch_set *set)
{
    int64_t now = sys_clock_ns(CLOCK_MONOTONIC);
    bool later = step_news(set); /* which may give a leader a time */
    int64_t next_ns = step_times(set, now);
    if (!later && load_seq_cst(&set->exec_news)) /* by a time that has come, or by another thread */
        later = step_news(set);
    if (load_seq_cst(&set->reservations) == 0)
        forget_before(set, UINT64_MAX);
    else if (set->remembered_count > set->remembered_most)
        forget_old(set);
    return later && now + INTERVAL_NS < next_ns ? now + INTERVAL_NS : next_ns;
}

void tasks_drop(struct watch_set *set)
{
    struct exitbus_exec *next, *exec = take_news(set);
    for (; exec; exec = next) {
        next = exec->next_news;
        come_off(exec);
    }
    forget_before(set, UINT64_MAX);
    while (set->execs) {
        exec = set->execs;
        if (!exec->told)
            outcome_settle(&exec->outcome, OUTCOME_LEFT);
        settle(set, exec);
    }
    while (set->timed_leaders) {
        struct exitbus_exec *leader = set->timed_leaders;
        set->timed_leaders = leader->task->next_timed;
        leader->task->timed = false;
        task_release(leader->task);
    }
}
