/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus: a lock-free multi-producer multi-consumer bus for process-exit events.
 *
 * A producer (the built-in reaper, or the caller's own wait loop) publishes exit events. Every
 * subscription whose topic matches receives each of them once, in one bus-wide order.
 *
 * The guarantees, by the names that the documentation and the tests use:
 *   G1 no loss                 every matching active subscription receives an event exactly once
 *   G2 strict FIFO             one total order (seq), which respects real time, for everybody
 *   G3 no delivery after unsubscribe
 *   G4 the reaper never blocks publish is lock-free and does not depend on any backlog
 *   G5 any context             unsubscribe is non-blocking and legal on any thread
 *   G6 deferred freeing        nothing is freed while another thread may touch it
 *   G7 bounded by undelivered  memory follows live subscriptions and undelivered events
 *   G8 clean failure           a specific error and no effect; an exit is never dropped
 *   G9 fork-safe               in a forked child every call on its parent's bus fails with -ESTALE
 *   G10 start before exit      an exec of a task is told to have started before its exit is told
 *   G11 members before leader  the exit of a task's leader is told after those of all its execs
 *   G12 what can never match says so: a wait for an exit that can't come any more is an error
 *   G13 any event loop         no wake-up of a descriptor is lost, and hardly any is for nothing
 *   G14 no stranger            a signal through a handle reaches its process, or none
 *
 * Conventions, unless a function says otherwise:
 *   - A function returns 0 (or a count) on success and a negative errno value on failure. A failed
 *     call has no effect.
 *   - Arguments: first the object that the call is about, or that it makes; then what is asked for;
 *     then where results go; last how long to wait.
 *   - Context: any thread, at any time, also inside the caller's own liburcu-bp read-side section.
 *     No function may be called from a signal handler.
 *   - No function is a cancellation point (pthreads).
 *   - C11's "happens before": what a thread did before it published an event happens before its
 *     receipt. What a thread did before an unsubscribe or a destroy happens before another thread
 *     gets -ESHUTDOWN for it.
 *   - "Non-blocking" means: no lock, and no wait for another thread. The first call of a thread
 *     makes a record for it, which may take memory; exitbus_thread_prepare() does that early.
 *   - -EINVAL: an argument is NULL or out of range, or a flag is unknown. -ESTALE: the object was
 *     inherited from the parent process by fork.
 *   - Structs of options: set what is not used to zero, as an initialiser does. A member that a
 *     later version appends is read only under a flag that comes with it, so a program that was
 *     compiled against an older header goes on working. Structs of results have members in reserve.
 */
#ifndef EXITBUS_EXITBUS_H
#define EXITBUS_EXITBUS_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EXITBUS_API __attribute__((visibility("default")))
#else
#define EXITBUS_API
#endif

#define EXITBUS_VERSION_MAJOR 0
#define EXITBUS_VERSION_MINOR 1
#define EXITBUS_VERSION_PATCH 0

/* Longest container or exec id, in bytes, without the terminating NUL. */
#define EXITBUS_ID_MAX 127
/* Most events in one exitbus_publish_batch(). */
#define EXITBUS_BATCH_MAX 64

struct exitbus;              /* a bus */
struct exitbus_subscription; /* a subscription, and its place in the events that match */
struct exitbus_reaper;       /* collects the exits of child processes and publishes them */
struct exitbus_process;      /* one process: signals that hit no other, and an exit that stays */
struct exitbus_group;        /* several processes that end together */
struct exitbus_task;         /* a container: named processes, and the order of their lives */
struct exitbus_exec;         /* one of them: a name, and later the process that has it */

/* ------------------------------------------------------------------ version and error texts */

/* "MAJOR.MINOR.PATCH" of the library in use. Never fails. */
EXITBUS_API const char *exitbus_version(void);

/*
 * Text for an error as this library means it ("subscription is closed" for -ESHUTDOWN), true for
 * every call that returns it. Takes the negative value as returned, or its positive errno. Never
 * NULL; the text is constant. For exitbus_spawn(), exitbus_spawn_strerror() says more.
 */
EXITBUS_API const char *exitbus_strerror(int error);

/* ------------------------------------------------------------------------------------ events */

enum exitbus_event_kind {
    EXITBUS_EVENT_PID = 1,  /* a process has exited */
    EXITBUS_EVENT_EXEC = 2, /* an exec in a container has exited (or the container itself) */
    /* No exits. They match topics by their ids as exec events do; a one-shot does not take them. */
    EXITBUS_EVENT_EMPTY = 3,       /* a group was ended, and no process is left in it */
    EXITBUS_EVENT_STARTED = 4,     /* an exec of a task was bound to a process, or started again */
    EXITBUS_EVENT_LEADER_DIED = 5, /* a task's leader has exited; its EXEC follows its members' */
    EXITBUS_EVENT_OOM = 6, /* the kernel has killed `exit_code` processes of a task's cgroup */
};

/* exitbus_event.flags */
#define EXITBUS_EVENT_CORE_DUMPED 0x01u /* the process left a core dump */
/* Another waiter took the status: status and exit_code are -1. The process has exited. */
#define EXITBUS_EVENT_STATUS_LOST 0x02u
/* A leader's EXEC that did not wait for all members: exitbus_task_options.bound_ns was over. */
#define EXITBUS_EVENT_CUT_SHORT 0x04u
/* An EXITBUS_EVENT_PID for which exitbus_event_details() says more: EXITBUS_REAPER_DETAILS. */
#define EXITBUS_EVENT_DETAILS 0x08u

/*
 * One exit. The first 64 bytes are the whole of an EXITBUS_EVENT_PID; the ids belong to the other
 * kinds, and are empty strings there. With EXITBUS_EVENT_DETAILS the details lie behind the NUL of
 * the empty container id: copy such an event as a whole.
 */
struct exitbus_event {
    uint64_t seq;              /* place in the bus-wide order: 1, 2, 3 … (set by publish) */
    int32_t pid;               /* process id; 0 for an exec event whose pid is not known */
    uint8_t kind;              /* enum exitbus_event_kind */
    uint8_t flags;             /* EXITBUS_EVENT_… */
    uint8_t container_id_size; /* bytes in container_id (set by publish) */
    uint8_t exec_id_size;      /* bytes in exec_id (set by publish) */
    int32_t status;            /* raw wait status, as for WIFEXITED(); -1: lost */
    int32_t exit_code;         /* as a shell gives it: exit code, or 128 + signal; -1: lost */
    uint64_t monotonic_ns; /* CLOCK_MONOTONIC when the exit was collected; 0: publish fills it */
    uint64_t realtime_ns;  /* CLOCK_REALTIME, likewise */
    uint64_t user_us;      /* CPU time in user mode, microseconds */
    uint64_t system_us;    /* CPU time in the kernel, microseconds */
    uint64_t max_rss_kib;  /* largest resident set, KiB */
    char container_id[EXITBUS_ID_MAX + 1];
    char exec_id[EXITBUS_ID_MAX + 1]; /* "" is the container itself */
};

/*
 * What the kernel told of a process before it was reaped. The pid and start_ns name the process for
 * as long as the machine runs. From Linux 6.9 on so does the inode.
 */
struct exitbus_event_details {
    uint64_t start_ns; /* as exitbus_process_start_time(): CLOCK_BOOTTIME, in steps of 10 ms */
    uint64_t inode;    /* that fstat() gives for its pidfds; 0: not known */
    char comm[16];     /* its name in /proc, as it was last; terminated, and may hold any bytes */
    uint64_t reserved[4]; /* 0; for later versions */
};

/*
 * Get the details of an exit, from the event alone. Non-blocking, and no system call: may also be
 * called in a signal handler.
 * Errors: -EINVAL; -ENODATA the event has none.
 */
EXITBUS_API int exitbus_event_details(const struct exitbus_event *event,
                                      struct exitbus_event_details *details);

/* ------------------------------------------------------------------------------------ the bus */

/*
 * Where a bus takes its memory from. Blocks are few and large (mostly 64 KiB and up). `alignment`
 * is a power of two, at most 2 MiB, and `size` a multiple of it. `allocate` returns NULL when there
 * is no memory. A forked child must be able to read it. Publishers call it, too, when the bus's own
 * pool is empty. So it must be thread-safe, and lock-free if publish is to be lock-free. Neither
 * function may call into the library.
 */
struct exitbus_allocator {
    void *(*allocate)(void *context, size_t size, size_t alignment);
    void (*release)(void *context, void *memory, size_t size);
    void *context;
};

struct exitbus_options {
    uint32_t flags;                            /* must be 0 */
    const struct exitbus_allocator *allocator; /* copied; NULL: mmap and munmap */
};

/*
 * Make a bus. `options` may be NULL. Costs about 50 µs and 1.4 MiB of address space, most of it
 * never touched. The first bus of a process, also of a forked child, starts a thread that frees
 * memory. That thread has all signals blocked, runs on the CPUs of the process, and sleeps when
 * there is nothing to do. Blocks for its start.
 * Errors: -EINVAL also for the first bus of a process after unshare(CLONE_NEWPID), where the kernel
 * starts no thread; -ENOMEM; -EAGAIN that thread could not be started.
 */
EXITBUS_API int exitbus_create(struct exitbus **bus, const struct exitbus_options *options);

/*
 * Close the bus and every subscription on it. Blocked receivers wake with -ESHUTDOWN, and so do
 * waits for a process. Subscriptions stay valid (closed) until their owners unsubscribe, and so do
 * process handles; the memory goes with the last of them. NULL is a no-op.
 *   - Reapers of the bus must have been stopped before.
 *   - Publishes, and all other calls with this handle, must have returned before this is called,
 *     and none may be made after it: a call that has only just begun can't be seen here.
 *   - Two kinds of calls may still be made at any time. They do their work, or say -ESHUTDOWN. One
 *     is a call by a thread that holds a subscription of the bus, or a reference to one, from
 *     before the destroy until its call has returned. The other is made inside the caller's own
 *     read-side section, if that was entered before the destroy (not in a forked child, and not
 *     where membarrier is refused).
 *   - A spawn of theirs that is in progress is let finish: its child runs, its subscription is
 *     closed, and nothing collects its exit.
 * Context: not inside a read-side section. Blocks for a grace period (about 20 ms), and until the
 * read-side sections that were entered before it have ended.
 * Errors: -ESTALE; -EDEADLK inside a read-side section; -EBUSY a reaper of this bus still runs;
 * -ESHUTDOWN destroyed before; -EPERM for exitbus_default(). -EBADF, though the bus is destroyed
 * and the handle spent: the host had closed descriptors of the reaper that exitbus_spawn() had
 * started.
 */
EXITBUS_API int exitbus_destroy(struct exitbus *bus);

/*
 * The process-wide bus, made at the first call and never destroyed. A forked child gets one of its
 * own, also if its parent had one. Blocks for the first call only, as exitbus_create() does.
 * Returns NULL with errno set if there is none and none can be made: as exitbus_create().
 */
EXITBUS_API struct exitbus *exitbus_default(void);

struct exitbus_stats {
    uint64_t published;          /* events ordered so far */
    uint64_t delivered;          /* events taken by receivers */
    uint64_t dropped;            /* events left in queues by unsubscribe */
    uint64_t subscriptions;      /* live subscriptions */
    uint64_t bytes;              /* of address space held by the bus, less pages given back */
    uint64_t helped;             /* publishes finished by another thread */
    uint64_t sleeping_receivers; /* threads blocked in a receive */
    uint64_t reserved[9];        /* 0; for figures of later versions */
};

/*
 * Figures of the bus. Exact while the bus is quiet, otherwise a picture taken over the length of
 * the call. Non-blocking; costs a walk over all subscriptions. Errors: -EINVAL, -ESTALE.
 */
EXITBUS_API int exitbus_stats(struct exitbus *bus, struct exitbus_stats *stats);

/*
 * Make the calling thread's record now, for which there may have to be memory; the thread's first
 * call would do it otherwise. A thread that must not allocate later calls this when it starts.
 * Non-blocking, but for the first use of the library in a process.
 * Errors: -ENOMEM the thread has no record. The library works for it all the same, but its
 * publishes share a few slots, and may fail with -EAGAIN or -ENOMEM. It may try again.
 */
EXITBUS_API int exitbus_thread_prepare(void);

/* ------------------------------------------------------------------------------------ publish */

/*
 * All publish calls: G1, G2, G4. On return the event is in the queue of every matching
 * subscription. Lock-free and without malloc: a publish waits for no receiver, and for no other
 * publisher. If another thread was stopped in the middle of its publish, this call finishes that
 * event, too. The cost grows with the number of matching subscriptions, not with backlogs or other
 * subscriptions. `seq`, where there is one and it is not NULL, is set to the event's place in the
 * order.
 *
 * Errors of every publish call. The event was not ordered, and no subscription receives it:
 *   -EINVAL     see each call
 *   -ESTALE     the bus is the parent process's
 *   -ENOMEM     no memory for this event's predecessor, or for the publish itself; try again later
 *   -ESHUTDOWN  the bus was destroyed
 *   -EAGAIN     this thread has no slot of its own (no memory when it first used the library, no
 *               pthread key left, more than 65,519 threads), and 16 like it are publishing now
 *   -EOVERFLOW  2^47 - 1 events were published: the bus has come to its end
 */

/*
 * Publish one event. `event->kind` chooses what must be valid: EXITBUS_EVENT_PID wants pid > 0,
 * the others want terminated ids, of which the first is not empty, and pid >= 0. Times that are 0
 * are filled in. EXITBUS_EVENT_DETAILS is for events that have been received with it; take it out
 * where the kind of such an event is changed. seq and the id sizes are ignored. Everything else is
 * carried as given. Errors: see above; -EINVAL for an event that is not valid.
 */
EXITBUS_API int exitbus_publish(struct exitbus *bus, const struct exitbus_event *event,
                                uint64_t *seq);

/*
 * Publish that process `pid` has exited with `exit_code`, which the event carries as it is. The
 * event's status is that of an exit with the low 8 bits of it, as exit() has it: for 256 it says 0.
 * For a process that was killed use exitbus_publish_wait().
 * Errors: see above; -EINVAL for pid <= 0.
 */
EXITBUS_API int exitbus_publish_pid(struct exitbus *bus, pid_t pid, int exit_code);

/*
 * Publish that exec `exec_id` of container `container_id` has exited. "" as exec id is the
 * container itself.
 * Errors: see above; -EINVAL for NULL ids, ids over EXITBUS_ID_MAX bytes and an empty container id.
 */
EXITBUS_API int exitbus_publish_exec(struct exitbus *bus, const char *container_id,
                                     const char *exec_id, int exit_code);

/*
 * Publish an exit from a wait4() loop of the caller's: status and rusage (may be NULL) as the
 * kernel gave them.
 * Errors: see above; -EINVAL for pid <= 0, and for the status of a child that was stopped or
 * continued rather than one that has exited.
 */
EXITBUS_API int exitbus_publish_wait(struct exitbus *bus, pid_t pid, int wait_status,
                                     const struct rusage *usage);

/*
 * Publish 1 to EXITBUS_BATCH_MAX events, consecutive in the order: no other event comes between
 * them. All or none. `first_seq` is set to the place of the first.
 * Errors: see above; -EINVAL for another `count`, and if one of the events is not valid.
 */
EXITBUS_API int exitbus_publish_batch(struct exitbus *bus, const struct exitbus_event *events,
                                      size_t count, uint64_t *first_seq);

/* ---------------------------------------------------------------------------------- subscribe */

enum exitbus_topic_kind {
    EXITBUS_TOPIC_ALL = 1,       /* every event */
    EXITBUS_TOPIC_ANY_PID = 2,   /* every EXITBUS_EVENT_PID */
    EXITBUS_TOPIC_PID = 3,       /* one process */
    EXITBUS_TOPIC_ANY_EXEC = 4,  /* every event that has ids */
    EXITBUS_TOPIC_CONTAINER = 5, /* one container's execs, and the container itself */
    EXITBUS_TOPIC_EXEC = 6,      /* one exec; exec id "" is the container itself */
};

/* What a subscription matches. Fields that the kind does not name are ignored. */
struct exitbus_topic {
    enum exitbus_topic_kind kind;
    pid_t pid;                /* PID: > 0 */
    const char *container_id; /* CONTAINER, EXEC: 1 to EXITBUS_ID_MAX bytes; copied */
    const char *exec_id;      /* EXEC: 0 to EXITBUS_ID_MAX bytes; copied */
};

/* Topics by name. They only fill in the struct: exitbus_subscribe() checks it. Never fail. */
EXITBUS_API struct exitbus_topic exitbus_topic_all(void);
EXITBUS_API struct exitbus_topic exitbus_topic_any_pid(void);
EXITBUS_API struct exitbus_topic exitbus_topic_pid(pid_t pid);
EXITBUS_API struct exitbus_topic exitbus_topic_any_exec(void);
EXITBUS_API struct exitbus_topic exitbus_topic_container(const char *container_id);
EXITBUS_API struct exitbus_topic exitbus_topic_exec(const char *container_id, const char *exec_id);

/* Takes one event, then closes itself and costs publishers nothing any more. */
#define EXITBUS_SUBSCRIBE_ONE_SHOT 0x01u
/* Takes one event, which stays: each receive returns it, any number of times, on any thread. */
#define EXITBUS_SUBSCRIBE_STICKY 0x02u

/*
 * Subscribe to a topic. The subscription receives every matching event whose publish begins after
 * this has returned. Of those whose publish is in progress it receives some or none, but none twice
 * and none out of order. Non-blocking. Costs about 0.3 µs, and 256 bytes (576 for topics with ids;
 * 128 for all, any pid and any exec, without a flag, which share one copy of each event).
 *
 * ONE_SHOT and STICKY, of which one may be given, take the first exit that matches, and no other
 * events. A sticky subscription answers until it is closed, and its descriptor stays readable: ask
 * it once, not until -EAGAIN, and take it out of the loop. The event counts once as delivered, and
 * goes on to count as pending.
 * Errors: -EINVAL also for a topic that is not valid; -ESTALE; -ENOMEM; -ESHUTDOWN the bus was
 * destroyed.
 */
EXITBUS_API int exitbus_subscribe(struct exitbus *bus, struct exitbus_topic topic, uint32_t flags,
                                  struct exitbus_subscription **subscription);

/*
 * Close the subscription and give up the reference that exitbus_subscribe() returned. Once this has
 * returned no receive takes an event any more, on any thread (G3). Blocked receivers wake at once
 * with -ESHUTDOWN. Events that were not delivered are dropped, and counted by exitbus_stats().
 * NULL is a no-op.
 * Context: anywhere (G5): in a destructor, at thread exit, while other threads receive or publish,
 * inside a read-side section. Non-blocking. The memory is freed a grace period after the last
 * reference is given up and the last sleeping receive has returned (G6).
 * The handle is spent, except for threads that hold a reference of their own: see
 * exitbus_subscription_ref().
 * Errors: -ESTALE.
 */
EXITBUS_API int exitbus_unsubscribe(struct exitbus_subscription *subscription);

/*
 * Take one more reference to the handle. Where one thread unsubscribes while another may be about
 * to call receive, the other must hold a reference. After the unsubscribe its receives return
 * -ESHUTDOWN until it gives the reference back. (A call that is already blocked needs none.) A
 * reference keeps the handle valid; it does not keep the subscription open. Non-blocking.
 * Errors: -EINVAL; -ESTALE; -ESHUTDOWN the last reference has been given up.
 */
EXITBUS_API int exitbus_subscription_ref(struct exitbus_subscription *subscription);

/*
 * Give back a reference from exitbus_subscription_ref(). NULL is a no-op. Non-blocking.
 * Errors: -ESTALE.
 */
EXITBUS_API int exitbus_subscription_unref(struct exitbus_subscription *subscription);

/* ------------------------------------------------------------------------------------ receive */

/*
 * Receive the next event. `timeout_ns`, in nanoseconds: 0 tries once, > 0 waits at most so long, <
 * 0 waits until there is an event. Any number of threads may receive on one subscription; each
 * event goes to one of them. A try is lock-free, and a call blocks only while it waits for an
 * event. An event wakes every thread that sleeps on the subscription, so a thread that is stopped
 * holds up no other. A sleep in the caller's own read-side section would keep all freed memory, so
 * there a call returns what is there, and does not wait for what is not.
 * Errors: -EINVAL; -ESTALE; -EAGAIN no event now (timeout 0); -ETIMEDOUT no event in time; -EDEADLK
 * no event now, and the call is made inside a read-side section (any other timeout); -ESHUTDOWN
 * closed by unsubscribe, by destroy, or because a one-shot has had its event; -ENOMEM (timeout 0)
 * an event lacks memory to be queued, here or before one that is for here: free some and try again.
 * A call that may wait goes on waiting instead, and tries again by itself. So a loop that waits for
 * ever ends with -ESHUTDOWN, or with an error that is the caller's.
 */
EXITBUS_API int exitbus_receive(struct exitbus_subscription *subscription,
                                struct exitbus_event *event, int64_t timeout_ns);

/*
 * Receive up to `capacity` events that are consecutive in this subscription. Waits like
 * exitbus_receive() for the first. Returns how many (> 0).
 * Errors: as exitbus_receive(), and only if no event was received; -EINVAL also for `capacity` 0.
 */
EXITBUS_API ssize_t exitbus_receive_batch(struct exitbus_subscription *subscription,
                                          struct exitbus_event *events, size_t capacity,
                                          int64_t timeout_ns);

/*
 * Receive until the exit of process `pid` comes, and return that one. Events of others that are
 * received on the way are discarded, and *discarded counts them, also if none comes of `pid`.
 * Without `discarded` (NULL) the subscription must be to that one process (exitbus_topic_pid(pid)),
 * where there are no others: nothing is lost unless the caller is told. `timeout_ns` is for the
 * whole call, and as in exitbus_receive().
 * Errors: as exitbus_receive(); -EINVAL also for pid <= 0, and for `discarded` NULL where others'
 * events may come; -ESRCH the one event of a sticky subscription is of another.
 */
EXITBUS_API int exitbus_receive_pid(struct exitbus_subscription *subscription, pid_t pid,
                                    struct exitbus_event *event, uint64_t *discarded,
                                    int64_t timeout_ns);

/*
 * A file descriptor that polls readable (POLLIN) while events are pending, and for good once the
 * subscription is closed: for poll, epoll, io_uring and every event loop. Wait for it, then receive
 * with timeout 0. In either kind of loop no wake-up is lost, and at most one in twenty finds none:
 *
 * Level-triggered (poll, epoll, libuv, GLib): receive one event, a batch, or until -EAGAIN, as you
 * like. While something is left the descriptor stays readable.
 *
 * Edge-triggered (EPOLLET, tokio, Go, Asio, io_uring multishot): receive until -EAGAIN, and only
 * then wait again. The next publish after an -EAGAIN makes an edge; one before it need not. A batch
 * that is not full is no -EAGAIN. Several threads need an epoll each: of one epoll an edge is told
 * to one thread only, and is lost with it if it is stopped.
 *
 * Errors of such a receive: -EAGAIN, wait. -ESHUTDOWN, it is over (or a one-shot has had its
 * event): the descriptor stays readable, so take it out of the loop. -ENOMEM, try again after a
 * while: a level-triggered loop finds it readable. An edge-triggered one waits with a timeout,
 * since only an event makes an edge.
 *
 * Made at the first call, owned by the subscription. To end, first take it out of the loop, then
 * unsubscribe: the last reference closes it, mostly at once, and its number may be reused then.
 * Never read, write or close it: the library goes on writing to that number, 8 bytes to whatever
 * other file or eventfd has it by then, and closes it with the subscription. An error of that, of
 * whatever kind, costs nothing but the wake-up.
 *
 * A thread with a descriptor table of its own (unshare or clone without CLONE_FILES) can't signal
 * descriptors that its table lacks. What it publishes is queued all the same, and the next publish
 * of a thread that has the descriptor wakes the loop for all of it. A one-shot or sticky
 * subscription has no next one. So let such a thread not publish, nor receive from those.
 *
 * Costs nothing until it is armed; a burst costs its publishers one system call. Non-blocking.
 * Returns the descriptor. Errors: -EINVAL, -ESTALE, -EMFILE, -ENFILE, -ENOMEM.
 */
EXITBUS_API int exitbus_subscription_fd(struct exitbus_subscription *subscription);

/*
 * Returns how many events wait in the queue. Exact while no thread publishes or receives.
 * Non-blocking. Errors: -EINVAL, -ESTALE.
 */
EXITBUS_API ssize_t exitbus_subscription_pending(struct exitbus_subscription *subscription);

/* ------------------------------------------------------------------------------------- reaper */

enum exitbus_reaper_mode {
    EXITBUS_REAPER_ALL = 1,     /* every child of the process */
    EXITBUS_REAPER_WATCHED = 2, /* only children handed over by exitbus_reaper_watch() or
                                   exitbus_spawn(); leaves all others alone */
};

/* exitbus_reaper_options.flags */
#define EXITBUS_REAPER_SUBREAPER 0x01u /* ALL: adopt orphans, too (PR_SET_CHILD_SUBREAPER) */
#define EXITBUS_REAPER_POLLED 0x02u   /* no thread: the caller's loop calls exitbus_reaper_poll() */
#define EXITBUS_REAPER_SIGNALFD 0x04u /* ALL: the host has SIGCHLD blocked, and leaves it to us */
#define EXITBUS_REAPER_ORPHANS 0x08u  /* ALL: leave children in this process's own cgroup alone */
#define EXITBUS_REAPER_DETAILS 0x10u  /* events say more: exitbus_event_details() */
#define EXITBUS_REAPER_RECORD 0x20u   /* exits are written to `record_fd`; with DETAILS, too */

struct exitbus_reaper_options {
    enum exitbus_reaper_mode mode;
    uint32_t flags;
    int record_fd; /* RECORD: a regular file, open for appending; the reaper has a copy */
};

/*
 * Start to collect exits and publish them on `bus`: peek, publish, and only then reap, so that a
 * pid can't be reused before its event is out, and an exit that can't be published yet stays a
 * zombie until it can (G8). Children that have exited before the start are collected, too. At rest
 * nothing runs: no polling, no wake-ups; only a child for whose pidfd no descriptor was free, and a
 * foreign zombie that has a handle, are looked at by a timer, up to once a second.
 *
 * Children of exitbus_spawn() are watched by pidfd, whatever the mode: their exits come though the
 * host takes SIGCHLD (signalfd, sigwait, another handler) or sets it to SIG_DFL or SIG_IGN, and
 * though another waiter reaps them (then with EXITBUS_EVENT_STATUS_LOST at worst).
 *
 * ALL, for children that spawn has not made, needs SIGCHLD: it installs a handler that goes on to
 * call the one found there, if that is not called by a handler put over ours later. No handler ever
 * runs on the reaper's own thread. If SIGCHLD stays pending, since the host has it blocked in all
 * threads or the thread that it is for is slow, the reaper takes it and sends it on to the first
 * thread. So the host may see it with si_code SI_TKILL, and must not rely on si_pid. A host
 * that takes SIGCHLD without chaining to ours, or waits by waitpid(-1), takes those children's
 * exits away: use WATCHED there. Without a thread (POLLED), every exitbus_reaper_poll() of an ALL
 * reaper looks for children, whether or not a signal came. A child made by clone(2) with another
 * exit signal than SIGCHLD is not seen by ALL; exitbus_reaper_watch() sees it. Two copies of the
 * library in one process do not know of each other: let only one of them have an ALL reaper. The
 * guide has a table of what a host may do beside each mode.
 *
 * If SIGCHLD is ignored or has SA_NOCLDWAIT, ALL suspends that until it is stopped.
 *
 * With SIGNALFD an ALL reaper takes SIGCHLD by a signalfd, and installs no handler. An init is the
 * usual host: the signal's handler is a third of what an orphan costs it. SIGCHLD must be blocked
 * in all threads of the process, the calling one among them, also while they wait (the mask of
 * ppoll, epoll_pwait, sigsuspend): one that is not blocked anywhere is thrown away. No other code
 * may take it. With POLLED, one thread waits at the descriptor and polls.
 *
 * With ORPHANS an ALL reaper lives beside code that waits for its own children, as system(),
 * popen() and other libraries do. It collects the children that this process has adopted
 * (SUBREAPER, PID 1). The kernel does not tell these from the others, but by their cgroup: children
 * in this process's own cgroup (v2) are left alone, and jobs are started in others. While one of
 * those that are left alone is a zombie, a look at the others reads /proc. Those of exitbus_spawn()
 * come as ever.
 *
 * With DETAILS the events of pids have EXITBUS_EVENT_DETAILS: the reaper reads /proc/PID/stat while
 * the child is a zombie, and asks once more whether it is that. That costs about 25 µs for each
 * exit, two more system calls for a child that it has no pidfd of, and 64 bytes in each queue that
 * the event lies in. An event whose details can't be had comes without them, and no later: where
 * /proc is not mounted, hides the process (hidepid) or is another pid namespace's, where no
 * descriptor is free, and where another waiter was first. Events that other reapers, waits by
 * EXITBUS_SPAWN_DIRECT and publish calls make have none, nor do those of execs, foreign processes
 * and exitbus_process_wait().
 *
 * With RECORD the reaper appends each exit to a file before it publishes and reaps it: 128 bytes by
 * one write. A process that takes over after this one has died reads it by exitbus_record_read(),
 * so an exit that is reaped is never lost with the process that has reaped it. What subscribers
 * were told is in the file. An exit that can't be written (no room, RLIMIT_FSIZE, an error of the
 * file) is not told: as one that can't be published, the child stays a zombie, and is tried again
 * by a timer, up to once a second. So let the file lie on a tmpfs that has room, since a disk would
 * hold the reaper up. Nothing is synced. Several reapers and processes may append to one file,
 * which makes it slower to read. Nobody may change it otherwise. If O_APPEND is taken from it, or
 * the number of the reaper's copy is another file's, nothing is written, and the reaper ends by
 * -EBADF. The file grows: see exitbus_reaper_record(). It tells of children; EXITBUS_SPAWN_DIRECT
 * means nothing beside such a reaper. Events have details, too. From the stop on nothing is
 * recorded.
 *
 * WATCHED uses pidfds and no signal. A WATCHED reaper takes the place of the one that
 * exitbus_spawn() may have started. Of several WATCHED reapers on one bus each publishes what was
 * handed to it: hand a pid to one.
 *
 * Order. Exits of children that are watched by pidfd are published in the order in which they
 * exited, but for those that wait while one reaper takes over from another, or for memory. Others
 * (ALL) are found by waitid(P_ALL), which names those that wait at the same moment in order of
 * birth.
 *
 * The exit of a child that another process traces comes when its tracer has seen it. A process that
 * traces its own children (ptrace) should use WATCHED: an ALL reaper takes
 * their stops, and drops them.
 *
 * The library's descriptors are 3 or higher. Never close what is not yours: see
 * exitbus_reaper_stop(). The reaper's thread runs under SCHED_OTHER on the CPUs of the process's
 * first thread, and shares the descriptor table of the thread that has started it.
 *
 * Errors: -EINVAL, also if SIGCHLD is not blocked in the calling thread (SIGNALFD); -ESTALE; -EBUSY
 * another ALL reaper runs in this process, or a reaper of the other mode on any bus (one that
 * exitbus_spawn() has started on another bus, and that has children or handles to look after,
 * counts; an idle one gives way), or (ALL, RECORD) a child of EXITBUS_SPAWN_DIRECT is not
 * collected; -EINVAL, -EBADF (RECORD) `record_fd` is of no regular file that is open for appending;
 * -ENOTSUP (WATCHED, SIGNALFD) SIGCHLD is ignored or has SA_NOCLDWAIT, perhaps inherited: the
 * kernel would throw statuses away. Set it to SIG_DFL, or use ALL without SIGNALFD; -ENOTSUP
 * (ORPHANS) there is no cgroup v2, or /proc is another pid namespace's; -ENOMEM,
 * -EMFILE, -ENFILE, -ENOSPC (the user's limit of epoll entries), -EAGAIN (no thread); -ESHUTDOWN;
 * -EINVAL also where the kernel (or an emulator) refuses to set the subreaper, or a thread after
 * unshare(CLONE_NEWPID).
 */
EXITBUS_API int exitbus_reaper_start(struct exitbus *bus,
                                     const struct exitbus_reaper_options *options,
                                     struct exitbus_reaper **reaper);

/*
 * Stop it: the thread is joined, the SIGCHLD handler and the subreaper setting are put back as they
 * were found. Children of exitbus_spawn() that still run, and processes that have handles, go to a
 * reaper that the bus starts for them, so their receivers get their events. Nothing collects other
 * children from then on; zombies stay for another waiter. Blocks until the reaper's thread has
 * finished its current pass. NULL is a no-op.
 * Errors: -ESTALE. Errors, after which the reaper goes on: -EAGAIN (no thread), -ENOMEM, -EMFILE,
 * -ENFILE, -ENOSPC: no reaper can take spawn's children over; -EINVAL likewise, after
 * unshare(CLONE_NEWPID).
 * Errors, though it is stopped and the handle is spent: -EBADF its descriptors were closed by the
 * host (this may take two seconds); or another errno by which the kernel has refused epoll or
 * waitid.
 */
EXITBUS_API int exitbus_reaper_stop(struct exitbus_reaper *reaper);

/*
 * WATCHED: collect the exit of `pid`, a child of this process that has not been waited for, also if
 * it is a zombie already. Watching a pid again changes nothing.
 * Errors: -EINVAL also for pid <= 0; -ESTALE; -ECHILD not a child of ours, or already reaped;
 * -ENOTSUP (mode ALL needs no watching); -ENOMEM, -EMFILE, -ENFILE; -EBADF the host has closed the
 * reaper's descriptors; -EAGAIN earlier children of that pid were reaped meanwhile, time and again;
 * what waitid or pidfd_open says where a filter refuses it.
 */
EXITBUS_API int exitbus_reaper_watch(struct exitbus_reaper *reaper, pid_t pid);

/*
 * RECORD: go on with another file, of the same kind as `record_fd` at the start. From the return on
 * what is told is in the new file. All that was told before is in the old one. An exit that was
 * written there and is not told yet is in both. Waits for the end of a pass in progress. Where the
 * old file has no room, exits that wait for it go to the new one.
 * Errors: -EINVAL, also if the new file is no regular one, or not open for appending; -EBADF it is
 * not open, or the host has closed the reaper's descriptors; -ESTALE; -ENOTSUP the reaper does not
 * record; -EMFILE, -ENFILE, -ENOMEM. After an error the reaper goes on with the old file.
 */
EXITBUS_API int exitbus_reaper_record(struct exitbus_reaper *reaper, int record_fd);

/*
 * POLLED: the descriptor to poll for input. In an edge-triggered loop (EPOLLET) one
 * exitbus_reaper_poll() for each edge is enough: a pass that stops early makes another edge. Owned
 * by the reaper and closed with it: take it out of the loop before you stop the reaper.
 * Errors: -EINVAL; -ESTALE; -ENOTSUP for a reaper with a thread.
 */
EXITBUS_API int exitbus_reaper_fd(struct exitbus_reaper *reaper);

/*
 * POLLED: collect and publish what has exited. Returns how many. Never blocks. A child that can't
 * be published for lack of memory stays a zombie, and the descriptor turns readable again when it
 * is time to try again.
 * Errors: -EINVAL; -ESTALE; -EBUSY another thread is in this call; -ENOTSUP for a reaper with a
 * thread;
 * -EBADF the host has closed the reaper's descriptors: it can only be stopped.
 */
EXITBUS_API int exitbus_reaper_poll(struct exitbus_reaper *reaper);

/*
 * Read one exit from a record that reapers have written (EXITBUS_REAPER_RECORD), also while they
 * write. `*offset` is where to begin, 0 at first, and is moved on. The event is that which was
 * published, or was about to be: its seq is 0, and it has details if they were known. Compare pid
 * and start time, or the inode, with the children that are sought. An exit that was written twice
 * is given once, if it has details, and exits of an earlier boot not at all, if /proc tells which
 * boot this is. Pids are those of the pid namespace that the reaper was in. Blocks as long as the
 * file does; costs about 15 µs. Some exits take a look at all before them: of processes that are
 * older than a reaper that goes on with a file, than another writer's exit behind which theirs was
 * written, or than a write that did not succeed.
 * Errors: -EINVAL, also if `fd` is of no regular file; -ENODATA no further exit now: call again
 * later; -EBADMSG a part is damaged, as by a write that did not succeed, or no exit begins within
 * 1 MiB: read on; -EMFILE, -ENFILE, -ENOMEM which boot this is can't be told now: try again;
 * otherwise what pread says, as -EBADF. *offset is always where to go on: an error may have moved
 * it past exits that are not given.
 */
EXITBUS_API int exitbus_record_read(int fd, uint64_t *offset, struct exitbus_event *event);

/* -------------------------------------------------------------------------------------- spawn */

enum exitbus_spawn_action_kind {
    EXITBUS_SPAWN_OPEN = 1,       /* open `path` with `open_flags` and `mode` as `fd` */
    EXITBUS_SPAWN_DUP2 = 2,       /* make `fd` a copy of `source_fd` that survives exec */
    EXITBUS_SPAWN_CLOSE = 3,      /* close `fd`, if it is open */
    EXITBUS_SPAWN_CHDIR = 4,      /* change the working directory to `path` */
    EXITBUS_SPAWN_FCHDIR = 5,     /* … to the directory that `fd` is of */
    EXITBUS_SPAWN_CLOSE_FROM = 6, /* close every descriptor from `fd` on */
    EXITBUS_SPAWN_NULL = 7,       /* open /dev/null for reading and writing as `fd` */
};

/* Done in the child, in array order, before exec. */
struct exitbus_spawn_action {
    enum exitbus_spawn_action_kind kind;
    int fd;
    int source_fd;
    const char *path;
    int open_flags;
    mode_t mode;
};

/* exitbus_spawn_options.flags */
#define EXITBUS_SPAWN_SEARCH_PATH 0x01u     /* look `path` up along PATH if it has no slash */
#define EXITBUS_SPAWN_SETSID 0x02u          /* new session */
#define EXITBUS_SPAWN_SETPGROUP 0x04u       /* process group `process_group`; 0: its own */
#define EXITBUS_SPAWN_SIGMASK 0x08u         /* signal mask `signal_mask`, instead of an empty one */
#define EXITBUS_SPAWN_SIGDEFAULT 0x10u      /* with INHERIT_IGNORED: all but these stay ignored */
#define EXITBUS_SPAWN_INHERIT_SIGMASK 0x20u /* the signal mask of the calling thread */
#define EXITBUS_SPAWN_INHERIT_IGNORED 0x40u /* what the caller ignores stays ignored */
#define EXITBUS_SPAWN_ATTRIBUTES 0x80u      /* `attributes` is read */
#define EXITBUS_SPAWN_NO_NEW_PRIVS 0x100u   /* exec gives it no privileges (PR_SET_NO_NEW_PRIVS) */
#define EXITBUS_SPAWN_CHILD_PATH 0x200u     /* SEARCH_PATH: along the PATH of `envp` */
/* A program of no format that the kernel knows is run by /bin/sh, as execvp() does. */
#define EXITBUS_SPAWN_SHELL 0x400u
/* exitbus_process_spawn(): the thread that waits collects the exit; see there. */
#define EXITBUS_SPAWN_DIRECT 0x800u

/* What exitbus_spawn() was doing when it failed, in the order in which it does it. */
enum exitbus_spawn_step {
    EXITBUS_SPAWN_STEP_NONE = 0,          /* it did not fail */
    EXITBUS_SPAWN_STEP_ARGUMENTS = 1,     /* the options, or the bus, are not usable */
    EXITBUS_SPAWN_STEP_REAPER = 2,        /* find or start the reaper of the bus */
    EXITBUS_SPAWN_STEP_SUBSCRIPTION = 3,  /* take memory for the subscription */
    EXITBUS_SPAWN_STEP_PROCESS = 4,       /* make the process */
    EXITBUS_SPAWN_STEP_SIGNALS = 5,       /* set signal dispositions or the mask */
    EXITBUS_SPAWN_STEP_SESSION = 6,       /* SETSID */
    EXITBUS_SPAWN_STEP_PROCESS_GROUP = 7, /* SETPGROUP */
    EXITBUS_SPAWN_STEP_DIRECTORY = 8,     /* `directory` */
    EXITBUS_SPAWN_STEP_ACTION = 9,        /* `actions[index]` */
    EXITBUS_SPAWN_STEP_EXEC = 10,         /* start the program */
    /* Attributes: the first four come before DIRECTORY, the others between ACTION and EXEC. */
    EXITBUS_SPAWN_STEP_NAMESPACES = 11,   /* make namespaces, with the process */
    EXITBUS_SPAWN_STEP_TERMINAL = 12,     /* TERMINAL, FOREGROUND */
    EXITBUS_SPAWN_STEP_CGROUP = 13,       /* enter the cgroup */
    EXITBUS_SPAWN_STEP_ROOT = 14,         /* change the root */
    EXITBUS_SPAWN_STEP_LIMIT = 15,        /* set `limits[index]` */
    EXITBUS_SPAWN_STEP_NICE = 16,         /* set the nice value */
    EXITBUS_SPAWN_STEP_SCHEDULER = 17,    /* set the scheduling class */
    EXITBUS_SPAWN_STEP_CPUS = 18,         /* set the CPUs */
    EXITBUS_SPAWN_STEP_GROUPS = 19,       /* set the supplementary groups */
    EXITBUS_SPAWN_STEP_GID = 20,          /* set the group id */
    EXITBUS_SPAWN_STEP_UID = 21,          /* set the user id */
    EXITBUS_SPAWN_STEP_NO_NEW_PRIVS = 22, /* NO_NEW_PRIVS */
    EXITBUS_SPAWN_STEP_DEATH_SIGNAL = 23, /* set the death signal */
};

struct exitbus_spawn_report {
    enum exitbus_spawn_step step;
    int error;            /* what exitbus_spawn() returned */
    size_t index;         /* ACTION, LIMIT: which one; otherwise 0 */
    uint64_t reserved[2]; /* 0; for later versions */
};

/* exitbus_spawn_attributes.set: which members are used */
#define EXITBUS_ATTRIBUTE_UID 0x01u
#define EXITBUS_ATTRIBUTE_GID 0x02u
#define EXITBUS_ATTRIBUTE_GROUPS 0x04u
#define EXITBUS_ATTRIBUTE_UMASK 0x08u
#define EXITBUS_ATTRIBUTE_NICE 0x10u
#define EXITBUS_ATTRIBUTE_SCHEDULER 0x20u
#define EXITBUS_ATTRIBUTE_CPUS 0x40u
#define EXITBUS_ATTRIBUTE_LIMITS 0x80u
#define EXITBUS_ATTRIBUTE_DEATH_SIGNAL 0x100u
#define EXITBUS_ATTRIBUTE_CGROUP 0x200u
#define EXITBUS_ATTRIBUTE_NAMESPACES 0x400u
#define EXITBUS_ATTRIBUTE_ROOT 0x800u
#define EXITBUS_ATTRIBUTE_TERMINAL 0x1000u
#define EXITBUS_ATTRIBUTE_FOREGROUND 0x2000u
#define EXITBUS_ATTRIBUTE_PROGRAM_FD 0x4000u
#define EXITBUS_ATTRIBUTE_PIDFD 0x8000u

struct exitbus_spawn_limit {
    int resource;  /* RLIMIT_… */
    uint64_t soft; /* at most `hard`; RLIM_INFINITY: none */
    uint64_t hard;
};

/*
 * What else the child is given. What needs privileges is done before the ids are changed, and an
 * attribute that can't be set fails the spawn: none is half done. docs/guide.md sets them beside
 * those of posix_spawn(), Rust, Go, Python and libuv.
 */
struct exitbus_spawn_attributes {
    uint32_t set;        /* EXITBUS_ATTRIBUTE_… */
    uid_t uid;           /* real, effective and saved; the caller's groups go if it was root */
    gid_t gid;           /* real, effective and saved */
    const gid_t *groups; /* supplementary, instead of the caller's; may be none */
    size_t group_count;
    mode_t umask;           /* 0 to 0777; also for files that actions make */
    int nice;               /* -20 to 19 */
    int scheduler;          /* SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR */
    int scheduler_priority; /* FIFO, RR: 1 to 99; else 0 */
    const void *cpus;       /* the CPUs it may run on: a cpu_set_t */
    size_t cpus_size;       /* bytes */
    const struct exitbus_spawn_limit *limits;
    size_t limit_count;
    /* Sent to it when the thread that spawns it ends (PR_SET_PDEATHSIG). The kernel forgets it if
     * the program has set-user-id. */
    int death_signal;
    int cgroup_fd;       /* directory of a cgroup v2, where it begins (CLONE_INTO_CGROUP) */
    uint64_t namespaces; /* CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET */
    const char *root;    /* its root directory (chroot), and working directory unless set */
    /* TERMINAL, with SETSID: becomes its controlling terminal. FOREGROUND: the terminal that gets
     * its process group as the foreground one. */
    int terminal_fd;
    int program_fd; /* the program, instead of `path`; a script must not be close-on-exec */
    int *pidfd;     /* set to a pidfd, which is the caller's own; negative: why there is none */
    uint64_t reserved[4]; /* 0; for later versions */
};

struct exitbus_spawn_options {
    const char *path;                           /* the program; NULL: argv[0] */
    char *const *argv;                          /* NULL-terminated, at least argv[0] */
    char *const *envp;                          /* NULL: the caller's environment */
    const char *directory;                      /* working directory; NULL: the caller's */
    const struct exitbus_spawn_action *actions; /* done after the change of directory */
    size_t action_count;
    uint32_t flags;
    pid_t process_group;
    const sigset_t *signal_mask;
    const sigset_t *signal_default;
    struct exitbus_spawn_report *report; /* filled in by each call that gets so far; may be NULL */
    const struct exitbus_spawn_attributes *attributes; /* ATTRIBUTES */
};

/*
 * Start a child, with a one-shot subscription to its exit in place before it can run: the exit of
 * even the fastest child is seen. `subscription` may be NULL. The child is
 * handed to the bus's reaper; if it has none, a WATCHED one with a thread is started for it and
 * lives until the bus is destroyed or exitbus_reaper_start() takes its place.
 *
 * The caller's thread is suspended until the child has exec'd, as by vfork; nothing of the caller's
 * memory is copied. It may be a thread with the smallest stack there is (16 KiB).
 *
 * What the child is given:
 *   signals    An empty mask and the default action for every signal, SIGPIPE among them, whatever
 *              the caller blocks or ignores. posix_spawn() passes both on. Python resets SIGPIPE
 *              alone, Go and Rust the mask but not all that is ignored. The INHERIT_ flags pass on
 *              the one or the other; a shell that was started by nohup wants INHERIT_IGNORED.
 *   program    With SEARCH_PATH a `path` without a slash is looked up along the caller's PATH, not
 *              that of `envp`, unless CHILD_PATH is set.
 *              "" is -ENOENT. An empty part of PATH is the working directory.
 *   directory  Changed first: a relative `path`, a relative part of PATH and the paths of actions
 *              are seen from there.
 *   actions    OPEN closes what `fd` was, as posix_spawn() does. A descriptor that was opened with
 *              O_CLOEXEC is there for the actions that follow, and not for the program, whatever
 *              its number. CLOSE of a descriptor that is not open is no error.
 *   max_rss    The event's max_rss_kib is never less than the caller's own peak so far: Linux
 *              counts the memory that the child shares with its parent until exec.
 *
 * Errors. No child is left, and no event is published. `options->report` tells which step has
 * failed; docs/errors.md has them by step: -EINVAL, -ESTALE, what execve, open, dup2, chdir,
 * setsid, setpgid returned (-ENOENT, -EACCES, -EPERM, -EBADF …),
 *   -ETXTBSY the program is open for writing. A process that another thread is starting may hold a
 *      copy of a descriptor that was just closed here: a caller that writes programs tries again,
 *   -EINTR the child was killed before it had started the program, -EAGAIN, -ENOMEM, -EMFILE,
 *   -ENFILE, -ENOSPC, -ESHUTDOWN, -ENOTSUP as for exitbus_reaper_start(),
 *   -EXDEV an ALL reaper of this process publishes on another bus.
 * After unshare(CLONE_NEWPID) a process can't start threads any more: there the bus needs a reaper
 * that was started before, or a polled one. Else -EINVAL, step REAPER.
 */
EXITBUS_API int exitbus_spawn(struct exitbus *bus, const struct exitbus_spawn_options *options,
                              pid_t *pid, struct exitbus_subscription **subscription);

/*
 * Text for what a report says: the step, and the cause where it is a common one ("the working
 * directory does not exist"). Never NULL; the text is constant.
 */
EXITBUS_API const char *exitbus_spawn_strerror(const struct exitbus_spawn_report *report);

/* --------------------------------------------------------------------------- process handles */

/*
 * A handle stands for one process, whatever becomes of its pid. Its exit stays: any number of
 * threads may ask any number of times, before the exit and after it, and get the same answer. A
 * signal never hits another process. A handle costs 192 bytes and one descriptor (a pidfd), and no
 * thread: the reaper of the bus collects the process, as it does for exitbus_spawn(), and its event
 * goes to the bus as well.
 *
 * Each handle is one reference, which exitbus_process_unref() gives up. A call may be made on any
 * thread that has a reference, also inside a read-side section, and also after exitbus_destroy().
 * In a forked child every call says -ESTALE.
 *
 * Let no other waiter of the program reap a process that has a handle. Where one does, the kernel
 * still tells the status from Linux 6.15 on; on older ones the event has
 * EXITBUS_EVENT_STATUS_LOST. A process should have its handles on one bus, and not be handed to
 * exitbus_reaper_watch() as well: each of them publishes its exit.
 */

/*
 * Start a child, as exitbus_spawn() does, and make a handle for it.
 *
 * With EXITBUS_SPAWN_DIRECT exitbus_process_wait() does what a reaper does: it sleeps at the pidfd,
 * publishes the exit, and reaps. That saves the wake-up of the reaper's thread, and is for a
 * process with one waiter: while that thread is stopped nobody learns of the exit. The reaper does
 * it once a wait has ended while others wait, exitbus_process_fd() was called, a group has it, or
 * the last reference was given up. A process for which nobody waits stays a zombie until then. No
 * ALL reaper starts meanwhile (-EBUSY); where one runs already the flag means nothing. Do not adopt
 * such a process, nor hand it to exitbus_reaper_watch(): its exit would be published twice.
 *
 * Errors: as exitbus_spawn().
 */
EXITBUS_API int exitbus_process_spawn(struct exitbus *bus,
                                      const struct exitbus_spawn_options *options,
                                      struct exitbus_process **process);

/*
 * Make a handle for a child of this process that other code has made, alive or a zombie. From then
 * on the bus's reaper collects it; if the bus has none, one is started, as by exitbus_spawn(). A
 * child that was adopted before gets one more handle. `flags` must be 0.
 * Blocks as exitbus_spawn() does for its reaper.
 * Errors: -EINVAL also for pid <= 0; -ESTALE; -ESHUTDOWN; -ECHILD not a child of this process, or
 * already reaped; -EAGAIN the pid was reaped and given out anew, time and again, or a thread for
 * the reaper can't be started; -ENOMEM, -EMFILE, -ENFILE, -ENOSPC, -ENOTSUP, -EXDEV as for
 * exitbus_spawn(); -EBADF the host has closed descriptors of the reaper; what waitid or pidfd_open
 * says where a filter refuses it.
 */
EXITBUS_API int exitbus_process_adopt(struct exitbus *bus, pid_t pid, uint32_t flags,
                                      struct exitbus_process **process);

/*
 * The same by a pidfd, of which the handle has a copy of its own. The process may also be foreign,
 * which means no child of this process:
 *   - Its exit is told to its handles, and is not published: its pid may be a child's by then. The
 *     event's `seq` is 0, and so is what only a parent is told (CPU time, memory).
 *   - From Linux 6.15 on the kernel tells its status, once its parent has reaped it. A parent that
 *     has not done so 200 ms later is not waited for beyond the reaper's next look, which comes
 *     within a second. Then, and on older kernels, the event has EXITBUS_EVENT_STATUS_LOST.
 * `flags` must be 0.
 * Errors: as exitbus_process_adopt(), without -ECHILD; -EINVAL also for a descriptor that is no
 * pidfd, or is one of a thread; -EBADF also if it is not open; -ESRCH the process was reaped, or
 * has no pid in the pid namespace of this one; -ENOTSUP also on kernels before Linux 6.13 without
 * /proc.
 */
EXITBUS_API int exitbus_process_adopt_pidfd(struct exitbus *bus, int pidfd, uint32_t flags,
                                            struct exitbus_process **process);

/*
 * Wait until the process has ended and its exit is published, and get that event, without details.
 * It takes nothing away: every call gets it, and every subscription that matches. `timeout_ns` as
 * in exitbus_receive(). Non-blocking for 0.
 * Errors: -EINVAL; -ESTALE; -EAGAIN it has not ended (timeout 0); -ETIMEDOUT not in time; -EDEADLK
 * not ended, and the call is made inside a read-side section; -ESHUTDOWN the bus was destroyed
 * before the exit was collected.
 */
EXITBUS_API int exitbus_process_wait(struct exitbus_process *process, struct exitbus_event *event,
                                     int64_t timeout_ns);

/*
 * A file descriptor that polls readable (POLLIN) from the moment on at which exitbus_process_wait()
 * has an answer, and for good: for every event loop, also an edge-triggered one. Made at the first
 * call, owned by the handle, closed with the last reference. Never read, write or close it.
 * Non-blocking. Returns the descriptor. Errors: -EINVAL, -ESTALE, -EMFILE, -ENFILE, -ENOMEM.
 */
EXITBUS_API int exitbus_process_fd(struct exitbus_process *process);

/*
 * exitbus_process_signal(): to the process group that has the process's pid, which it leads or has
 * led (EXITBUS_SPAWN_SETPGROUP, EXITBUS_SPAWN_SETSID). From Linux 6.9 on also after its end, as
 * long as the group has members. Before that only until its exit is collected, only a child's
 * group, and the call waits for the end of a reaper's pass.
 */
#define EXITBUS_SIGNAL_GROUP 0x01u

/*
 * Send a signal; 0 sends none and tells whether one could be sent. It never hits another process. A
 * zombie takes it without effect. Non-blocking, but for a handle that has no pidfd yet: then it
 * waits for starts, stops and the end of a pass of the reaper.
 * Errors: -EINVAL also for a signal that does not exist; -ESTALE; -ESRCH the process has ended, or
 * leads no group that has members; -EPERM; -ENOTSUP the kernel has no such signal to a foreign
 * process's group; -EAGAIN (GROUP, before Linux 6.9) a thread waits for it by EXITBUS_SPAWN_DIRECT;
 * -EMFILE, -ENFILE, -ENOMEM no pidfd could be had so far.
 */
EXITBUS_API int exitbus_process_signal(struct exitbus_process *process, int signal, uint32_t flags);

/*
 * Returns its pid, also after its end, when another process may have that. Errors: -EINVAL,
 * -ESTALE.
 */
EXITBUS_API pid_t exitbus_process_pid(struct exitbus_process *process);

/*
 * Returns a pidfd of the process, which is the caller's own, and is closed on exec. Non-blocking,
 * as exitbus_process_signal() is. Errors: -EINVAL; -ESTALE; -EMFILE, -ENFILE, -ENOMEM; -ESRCH none
 * was had in its time.
 */
EXITBUS_API int exitbus_process_pidfd(struct exitbus_process *process);

/*
 * When the process was started: nanoseconds since the machine was booted (CLOCK_BOOTTIME), in steps
 * of a clock tick (10 ms). With the pid it names the process for as long as the machine runs. Reads
 * /proc at the first call, about 20 µs.
 * Errors: -EINVAL; -ESTALE; -ESRCH the process has ended, and nobody asked before, nor has its
 * reaper (EXITBUS_REAPER_DETAILS); -ENOTSUP /proc does not tell; -EMFILE, -ENFILE, -ENOMEM.
 */
EXITBUS_API int exitbus_process_start_time(struct exitbus_process *process, uint64_t *boottime_ns);

/* Take one more reference. Non-blocking. Errors: -EINVAL, -ESTALE. */
EXITBUS_API int exitbus_process_ref(struct exitbus_process *process);

/*
 * Give up a reference. The process runs on, and the exit of a child is still collected and
 * published. No thread may be in a call with this reference, nor make one later. NULL is a no-op.
 * Non-blocking. Errors: -ESTALE.
 */
EXITBUS_API int exitbus_process_unref(struct exitbus_process *process);

/* ------------------------------------------------------------------------------------- groups */

enum exitbus_group_kind {
    EXITBUS_GROUP_SET = 1,       /* the processes that exitbus_group_add() adds */
    EXITBUS_GROUP_PROCESSES = 2, /* the process group that `leader` leads (Linux 6.9) */
    EXITBUS_GROUP_CGROUP = 3,    /* all processes of a cgroup v2, and of those below it */
};

struct exitbus_group_options {
    enum exitbus_group_kind kind;
    uint32_t flags;                 /* must be 0 */
    const char *name;               /* the container id of its event: 1 to EXITBUS_ID_MAX bytes */
    struct exitbus_process *leader; /* PROCESSES */
    int cgroup_fd;                  /* CGROUP: its directory; the group has a copy */
};

/*
 * Make a group: several processes that are ended together, and that are gone when no process is
 * left. The reaper of the bus looks after it; if there is none, one is started, as by
 * exitbus_spawn(), and as long as the group exists one is needed. Costs 384 bytes, and for a cgroup
 * two descriptors. Blocks as exitbus_spawn() does for its reaper.
 *
 * Which kind: a cgroup holds what forks, calls setsid() or ignores signals. A process group loses
 * what leaves it. A set has the named processes, and none of their children.
 *
 * Errors: -EINVAL also for a directory that is of no cgroup v2, or of its root, and for a leader on
 * another bus; -ESTALE; -ESHUTDOWN; -EBADF; -ESRCH the leader leads no group that has members;
 * -ENOTSUP the kernel can't name a process group by its leader; otherwise as
 * exitbus_process_adopt().
 */
EXITBUS_API int exitbus_group_create(struct exitbus *bus,
                                     const struct exitbus_group_options *options,
                                     struct exitbus_group **group);

/*
 * SET: add a process of the same bus, which the group then holds a reference to. Adding one twice
 * changes nothing but the cost: 64 bytes. Non-blocking.
 * Errors: -EINVAL also for another kind, and for a process on another bus; -ESTALE; -ENOMEM;
 * -ESHUTDOWN the group was ended.
 */
EXITBUS_API int exitbus_group_add(struct exitbus_group *group, struct exitbus_process *process);

/*
 * End it: send `signal` to all (0: none), and SIGKILL to those that are left after `grace_ns`
 * nanoseconds (0: SIGKILL at once; < 0: never). Once no process is left, which means empty, an
 * EXITBUS_EVENT_EMPTY with its name is published, and the group is told: exitbus_group_wait().
 * Zombies do not count in a cgroup. In a process group they do, until they are reaped. Of a set the
 * exits have been published.
 *
 * May be called again: it signals again, and an earlier SIGKILL is the one that comes. A cgroup's
 * first signal goes to its own processes; SIGKILL goes to those below it, too. A process that the
 * kernel can't kill for the moment (uninterruptible sleep) is waited for. Non-blocking. The cost
 * grows with the number of processes.
 * Errors: -EINVAL also for a signal that does not exist; -ESTALE; -EPERM or another error of the
 * first process that could not be signalled: the others were, and the group ends all the same.
 */
EXITBUS_API int exitbus_group_end(struct exitbus_group *group, int signal, int64_t grace_ns);

/*
 * Wait until it was ended and is empty, and get its event: sticky, as exitbus_process_wait() is.
 * Errors: as exitbus_process_wait().
 */
EXITBUS_API int exitbus_group_wait(struct exitbus_group *group, struct exitbus_event *event,
                                   int64_t timeout_ns);

/* A descriptor that is readable from then on: as exitbus_process_fd(). */
EXITBUS_API int exitbus_group_fd(struct exitbus_group *group);

/* Take one more reference. Non-blocking. Errors: -EINVAL, -ESTALE. */
EXITBUS_API int exitbus_group_ref(struct exitbus_group *group);

/*
 * Give up a reference. A group that was ended goes on to end; one that was not signals nothing.
 * NULL is a no-op. Non-blocking. Errors: -ESTALE.
 */
EXITBUS_API int exitbus_group_unref(struct exitbus_group *group);

/* -------------------------------------------------------------------------------------- tasks */

/*
 * A task is what a container shim keeps of a container: its own process (the leader), execs, and in
 * which order their lives are told. The events of pids are published as ever, at once. What is in
 * order is the named thing. For each exec of a task:
 *
 *   - EXITBUS_EVENT_STARTED comes before its exit (an EXITBUS_EVENT_EXEC), however fast it exits;
 *   - the leader's exit comes behind those of all execs, also of those only reserved when it died;
 *   - once EXITBUS_EVENT_LEADER_DIED is out, no exec is reserved any more;
 *   - EXITBUS_EVENT_OOM comes before the exit of the process that was killed.
 *
 * So a thread reserves, starts the process by whatever means, and says which one it is. It holds no
 * lock meanwhile, and nothing waits for it: other tasks go on, and so do the exits of the helpers
 * that it waits for.
 */
enum exitbus_task_kill {
    EXITBUS_TASK_KILL_NONE = 0,    /* when the leader dies the others are left alone */
    EXITBUS_TASK_KILL_MEMBERS = 1, /* SIGKILL to the processes of its execs */
    EXITBUS_TASK_KILL_CGROUP = 2,  /* SIGKILL to all processes of `cgroup_fd` */
};

/* exitbus_task_options.flags */
#define EXITBUS_TASK_CGROUP 0x01u /* `cgroup_fd` is there; without it no OOM is told */

struct exitbus_task_options {
    enum exitbus_task_kill kill;
    uint32_t flags;   /* EXITBUS_TASK_… */
    int cgroup_fd;    /* a directory of a cgroup v2; the task has a copy */
    int64_t bound_ns; /* the leader's exit waits no longer for members; 0: as long as it takes */
};

/*
 * Make a task. `options` may be NULL: kill none, no cgroup, no bound. The reaper of the bus looks
 * after it, and one is started if there is none, as by exitbus_spawn(). Costs 768 bytes, and a
 * descriptor for a cgroup. Blocks as exitbus_spawn() does for its reaper.
 * Errors: -EINVAL also for a directory that is of no cgroup; -ESTALE; -ESHUTDOWN; -EBADF; otherwise
 * as exitbus_process_adopt().
 */
EXITBUS_API int exitbus_task_create(struct exitbus *bus, const char *container_id,
                                    const struct exitbus_task_options *options,
                                    struct exitbus_task **task);

/*
 * Signal the leader and the processes of all execs (0: none), and send SIGKILL to those left after
 * `grace_ns` nanoseconds (0: at once; < 0: never), with EXITBUS_TASK_KILL_CGROUP to its cgroup,
 * too. Execs that are bound later are signalled as well. The reaper does it, so errors of the
 * signals are not told. Their exits come as ever. Non-blocking.
 * Errors: -EINVAL; -ESTALE; -ESHUTDOWN; -ESRCH the leader's exit is told.
 */
EXITBUS_API int exitbus_task_end(struct exitbus_task *task, int signal, int64_t grace_ns);

/* Take one more reference. Non-blocking. Errors: -EINVAL, -ESTALE. */
EXITBUS_API int exitbus_task_ref(struct exitbus_task *task);

/*
 * Give up a reference. Nothing is signalled; execs stay what they are, and are told in order. NULL
 * is a no-op. Non-blocking. Errors: -ESTALE.
 */
EXITBUS_API int exitbus_task_unref(struct exitbus_task *task);

/*
 * Reserve an exec: from now on the leader's exit waits for it. "" is the leader itself, which can
 * be reserved once. Names are the caller's to keep apart. Costs 384 bytes. Non-blocking.
 * Errors: -EINVAL; -ESTALE; -ESHUTDOWN; -ENOMEM; -EOWNERDEAD the leader has died; -EEXIST the
 * leader was reserved before; -ECANCELED its start was cancelled.
 */
EXITBUS_API int exitbus_exec_reserve(struct exitbus_task *task, const char *exec_id,
                                     struct exitbus_exec **exec);

/*
 * Say that it has started: publishes EXITBUS_EVENT_STARTED, and its exit from then on, at once if
 * it has exited. By a pid of a child, alive or a zombie (`pidfd` < 0); or by a pidfd, which may be
 * of a process that is no child (`pid` 0, or its pid). After exitbus_exec_restarting() it is the
 * same process that has started again: give 0 and -1. Blocks as exitbus_process_adopt() does.
 * Errors, after which it is reserved as before: -EINVAL also if pid and pidfd differ; -ESTALE;
 * -ESHUTDOWN; -ECANCELED; -EALREADY it is bound; -EBUSY another thread is about to bind it;
 * otherwise as exitbus_process_adopt() or exitbus_process_adopt_pidfd().
 */
EXITBUS_API int exitbus_exec_started(struct exitbus_exec *exec, pid_t pid, int pidfd);

/*
 * Hold its exit back until it is started again, as between create and start of a container: an exit
 * that comes meanwhile is told behind that STARTED. Before the first exitbus_exec_started() it
 * comes in time for any exit; behind it an exit may be on its way (-ESRCH). exitbus_exec_cancel()
 * lets it go without one. Non-blocking. Errors: -EINVAL; -ESTALE; -ECANCELED; -EBUSY another thread
 * is about to bind it; -ESRCH.
 */
EXITBUS_API int exitbus_exec_restarting(struct exitbus_exec *exec);

/*
 * The start has failed: give the reservation back. Of one that is bound the exit is told, and no
 * STARTED waited for. Calling it again changes nothing. Non-blocking.
 * Errors: -EINVAL; -ESTALE; -EBUSY another thread is about to bind it.
 */
EXITBUS_API int exitbus_exec_cancel(struct exitbus_exec *exec);

/*
 * Wait for its exit, as exitbus_process_wait() does: sticky, for any number of threads. The event
 * is the one that was published, with both ids.
 * Errors: as exitbus_process_wait(); -ECANCELED it was cancelled.
 */
EXITBUS_API int exitbus_exec_wait(struct exitbus_exec *exec, struct exitbus_event *event,
                                  int64_t timeout_ns);

/* A descriptor that is readable from then on, also if it is cancelled: as exitbus_process_fd(). */
EXITBUS_API int exitbus_exec_fd(struct exitbus_exec *exec);

/*
 * Signal its process, and no other, as exitbus_process_signal() does.
 * Errors: as there; -ESRCH also if it is not started; -ECANCELED.
 */
EXITBUS_API int exitbus_exec_signal(struct exitbus_exec *exec, int signal);

/* Take one more reference. Non-blocking. Errors: -EINVAL, -ESTALE. */
EXITBUS_API int exitbus_exec_ref(struct exitbus_exec *exec);

/*
 * Give up a reference. The last one cancels an exec that is not started. NULL is a no-op.
 * Non-blocking. Errors: -ESTALE.
 */
EXITBUS_API int exitbus_exec_unref(struct exitbus_exec *exec);

#ifdef __cplusplus
}
#endif

#endif
