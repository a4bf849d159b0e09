/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What exitbus-stress asks of a bus. A subject is a table of functions that wrap one bus; the
 * engine knows nothing else of it. Built-in subjects are linked in; any other is a shared object
 * that defines
 *
 *     const struct subject exitbus_stress_subject = {SUBJECT_HEAD("mine", "my bus"), …};
 *
 * and is loaded with `exitbus-stress --subject ./mine.so`. docs/subjects.md shows one in ten lines.
 *
 * Results are 0 (or a count) on success and a negative errno value on failure; a failed call must
 * have had no effect. Unless said otherwise any thread may make any call at any time.
 */
#ifndef EXITBUS_STRESS_SUBJECT_H
#define EXITBUS_STRESS_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SUBJECT_ABI 2u
#define SUBJECT_SYMBOL "exitbus_stress_subject"

/* What a subject promises. Only that is judged; the rest is measured and reported. */
#define SUBJECT_G1 (1u << 0) /* no loss: each matching event exactly once, unaltered */
#define SUBJECT_G2 (1u << 1) /* strict FIFO: one total order for all, which respects real time */
#define SUBJECT_G3 (1u << 2) /* no delivery after unsubscribe has returned */
#define SUBJECT_G4 (1u << 3) /* publish never waits: for no consumer, no stopped publisher */
#define SUBJECT_G5 (1u << 4) /* unsubscribe never blocks and is legal anywhere */
#define SUBJECT_G6 (1u << 5) /* nothing in use is freed, and in the end nothing is left */
#define SUBJECT_G7 (1u << 6) /* memory follows what is undelivered, and comes back */
#define SUBJECT_G8 (1u << 7) /* errors are specific and have no effect */
#define SUBJECT_G9 (1u << 8) /* a forked child is told that the bus is not its own */
/* Weaker than G2: each subscription sees the events of one producer in their order. */
#define SUBJECT_PRODUCER_FIFO (1u << 9)
/* A thread that waits in a receive is not woken by what is not for it, nor at intervals. */
#define SUBJECT_REST (1u << 10)
/*
 * An event loop on `fd`, be it level- or edge-triggered, is told of what there is, and not woken
 * for nothing: at the most once for twenty events (G13).
 */
#define SUBJECT_LOOPS (1u << 11)
#define SUBJECT_G10 (1u << 12) /* the start of an exec comes before its exit */
/* A task's exit comes behind those of its execs, also those only reserved when its leader died. */
#define SUBJECT_G11 (1u << 13)
#define SUBJECT_G12 (1u << 14) /* what can never come says so, instead of waiting for ever */
#define SUBJECT_G14 (1u << 15) /* a signal through a handle reaches its process, or none */

/* The bits that G2 implies included. */
#define SUBJECT_TOTAL_ORDER (SUBJECT_G2 | SUBJECT_PRODUCER_FIFO)

enum subject_event_kind {
    SUBJECT_EVENT_PID = 1,  /* a process has exited: `pid` */
    SUBJECT_EVENT_EXEC = 2, /* an exec of a container has: `container`, `exec` */
    /* No exits. The last two go to the topics of execs, too. */
    SUBJECT_EVENT_EMPTY = 3,       /* a group was ended, and is empty; need not be told */
    SUBJECT_EVENT_STARTED = 4,     /* an exec of a task has started */
    SUBJECT_EVENT_LEADER_DIED = 5, /* a task's leader has exited */
};

/*
 * Containers from here on are tasks. Their exec 0 is the leader, whose exit is the task's; the
 * others are 1 to SUBJECT_TASK_EXECS. Nobody publishes events of theirs but the subject.
 */
#define SUBJECT_TASK 64
#define SUBJECT_TASKS 4
#define SUBJECT_TASK_EXECS 15

/* 64 bytes. The bus carries all of them as they are, but for `seq`. */
struct subject_event {
    uint64_t seq; /* set by the bus: its number in the bus-wide order, or 0 if it has none */
    int32_t pid;
    uint8_t kind;      /* enum subject_event_kind */
    uint8_t container; /* small numbers, that the subject may map to strings */
    uint8_t exec;
    uint8_t reserved;
    int32_t status;        /* wait status, as from waitpid() */
    uint32_t producer;     /* the rest is the engine's own */
    uint64_t number;       /* 1, 2, 3 … of this producer */
    uint64_t begin_ns;     /* CLOCK_MONOTONIC when the publish began */
    uint64_t collected_ns; /* a real child: when its exit was collected */
    uint64_t pattern;
    uint64_t checksum;
};

