/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Hangs and crashes: see watchdog.h. */
#include "watchdog.h"
#include "../checks/verdict.h"
#include "calls.h"
#include "children.h"
#include "dump.h"
#include "options.h"
#include "worker.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char text[8192];

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - used, format, arguments);
    va_end(arguments);
}

const char *watchdog_text(void)
{
    return text;
}

/* -------------------------------------------------------------------------------------- hangs */

static bool is_overdue(struct worker *worker, uint64_t now)
{
    uint64_t due = atomic_load_explicit(&worker->due_ns, memory_order_acquire);
    return flag(&worker->used) && due != 0 && now > due &&
           atomic_load(&worker->halt) != HALT_STOPPED;
}

/* What the subject's words mean here: "thread TID" and "subscription ADDRESS". */
static void translate(const char *reason, uint64_t now)
{
    static const char thread[] = "thread ", subscription[] = "subscription 0x";
    for (const char *at = reason; (at = strstr(at, thread)); at += strlen(thread)) {
        long tid = strtol(at + strlen(thread), NULL, 10);
        for (size_t i = 0; tid > 0 && i < WORKERS_MAX; i++)
            if (flag(&workers[i].used) && atomic_load(&workers[i].tid) == tid)
                say("  thread %ld is %s, in %s for %.1f s\n", tid, workers[i].name,
                    operation_names[atomic_load(&workers[i].operation) % OPERATIONS],
                    (double)(now - atomic_load(&workers[i].since_ns)) / 1e9);
    }
    const char *at = strstr(reason, subscription);
    if (!at)
        return;
    void *address = (void *)(uintptr_t)strtoull(at + strlen("subscription "), NULL, 16);
    const struct worker *maker = call_maker_of(address);
    say("  that subscription was made by %s\n", maker ? maker->name : "a thread unknown");
}

static enum guarantee guarantee_of(uint32_t operation)
{
    return operation == OPERATION_UNSUBSCRIBE ? ANY_CONTEXT : NEVER_BLOCKS;
}

static void name_threads(uint64_t now)
{
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        struct worker *worker = &workers[i];
        if (!is_overdue(worker, now))
            continue;
        uint32_t operation = atomic_load(&worker->operation) % OPERATIONS;
        void *object = atomic_load(&worker->object);
        say("  %s (tid %d) is in %s for %.1f s", worker->name, atomic_load(&worker->tid),
            operation_names[operation], (double)(now - atomic_load(&worker->since_ns)) / 1e9);
        if (object)
            say(", on subscription %p", object);
        say("\n");
    }
}

bool watchdog_hang(void)
{
    uint64_t now = now_ns();
    struct worker *first = NULL;
    unsigned overdue = 0;
    for (size_t i = 0; i < WORKERS_MAX; i++) {
        if (!is_overdue(&workers[i], now))
            continue;
        /* A publish hangs for its own reason more often than the rest. */
        if (!first || atomic_load(&workers[i].operation) == OPERATION_PUBLISH)
            first = &workers[i];
        overdue++;
    }
    if (overdue == 0 || text[0])
        return overdue > 0;
    dump_take();
    uint32_t operation = atomic_load(&first->operation) % OPERATIONS;
    say("HANG: %u calls have not returned in %u s; %u zombies wait to be reaped\n", overdue,
        world.options.patience, count_zombies());
    name_threads(now);
    char reason[512] = "";
    if (world.subject->explain) {
        world.subject->explain(world.bus, reason, sizeof reason);
        say("  %s says: %s\n", world.subject->name, reason);
        translate(reason, now);
    }
    verdict_violated(guarantee_of(operation), "%s hangs in %s", first->name,
                     operation_names[operation]);
    return true;
}

/* ------------------------------------------------------------------------------------ crashes */

static const char *crash_name(int signal)
{
    return signal == SIGSEGV   ? "SIGSEGV"
           : signal == SIGBUS  ? "SIGBUS"
           : signal == SIGILL  ? "SIGILL"
           : signal == SIGFPE  ? "SIGFPE"
           : signal == SIGABRT ? "SIGABRT"
                               : "signal";
}

/* Not safe by the book (stdio in a handler): the process is lost anyway. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    (void)context;
    static _Atomic bool already;
    if (atomic_exchange(&already, true))
        for (;;)
            pause();
    alarm(5);
    signal(SIGALRM, SIG_DFL);
    struct worker *worker = self;
    dprintf(STDERR_FILENO,
            "\nVIOLATION of G6 deferred freeing: %s at %p, by %s in %s (seed %" PRIu64 ")\n",
            crash_name(number), info->si_addr, worker ? worker->name : "a thread of the subject",
            worker ? operation_names[atomic_load(&worker->operation) % OPERATIONS] : "its own",
            world.options.seed);
    dump_take();
    dump_print(stderr);
    fflush(NULL);
    children_kill();
    _exit(EXIT_VIOLATION);
}

void watchdog_init(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    static char stack[1 << 16];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
#else
    (void)on_crash;
#endif
}
