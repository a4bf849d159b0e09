/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a reaper does for tasks: it looks at what their execs have come to. See task.h. */
#include "process/group.h"
#include "process/remember.h"
#include "process/task.h"

/* Between attempts to publish, and between SIGKILLs to what is left. */
#define INTERVAL_NS 100000000LL

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
    if (exec_publish(exec, EXITBUS_EVENT_EXEC, 0, &told, &event) < 0)
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
    task_find_ooms(task);
    uint64_t found = load_relaxed(&task->ooms_found);
    if (found <= task->ooms)
        return true;
    struct exitbus_event event,
        from = {.pid = process_pid(exec->process), .exit_code = (int32_t)(found - task->ooms)};
    if (exec_publish(task->leader, EXITBUS_EVENT_OOM, 0, &from, &event) < 0)
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
    if (!task->death_told && exec_publish(leader, EXITBUS_EVENT_LEADER_DIED, pid, NULL, &event) < 0)
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
        exec_push_news(task->leader);
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
    if (exec_is_leader(exec)) {
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
    if (exec_is_leader(exec))
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
    return exec_is_leader(exec) ? end_leader(set, exec) : end_member(set, exec);
}

/* Take the oldest news first. All are listed, so that a signal to a task goes to them, too. */
static struct exitbus_exec *take_news(struct watch_set *set)
{
    /* Acquire; pairs with exec_queue_news(). */
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
    /* Sequentially consistent; pairs with exec_queue_news(). */
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
            exec_queue_news(exec);
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
        exec_queue_news(leader);
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
    remember_forget(set);
    return later && now + INTERVAL_NS < next_ns ? now + INTERVAL_NS : next_ns;
}

void tasks_drop(struct watch_set *set)
{
    struct exitbus_exec *next, *exec = take_news(set);
    for (; exec; exec = next) {
        next = exec->next_news;
        come_off(exec);
    }
    remember_drop(set);
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
