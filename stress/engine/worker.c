/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads, their notes, and how they are disturbed: see worker.h. */
#include "worker.h"
#include "shared.h"
#include "text.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL_DISTURB (SIGRTMIN + 1)
/* One step in so many yields, naps for some microseconds, and sleeps for longer than a grace
 * period. */
#define STEPS_PER_YIELD 61
#define STEPS_PER_NAP 1021
#define STEPS_PER_SLEEP 20011
#define DELAYS_PER_CALL 32

const char *const operation_names[OPERATIONS] = {
    "none",         "publish",       "subscribe",   "unsubscribe",    "receive", "wait",
    "fd",           "spawn",         "stats",       "wrong call",     "create",  "destroy",
    "reaper",       "task",          "exec",        "reserve",        "started", "cancel",
    "wait of exec", "handle",        "signal",      "wait of handle", "group",   "add to group",
    "end of group", "wait of group", "its scenario"};

struct worker *workers;
_Thread_local struct worker *self;

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
    const struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    /* nanosleep() is a cancellation point, which the inside of a subject must not be. */
    syscall(SYS_nanosleep, &time, NULL);
}

void nap(uint64_t ns, const _Atomic bool *until)
{
    uint64_t end = now_ns() + ns;
    for (;;) {
        uint64_t now = now_ns();
        if (now >= end || (until && flag(until)))
            return;
        sleep_ns(end - now < 1000000 ? end - now : 1000000);
    }
}

/* ------------------------------------------------------------------------------ disturbances */

static void futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    syscall(SYS_futex, (uint32_t *)word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void stay_halted(struct worker *worker)
{
    uint32_t wanted = HALT_WANTED;
    if (!atomic_compare_exchange_strong(&worker->halt, &wanted, HALT_STOPPED))
        return;
    futex(&worker->halt, FUTEX_WAKE, INT_MAX);
    while (atomic_load(&worker->halt) == HALT_STOPPED)
        futex(&worker->halt, FUTEX_WAIT, HALT_STOPPED);
}

static void on_disturb(int signal)
{
    (void)signal;
    int saved = errno;
    struct worker *worker = self;
    /* Outside a call the thread may hold locks of the engine's, or of malloc. */
    if (worker && atomic_load(&worker->due_ns) != 0) {
        uint32_t us = atomic_exchange(&worker->nap_us, 0);
        atomic_fetch_add_explicit(&worker->naps, 1, memory_order_relaxed);
        if (us > 0)
            sleep_ns((uint64_t)us * 1000);
        else
            sched_yield();
        stay_halted(worker);
    }
    errno = saved;
}

void workers_share(void)
{
    workers = shared_alloc(WORKERS_MAX * sizeof *workers);
}

void workers_init(void)
{
    /* pthread_cancel() loads it at first use, and ends the process if there is no descriptor. */
    dlopen("libgcc_s.so.1", RTLD_NOW);
    /* No SA_RESTART: EINTR everywhere. On the signal stack: Go's threads take it nowhere else. */
    struct sigaction action = {.sa_handler = on_disturb, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGNAL_DISTURB, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void send_signal(const struct worker *worker)
{
    pid_t tid = atomic_load(&worker->tid);
    if (tid > 0)
        syscall(SYS_tgkill, getpid(), tid, SIGNAL_DISTURB);
}

void worker_block_signals(void)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, NULL);
    atomic_store(&self->unsignalled, true);
}

void worker_disturb(struct worker *worker, unsigned us)
{
    if (!flag(&worker->used) || flag(&worker->unsignalled))
        return;
    /* Signals that come faster than a busy machine lets it handle them would stop it for ever. */
    if (atomic_fetch_add_explicit(&worker->delays, 1, memory_order_relaxed) >= DELAYS_PER_CALL)
        return;
    atomic_store(&worker->nap_us, us);
    send_signal(worker);
}

bool worker_halt(struct worker *worker)
{
    if (!flag(&worker->used) || flag(&worker->unsignalled))
        return false;
    atomic_store(&worker->halt, HALT_WANTED);
    send_signal(worker);
    for (uint64_t until = now_ns() + 5000000; now_ns() < until;) {
        if (atomic_load(&worker->halt) == HALT_STOPPED)
            return true;
        sched_yield();
    }
    uint32_t wanted = HALT_WANTED; /* it was between two calls: take the wish back */
    return !atomic_compare_exchange_strong(&worker->halt, &wanted, HALT_NONE);
}

void worker_resume(struct worker *worker)
{
    atomic_store(&worker->halt, HALT_NONE);
    futex(&worker->halt, FUTEX_WAKE, INT_MAX);
}

void worker_step(unsigned place)
{
    static _Thread_local uint64_t state;
    struct worker *worker = self;
    if (!worker || flag(&worker->unstepped))
        return;
    if (state == 0)
        state = worker->random.state | 1;
    uint64_t draw = mix(state += 0x9e3779b97f4a7c15ULL + place);
    if (draw % STEPS_PER_SLEEP == 0)
        sleep_ns(1000000 + (draw >> 32) % 30000000);
    else if (draw % STEPS_PER_NAP == 0)
        sleep_ns((draw >> 32) % 200000);
    else if (draw % STEPS_PER_YIELD == 0)
        sched_yield();
}

/* ------------------------------------------------------------------------------------ threads */

static struct worker *worker_claim(void)
{
    for (unsigned i = 0; i < WORKERS_MAX; i++) {
        bool used = false;
        if (!flag(&workers[i].used) &&
            atomic_compare_exchange_strong(&workers[i].used, &used, true))
            return &workers[i];
    }
    return NULL;
}

static void leave(void *argument)
{
    struct worker *worker = argument;
    atomic_store(&worker->due_ns, 0);
    atomic_store(&worker->tid, 0);
    /* Not back to NULL before the thread's destructors have run: they may call the subject. */
}

/* The tid of a thread that has not begun; that of one that has ended is 0. */
#define NOT_YET (-1)

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    self = worker;
#ifdef __SANITIZE_THREAD__
    /* It holds signals back from a thread that is stopped or sleeps in a call: here, for ever. */
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child, NULL);
#endif
    atomic_store(&worker->tid, gettid());
    void *result;
    pthread_cleanup_push(leave, worker);
    result = worker->body(worker->argument);
    pthread_cleanup_pop(1);
    return result;
}

