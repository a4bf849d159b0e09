/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The threads of a run. Each notes every call that it makes into the subject: the latest ones lie
 * in a ring, for the dump after a violation, and the one in progress is visible to the watchdog.
 * While a thread is inside such a call, others may delay it by a signal, at any instruction.
 */
#ifndef STRESS_WORKER_H
#define STRESS_WORKER_H

#include "world.h"

#include <pthread.h>

enum operation {
    OPERATION_NONE,
    OPERATION_PUBLISH,
    OPERATION_SUBSCRIBE,
    OPERATION_UNSUBSCRIBE,
    OPERATION_RECEIVE,
    OPERATION_WAIT, /* a receive with a timeout */
    OPERATION_DESCRIPTOR,
    OPERATION_SPAWN,
    OPERATION_STATS,
    OPERATION_MISUSE,
    OPERATION_CREATE,
    OPERATION_DESTROY,
    OPERATION_REAPER,
    OPERATION_TASK, /* create, release: of what the name says; likewise the next */
    OPERATION_EXEC,
    OPERATION_RESERVE,
    OPERATION_STARTED,
    OPERATION_CANCEL,
    OPERATION_EXEC_WAIT,
    OPERATION_HANDLE,
    OPERATION_SIGNAL,
    OPERATION_HANDLE_WAIT,
    OPERATION_GROUP,
    OPERATION_GROUP_ADD,
    OPERATION_GROUP_END,
    OPERATION_GROUP_WAIT,
    OPERATION_SCENARIO, /* none: the thread of a plug-in, which should have ended */
    OPERATIONS
};

extern const char *const operation_names[OPERATIONS];

#define WORKERS_MAX 512
#define NOTES 512 /* calls that are known of each */
#define FOR_EVER UINT64_MAX

/* One call: written by its thread, read by whoever dumps. */
struct note {
    _Atomic uint64_t begin_ns, end_ns;
    _Atomic int64_t result;
    _Atomic uint64_t detail;    /* a number of an event, mostly */
    _Atomic uint32_t operation; /* enum operation */
};

struct worker {
    _Atomic bool used;
    char name[24];
    pthread_t thread;
    _Atomic pid_t tid;
    struct random random;
    void *(*body)(void *);
    void *argument;
    _Atomic uint64_t due_ns; /* when the call in progress should have returned; 0: none */
    _Atomic uint32_t operation;
    _Atomic uint64_t since_ns;
    _Atomic(void *) object;    /* the subscription, of a call on one */
    _Atomic uint32_t nap_us;   /* what the next signal is to do, inside a call */
    _Atomic uint32_t halt;     /* futex: HALT_… */
    _Atomic bool unsignalled;  /* no signals please, which would wake it */
    _Atomic bool unstepped;    /* and no delays by worker_step */
    _Atomic bool has_children; /* which inherit the priority it has */
    _Atomic bool guest;        /* of a plug-in */
    _Atomic bool late;         /* the time is over, and it has not ended */
    _Atomic uint32_t delays;   /* of the call in progress, so far */
    _Atomic uint64_t naps;     /* how often it was delayed */
    _Atomic uint64_t noted;    /* calls made */
    struct note notes[NOTES];
};

enum { HALT_NONE, HALT_WANTED, HALT_STOPPED };

extern struct worker *workers; /* WORKERS_MAX of them; shared: see shared.h */
extern _Thread_local struct worker *self;

/* Make room for them. Context: before the run. */
void workers_share(void);
/* Install the handlers; before any worker starts. */
void workers_init(void);

/* Start a thread. NULL if there can be none now. `number` goes into its name and its seed. */
struct worker *worker_start(const char *name, unsigned number, void *(*body)(void *),
                            void *argument);
void worker_join(struct worker *worker);
/* The thread that calls becomes one, so that its calls are watched, too. Others let it be. */
void worker_adopt(const char *name);

/* A call begins and ends. `limit_ns`: how long it may take (0: it must not wait; FOR_EVER). */
void call_begin(enum operation operation, void *object, uint64_t limit_ns);
void call_end(int64_t result, uint64_t detail);

/* Nothing from outside is to wake the calling thread: no signals, SIGCHLD included (which the
 * kernel hands to any thread that lets it through). */
void worker_block_signals(void);

/* Delay a thread that is inside a call by `us` (0: one yield); or only interrupt it. */
void worker_disturb(struct worker *worker, unsigned us);
/*
 * Stop a thread inside a call, wherever it is then. False if it was in none. Others see it stopped
 * when this returns.
 */
bool worker_halt(struct worker *worker);
void worker_resume(struct worker *worker);

/* The function for subject.set_step: delays at random. */
void worker_step(unsigned place);

#endif
