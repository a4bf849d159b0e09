/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Tasks: the named processes of a container, and the order of their lives. A task has a leader, the
 * container's own process, and execs. An exec is a name that is reserved first, and bound to a
 * process once that has started.
 *
 * How it works
 *   - Events of pids go out as ever. What has an order is the name: the thread that binds publishes
 *     STARTED and then binds. The reaper publishes EXITED of what is bound.
 *   - An exec is news once it was reserved, bound, cancelled, held or let go, and once its process
 *     has ended. News go onto a stack of the set. Behind each pass the reaper takes them off, and
 *     looks at what each exec has come to.
 *   - `open` counts the execs of a task that have not been settled, but for the leader. Its highest
 *     bit says that the leader has died. So to reserve and to see the death are one CAS.
 *   - The leader's EXITED goes out when its death is told and no exec is open.
 *   - While an exec is reserved the reaper remembers the exits that it publishes (remember.h), and
 *     the thread that binds looks there if the child is gone.
 *
 * task.c has the calls, task_step.c the reaper's looks.
 * Why it is right: see task.c.
 */
#ifndef EXITBUS_TASK_H
#define EXITBUS_TASK_H

#include "process/process.h"

/* exitbus_exec.state: bits. */
enum {
    EXEC_STARTING = 1u,  /* a thread binds it, or starts it again */
    EXEC_BOUND = 2u,     /* `process` is there, and STARTED is published */
    EXEC_HELD = 4u,      /* its exit waits for the next STARTED */
    EXEC_CANCELLED = 8u, /* it will not be bound */
    EXEC_ENDED = 16u,    /* its exit is on its way: it can't be held any more */
};

/* exitbus_exec.news */
enum exec_news {
    NEWS_NONE,
    NEWS_QUEUED, /* it lies on the stack, and has the reaper's reference */
    NEWS_OVER,   /* it is settled: there will be none */
};

struct exitbus_exec {
    struct block block;
    struct exitbus_task *task;       /* held; constant */
    struct exitbus_process *process; /* a handle of its own; by the thread that binds */
    struct exitbus_exec *next_news;
    struct exitbus_exec *next, *before; /* of those that are not settled; the reaper's */
    _Atomic uint64_t since_seq;         /* exits from here on may be its own; by the call */
    _Atomic uint32_t state;
    _Atomic uint32_t news;
    _Atomic uint32_t references; /* one of all handles, one of the reaper; a leader's: task->… */
    _Atomic uint32_t handles;    /* the user's references */
    bool listed, settled;        /* the reaper's, like the rest */
    bool greeted;                /* it was looked at with its process */
    bool told;                   /* a leader's exit */
    struct outcome outcome;
    char id[EXITBUS_ID_MAX + 1]; /* constant; "": the leader */
};

/* In exitbus_task.open: the leader has died. */
#define TASK_LEADER_DIED ((uint32_t)1 << 31)

struct exitbus_task {
    struct block block;
    struct exitbus *bus;         /* constant, like the next five; NULL in a forked child */
    struct watch_set *set;       /* held, and needed as long as there is a handle */
    struct exitbus_exec *leader; /* freed with the task */
    int32_t cgroup_fd;           /* a copy; -1: none */
    uint32_t kill;               /* enum exitbus_task_kill */
    int64_t bound_ns;            /* 0: none */
    _Atomic int64_t kill_ns;     /* when SIGKILL follows; INT64_MAX: never */
    _Atomic uint64_t signals;    /* to be sent by the reaper: bit n - 1 is signal n */
    _Atomic uint32_t ended;      /* 1: by the user, with SIGKILL for all that is bound */
    _Atomic uint64_t ooms_found; /* the most that were ever read */
    _Atomic uint32_t open;
    _Atomic uint32_t references; /* its own handles', its leader's, one of each other exec */
    _Atomic uint32_t handles;    /* the user's references */
    _Atomic uint32_t reserved;   /* 1: the leader was reserved */
    uint64_t sent;               /* signals that were sent to all; the reaper's, like the rest */
    uint64_t ooms;               /* that were told */
    int64_t bound_at_ns;         /* when the leader's exit is told whatever is open */
    bool death_told;
    bool timed; /* in the list of leaders with a time */
    struct exitbus_exec *next_timed;
    char name[EXITBUS_ID_MAX + 1]; /* constant */
};

_Static_assert(sizeof(struct exitbus_exec) <= GROUP_BYTES, "an exec fits its memory class");
_Static_assert(sizeof(struct exitbus_task) <= GROUP_BYTES, "a task fits its memory class");

/* The public calls of these names, with checked arguments. */
int task_create(struct exitbus *bus, const char *container_id,
                const struct exitbus_task_options *options, struct exitbus_task **task);
int task_end(struct exitbus_task *task, int signal, int64_t grace_ns);
void task_unref(struct exitbus_task *task);
int exec_reserve(struct exitbus_task *task, const char *exec_id, struct exitbus_exec **exec);
int exec_started(struct exitbus_exec *exec, pid_t pid, int pidfd);
int exec_restarting(struct exitbus_exec *exec);
int exec_cancel(struct exitbus_exec *exec);
int exec_wait(struct exitbus_exec *exec, struct exitbus_event *event, int64_t timeout_ns);
int exec_signal(struct exitbus_exec *exec, int signal);
void exec_unref(struct exitbus_exec *exec);

/* ------------------------------------------------------------- for task.c and task_step.c alone */

static inline bool exec_is_leader(const struct exitbus_exec *exec)
{
    return exec == exec->task->leader;
}

/* Give up a reference. Context: any thread; lock-free. */
void task_release(struct exitbus_task *task);
void exec_release(struct exitbus_exec *exec);

/* Queue it. Returns false if it lies there already, or is settled. */
bool exec_queue_news(struct exitbus_exec *exec);

/* Let the reaper look at it. Context: inside a section, or with a reference. */
void exec_push_news(struct exitbus_exec *exec);

/* Publish an event of an exec. `from`: what it says of the process; NULL: its pid alone. */
int exec_publish(struct exitbus_exec *exec, enum exitbus_event_kind kind, pid_t pid,
                 const struct exitbus_event *from, struct exitbus_event *event);

/* Note how many processes of the task's cgroup were killed for want of memory. */
void task_find_ooms(struct exitbus_task *task);

/* ----------------------------------------------------------------------------- for the reaper */

/* The process of an exec has ended, or was left. Context: behind the handle's outcome. */
void task_process_ended(struct exitbus_process *process);

/* A process that may have an exec is a zombie, whose exit is about to be published. */
void task_before_exit(struct exitbus_process *process);

static inline bool tasks_need_a_look(struct watch_set *set)
{
    /* Sequentially consistent; pairs with exec_queue_news(). */
    return set->timed_leaders || load_seq_cst(&set->exec_news);
}

/* Look at the news, and at the times. Returns the time of the next look. Context: in a pass. */
int64_t tasks_step(struct watch_set *set);

/* Settle all execs: the bus was closed. Context: no pass can be made. */
void tasks_drop(struct watch_set *set);

#endif
