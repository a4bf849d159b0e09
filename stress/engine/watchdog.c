/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Hangs and crashes: see watchdog.h. */
#include "watchdog.h"
#include "../checks/verdict.h"
#include "calls.h"
#include "children.h"
#include "dump.h"
#include "options.h"
#include "shared.h"
#include "text.h"
#include "worker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLS_MAX 64
#define EXPLAIN_SECONDS 5

/* A call that has not returned, or that another waits for. */
struct late_call {
    char thread[24];
    pid_t tid;
    uint32_t operation;
    double seconds;
    void *subscription; /* NULL: a call on none */
};

static struct trouble {
    _Atomic bool hangs;
    unsigned overdue, zombies;
    size_t call_count, named_count;
    struct late_call calls[CALLS_MAX]; /* overdue */
    struct late_call named[CALLS_MAX]; /* by the subject, as threads that are waited for */
    char reason[512];                  /* the subject's */
    char maker[24];                    /* of the subscription that it names: a thread, or "" */

    _Atomic bool crashed;
    int signal, status; /* status: if it has ended without a signal; else -1 */
    bool has_address;
    void *address;
    char thread[24];
    uint32_t operation;
} * trouble; /* shared: see shared.h */

void watchdog_share(void)
{
    trouble = shared_alloc(sizeof *trouble);
}

/* -------------------------------------------------------------------------------------- hangs */

static bool is_overdue(struct worker *worker, uint64_t now)
{
    if (flag(&worker->late))
        return true;
    uint64_t due = atomic_load_explicit(&worker->due_ns, memory_order_acquire);
    return flag(&worker->used) && due != 0 && now > due &&
           atomic_load(&worker->halt) != HALT_STOPPED;
}

/* What it is in: a call, or the code of a plug-in. */
static uint32_t operation_of(struct worker *worker)
{
    return flag(&worker->late) ? OPERATION_SCENARIO : atomic_load(&worker->operation) % OPERATIONS;
}

static void note_call(struct worker *worker, uint64_t now, struct late_call *calls, size_t *count_)
{
    if (*count_ == CALLS_MAX)
        return;
    struct late_call *call = &calls[(*count_)++];
    memcpy(call->thread, worker->name, sizeof call->thread);
    call->tid = atomic_load(&worker->tid);
    call->operation = operation_of(worker);
    call->seconds = (double)(now - atomic_load(&worker->since_ns)) / 1e9;
    call->subscription = atomic_load(&worker->object);
}

/* What the subject's words mean here: "thread TID" and "subscription ADDRESS". */
static void translate(uint64_t now)
{
    static const char thread[] = "thread ", subscription[] = "subscription 0x";
    const char *reason = trouble->reason;
    for (const char *at = reason; (at = strstr(at, thread)); at += strlen(thread)) {
        long tid = strtol(at + strlen(thread), NULL, 10);
        for (size_t i = 0; tid > 0 && i < WORKERS_MAX; i++)
            if (flag(&workers[i].used) && atomic_load(&workers[i].tid) == tid)
                note_call(&workers[i], now, trouble->named, &trouble->named_count);
    }
    const char *at = strstr(reason, subscription);
    if (!at)
        return;
    const void *address = (void *)(uintptr_t)strtoull(at + strlen("subscription "), NULL, 16);
    const struct worker *maker = call_maker_of(address);
    snprintf(trouble->maker, sizeof trouble->maker, "%s", maker ? maker->name : "a thread unknown");
}

static enum guarantee guarantee_of(uint32_t operation)
{
    switch (operation) {
    case OPERATION_UNSUBSCRIBE:
        return ANY_CONTEXT;
    case OPERATION_EXEC_WAIT:
    case OPERATION_HANDLE_WAIT:
    case OPERATION_GROUP_WAIT:
        return WAITS_END;
    default:
        return NEVER_BLOCKS;
    }
}

void watchdog_settle(void)
{
    trouble->reason[sizeof trouble->reason - 1] = '\0';
    text_clean(trouble->reason);
}

bool watchdog_hang(void)
{
    uint64_t now = now_ns();
    struct worker *first = NULL;
    bool known = flag(&trouble->hangs);
    unsigned overdue = 0;
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        if (!is_overdue(&workers[i], now))
            continue;
        /* A publish hangs for its own reason more often than the rest. */
        if (!first || atomic_load(&workers[i].operation) == OPERATION_PUBLISH)
            first = &workers[i];
        overdue++;
        if (!known)
            note_call(&workers[i], now, trouble->calls, &trouble->call_count);
    }
    if (!first || known)
        return first;
    dump_take();
    trouble->overdue = overdue;
    trouble->zombies = count_zombies();
    atomic_store(&trouble->hangs, true);
    uint32_t operation = operation_of(first);
    verdict_violated(guarantee_of(operation), "%s hangs in %s", first->name,
                     operation_names[operation]);
    if (world->subject->explain && world->bus) { /* last: it may hang, too, and is ended then */
        alarm(EXPLAIN_SECONDS);
        world->subject->explain(world->bus, trouble->reason, sizeof trouble->reason);
        alarm(0);
        watchdog_settle();
        translate(now);
    }
    return true;
}

bool watchdog_hangs(void)
{
    return flag(&trouble->hangs);
}