enum subject_topic_kind {
    SUBJECT_TOPIC_ALL = 1,
    SUBJECT_TOPIC_ANY_PID = 2,
    SUBJECT_TOPIC_PID = 3,
    SUBJECT_TOPIC_ANY_EXEC = 4,
    SUBJECT_TOPIC_CONTAINER = 5, /* all execs of `container` */
    SUBJECT_TOPIC_EXEC = 6,      /* `exec` of `container` */
};

struct subject_topic {
    int32_t kind; /* enum subject_topic_kind */
    int32_t pid;
    uint8_t container;
    uint8_t exec;
};

/* Does an event belong to a topic? For subjects that have no better way to find out. */
static inline bool subject_matches(const struct subject_topic *topic,
                                   const struct subject_event *event)
{
    bool exec = event->kind == SUBJECT_EVENT_EXEC || event->kind == SUBJECT_EVENT_STARTED ||
                event->kind == SUBJECT_EVENT_LEADER_DIED;
    switch (topic->kind) {
    case SUBJECT_TOPIC_ALL:
        return true;
    case SUBJECT_TOPIC_ANY_PID:
        return event->kind == SUBJECT_EVENT_PID;
    case SUBJECT_TOPIC_PID:
        return event->kind == SUBJECT_EVENT_PID && event->pid == topic->pid;
    case SUBJECT_TOPIC_ANY_EXEC:
        return exec;
    case SUBJECT_TOPIC_CONTAINER:
        return exec && event->container == topic->container;
    default:
        return exec && event->container == topic->container && event->exec == topic->exec;
    }
}

#define SUBJECT_TOPIC_BIT(kind) (1u << (kind))
#define SUBJECT_TOPICS_ALL 0x7eu

/* struct subject, features */
#define SUBJECT_WAITS (1u << 0)    /* receive waits as its timeout says; else it is only tried */
#define SUBJECT_SHARED (1u << 1)   /* several threads may receive on one subscription */
#define SUBJECT_ONE_SHOT (1u << 2) /* subscribe knows SUBJECT_FLAG_ONE_SHOT */

/* subscribe, flags: takes one event, then closes itself. */
#define SUBJECT_FLAG_ONE_SHOT 1u

/* What the engine offers to a subject: lock-free, and legal on any thread. */
struct subject_host {
    /*
     * A bus that takes its memory here takes part in scenario oom (allocate returns NULL at random)
     * and in the accounts of G6 and G7. Whole pages.
     */
    void *(*allocate)(size_t size, size_t alignment);
    void (*release)(void *memory, size_t size);
    /*
     * For a monitor whose own event type has no room for 64 bytes: an opaque pointer that stands
     * for an event, for the monitor to carry in its place, and the event of such a pointer, as it
     * was packed. It points to nothing, and there is nothing to free: it may be copied and dropped.
     * Not for events of the subject's own making (reaper_start): those have their pid and status.
     */
    void *(*pack)(const struct subject_event *event);
    void (*unpack)(const void *packed, struct subject_event *event);
};

struct subject_stats {
    uint64_t subscriptions; /* live */
    uint64_t helped;        /* publishes finished by another thread than their own */
    uint64_t bytes;         /* held by the bus */
};

struct subject {
    uint32_t abi;               /* SUBJECT_ABI */
    uint32_t claims;            /* SUBJECT_G1 | … */
    uint32_t features;          /* SUBJECT_WAITS | … */
    uint32_t topics;            /* SUBJECT_TOPIC_BIT(…) of those it knows; ALL is a must */
    uint32_t subscriptions_max; /* at a time; 0: any number */
    uint32_t batch_max;         /* events in one publish; 0 or 1: no batches */
    const char *name;
    const char *summary; /* one line */

    int (*create)(const struct subject_host *host, void **bus);
    /* Nobody uses the bus any more; all subscriptions are gone. */
    int (*destroy)(void *bus);
    /* All or none; consecutive in the order. *first_seq: as subject_event.seq, or 0. */
    int (*publish)(void *bus, const struct subject_event *events, size_t count,
                   uint64_t *first_seq);
    int (*subscribe)(void *bus, const struct subject_topic *topic, uint32_t flags,
                     void **subscription);
    /*
     * The handle is spent, but for threads that hold a reference (`ref`): only with `ref` is one
     * unsubscribed that another thread receives on, and only then can G3 be checked.
     */
    int (*unsubscribe)(void *subscription);
    /*
     * Up to `capacity` events, > 0; -EAGAIN: none now (timeout 0); -ETIMEDOUT; -ESHUTDOWN: closed.
     * timeout_ns < 0 waits for ever.
     */
    ssize_t (*receive)(void *subscription, struct subject_event *events, size_t capacity,
                       int64_t timeout_ns);