static void worker_reset(struct worker *worker, const char *name, unsigned number)
{
    snprintf(worker->name, sizeof worker->name, "%s %u", name, number);
    text_clean(worker->name);
    uint64_t kind = 0;
    for (const char *c = name; *c; c++)
        kind = mix(kind ^ (unsigned char)*c);
    worker->random = random_for(kind & UINT32_MAX, number);
    atomic_store(&worker->operation, OPERATION_NONE);
    atomic_store(&worker->halt, HALT_NONE);
    atomic_store(&worker->unsignalled, false);
    atomic_store(&worker->unstepped, false);
    atomic_store(&worker->has_children, false);
    atomic_store(&worker->guest, false);
    atomic_store(&worker->late, false);
    atomic_store(&worker->noted, 0);
}

struct worker *worker_start(const char *name, unsigned number, void *(*body)(void *),
                            void *argument)
{
    struct worker *worker = worker_claim();
    if (!worker)
        return NULL;
    worker_reset(worker, name, number);
    atomic_store(&worker->tid, NOT_YET);
    worker->body = body;
    worker->argument = argument;
    if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
        atomic_store(&worker->used, false);
        return NULL;
    }
    return worker;
}

void worker_adopt(const char *name)
{
    struct worker *worker = worker_claim();
    if (!worker)
        return;
    worker_reset(worker, name, 0);
    atomic_store(&worker->unsignalled, true);
    atomic_store(&worker->has_children, true);
    atomic_store(&worker->tid, gettid());
    self = worker;
}

/* Wait for a thread whose code is not ours, and have the watchdog look at it if that is in vain. */
static void await_guest(struct worker *worker)
{
    uint64_t end = now_ns() + (uint64_t)world->options.patience * 2000000000;
    while (atomic_load(&worker->tid) != 0 && now_ns() < end)
        nap(1000000, NULL);
    if (atomic_load(&worker->tid) != 0)
        atomic_store(&worker->late, true);
}

void worker_join(struct worker *worker)
{
    if (flag(&worker->guest))
        await_guest(worker);
    pthread_join(worker->thread, NULL);
    atomic_store(&worker->used, false);
}

/* -------------------------------------------------------------------------------------- calls */

void call_begin(enum operation operation, void *object, uint64_t limit_ns)
{
    struct worker *worker = self;
    if (!worker)
        return;
    uint64_t now = now_ns();
    uint64_t patience = (uint64_t)patience_ns();
    atomic_store_explicit(&worker->operation, operation, memory_order_relaxed);
    atomic_store_explicit(&worker->object, object, memory_order_relaxed);
    atomic_store_explicit(&worker->since_ns, now, memory_order_relaxed);
    atomic_store_explicit(&worker->delays, 0, memory_order_relaxed);
    atomic_store_explicit(&worker->due_ns,
                          limit_ns == FOR_EVER ? FOR_EVER : now + limit_ns + patience,
                          memory_order_release);
}

void call_end(int64_t result, uint64_t detail)
{
    struct worker *worker = self;
    if (!worker)
        return;
    atomic_store_explicit(&worker->due_ns, 0, memory_order_release);
    uint64_t number = atomic_load_explicit(&worker->noted, memory_order_relaxed);
    struct note *note = &worker->notes[number % NOTES];
    atomic_store_explicit(&note->begin_ns,
                          atomic_load_explicit(&worker->since_ns, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&note->end_ns, now_ns(), memory_order_relaxed);
    atomic_store_explicit(&note->result, result, memory_order_relaxed);
    atomic_store_explicit(&note->detail, detail, memory_order_relaxed);
    atomic_store_explicit(&note->operation,
                          atomic_load_explicit(&worker->operation, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&worker->noted, number + 1, memory_order_release);
}