static void print_calls(FILE *file, const char *before, const char *between,
                        const struct late_call *calls, size_t count_)
{
    for (size_t i = 0; i < count_; i++) {
        const struct late_call *call = &calls[i];
        fprintf(file, "  %s%s (tid %d) %s %s for %.1f s", before, call->thread, call->tid, between,
                operation_names[call->operation % OPERATIONS], call->seconds);
        if (call->subscription)
            fprintf(file, ", on subscription %p", call->subscription);
        fprintf(file, "\n");
    }
}

static void print_hang(FILE *file)
{
    fprintf(file, "HANG: %u calls have not returned in %u s; %u zombies wait to be reaped\n",
            trouble->overdue, world->options.patience, trouble->zombies);
    print_calls(file, "", "is in", trouble->calls, trouble->call_count);
    if (!trouble->reason[0])
        return;
    fprintf(file, "  %s says: %s\n", world->subject_name, trouble->reason);
    print_calls(file, "of these threads, ", "is in", trouble->named, trouble->named_count);
    if (trouble->maker[0])
        fprintf(file, "  that subscription was made by %s\n", trouble->maker);
}

static json_t *calls_json(const struct late_call *calls, size_t count_)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count_; i++) {
        char subscription[24] = "";
        if (calls[i].subscription)
            snprintf(subscription, sizeof subscription, "%p", calls[i].subscription);
        json_array_append_new(array, json_pack("{s:s, s:i, s:s, s:f, s:s?}", "thread",
                                               calls[i].thread, "tid", (int)calls[i].tid, "call",
                                               operation_names[calls[i].operation % OPERATIONS],
                                               "seconds", calls[i].seconds, "subscription",
                                               subscription[0] ? subscription : NULL));
    }
    return array;
}

json_t *watchdog_hang_json(void)
{
    if (!flag(&trouble->hangs))
        return json_null();
    return json_pack("{s:I, s:I, s:o, s:s?, s:o, s:s?}", "overdue", (json_int_t)trouble->overdue,
                     "zombies", (json_int_t)trouble->zombies, "calls",
                     calls_json(trouble->calls, trouble->call_count), "subject_says",
                     trouble->reason[0] ? trouble->reason : NULL, "named",
                     calls_json(trouble->named, trouble->named_count), "subscription_made_by",
                     trouble->maker[0] ? trouble->maker : NULL);
}

/* ------------------------------------------------------------------------------------ crashes */

static void note_crash(int signal, int status)
{
    struct worker *worker = self;
    trouble->signal = signal;
    trouble->status = status;
    snprintf(trouble->thread, sizeof trouble->thread, "%s",
             worker ? worker->name : "a thread of the subject");
    bool calls = worker && atomic_load(&worker->due_ns) != 0;
    trouble->operation = calls ? atomic_load(&worker->operation) % OPERATIONS : OPERATION_NONE;
    atomic_store(&trouble->crashed, true);
}

static pid_t run; /* the process of the run */

static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    static _Atomic bool already;
    if (getpid() != run) { /* a forked child, which is none of ours to report */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    if (atomic_exchange(&already, true))
        for (;;)
            pause();
    dump_take();
    trouble->has_address = number != SIGABRT;
    trouble->address = info->si_addr;
    note_crash(number, -1);
    signal(number, SIG_DFL);
    raise(number);
}

void watchdog_init(void)
{
    run = getpid();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    static char stack[1 << 16];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
#else
    (void)on_crash;
#endif
}

void watchdog_ended(int signal, int status)
{
    dump_take();
    if (!flag(&trouble->crashed))
        note_crash(signal, status);
}

/* How it has ended, in words. */
static void describe_crash(char *text, size_t size)
{
    if (trouble->signal == 0)
        snprintf(text, size, "it has ended with exit status %d", trouble->status);
    else if (trouble->has_address)
        snprintf(text, size, "SIG%s at %p", sigabbrev_np(trouble->signal), trouble->address);
    else
        snprintf(text, size, "SIG%s", sigabbrev_np(trouble->signal));
}

static void print_crash(FILE *file)
{
    char text[64];
    describe_crash(text, sizeof text);
    fprintf(file, "CRASH: %s", text);
    if (trouble->operation != OPERATION_NONE)
        fprintf(file, ", by %s in %s", trouble->thread, operation_names[trouble->operation]);
    else if (trouble->signal)
        fprintf(file, ", by %s outside the subject's calls", trouble->thread);
    fprintf(file, " (seed %" PRIu64 ")\n", world->options.seed);
}

json_t *watchdog_crash_json(void)
{
    char text[64];
    if (!flag(&trouble->crashed))
        return json_null();
    describe_crash(text, sizeof text);
    bool known = trouble->operation != OPERATION_NONE;
    return json_pack("{s:s, s:i, s:i, s:s?, s:s?}", "text", text, "signal", trouble->signal,
                     "status", trouble->status, "thread", known ? trouble->thread : NULL, "call",
                     known ? operation_names[trouble->operation] : NULL);
}

void watchdog_describe(char *text, size_t size)
{
    if (flag(&trouble->hangs))
        snprintf(text, size, "%u calls have not returned in %u s, the first %s in %s",
                 trouble->overdue, world->options.patience, trouble->calls[0].thread,
                 operation_names[trouble->calls[0].operation % OPERATIONS]);
    else
        describe_crash(text, size);
}

void watchdog_print(FILE *file)
{
    if (flag(&trouble->hangs))
        print_hang(file);
    if (flag(&trouble->crashed))
        print_crash(file);
}