    /* All that follow are optional (NULL). */

    /* One more reference to a handle: it stays valid, though not open, until given back. */
    int (*ref)(void *subscription);
    int (*unref)(void *subscription);
    /*
     * A descriptor that polls readable while events are pending, or once it is closed. It stays the
     * subject's, which closes it with the subscription.
     */
    int (*fd)(void *subscription);
    ssize_t (*pending)(void *subscription);

    /* Collects every child's exit and publishes it. Without one, the engine has a plain one. */
    int (*reaper_start)(void *bus);
    int (*reaper_stop)(void *bus);
    /* Starts a child with a one-shot subscription to its exit in place before it can run. */
    int (*spawn)(void *bus, char *const argv[], pid_t *pid, void **subscription);

    int (*stats)(void *bus, struct subject_stats *stats);
    /*
     * The subject's own list of wrong calls: makes the one of that number. 1: it failed as it
     * should; 0: *complaint says what was wrong; -ENOENT: there is none of that number.
     */
    int (*misuse)(void *bus, unsigned number, const char **complaint);
    /* In a forked child: makes every call there is. 1 if each was refused. */
    int (*forked)(void *bus, void *subscription);
    /*
     * Call step(n) at places between two effects, from now on; NULL: no more. Never while a lock is
     * held that another call takes: under --schedules, other threads run during a step.
     */
    void (*set_step)(void (*step)(unsigned place));
    /* When the bus hangs: who waits for whom, as far as it knows. */
    void (*explain)(void *bus, char *text, size_t size);

    /*
     * Tasks, all seven or none. A task is a container: names that are reserved, and bound to
     * children of this process once they have been started by whatever means. It publishes STARTED
     * for each that is bound, and its exit as an event of kind EXEC. When the exit of the leader's
     * process is collected it publishes LEADER_DIED; the leader's EXEC is the exit of the task.
     */
    int (*task_create)(void *bus, uint8_t container, void **task);
    /* Execs that are there stay what they are. */
    int (*task_release)(void *task);
    /* -EOWNERDEAD: the leader has died. Exec 0, the leader, is reserved once. */
    int (*exec_reserve)(void *task, uint8_t exec, void **handle);
    /* The child may be a zombie, or reaped. Behind a failure it is reserved as before. */
    int (*exec_started)(void *handle, pid_t pid);
    /* Its start has failed: it will not come. */
    int (*exec_cancel)(void *handle);
    /*
     * 0: *status is its wait status. -ECANCELED; -EAGAIN: not yet (timeout 0); -ETIMEDOUT. As often
     * as one likes, also on several threads.
     */
    int (*exec_wait)(void *handle, int *status, int64_t timeout_ns);
    /* One that was not started is cancelled. */
    int (*exec_release)(void *handle);

    /*
     * Handles of processes, all four or none: each stands for one child of this process, which
     * somebody else has started, whatever becomes of its pid. Its exit is published as ever.
     */
    int (*process_adopt)(void *bus, pid_t pid, void **process);
    /* -ESRCH: it has ended. */
    int (*process_signal)(void *process, int signal);
    /* As exec_wait, as far as that can be. Its exit was published before. */
    int (*process_wait)(void *process, int *status, int64_t timeout_ns);
    int (*process_release)(void *process);

    /* Sets of handles, all five or none; only where there are handles. */
    int (*group_create)(void *bus, void **group);
    /* The set holds the handle, too. -ESHUTDOWN: it was ended. */
    int (*group_add)(void *group, void *process);
    /* `signal` to all, and SIGKILL to those left after `grace_ns` (0: at once). */
    int (*group_end)(void *group, int signal, int64_t grace_ns);
    /* 0: it was ended, and each member's exit was published. Else as exec_wait. */
    int (*group_wait)(void *group, int64_t timeout_ns);
    int (*group_release)(void *group);
};

#if defined(__GNUC__)
#define SUBJECT_EXPORT __attribute__((visibility("default")))
#else
#define SUBJECT_EXPORT
#endif
/* Declared here, so a definition need only be `const struct subject exitbus_stress_subject`. */
extern SUBJECT_EXPORT const struct subject exitbus_stress_subject;

#define SUBJECT_HEAD(subject_name, subject_summary)                                                \
    .abi = SUBJECT_ABI, .name = (subject_name), .summary = (subject_summary)

#ifdef __cplusplus
}
#endif

#endif
