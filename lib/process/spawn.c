/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Start a child whose exit can't be missed.
 *
 * How it works
 *   - One transaction: reserve what the exit will need (handover.h), run the child, then commit, or
 *     abort without a trace.
 *   - The child is made with CLONE_VM and CLONE_VFORK (spawn_clone.c). It shares the parent's
 *     memory while the calling thread is suspended. When all that can fail is done, it announces
 *     itself: it links the prepared subscription under its pid. Then it calls execve().
 *   - Where an emulator copies memory instead, a plain fork does (spawn_forked.c).
 *
 * Why it is right
 *  1. The subscription is linked before exec. So the exit of even the fastest child finds it.
 *  2. Until exec the child has no exit signal. The kernel keeps such a child from waitpid(-1) and
 *     waitid(P_ALL). So no reaper sees a child that fails to exec, and the error is returned.
 *  3. The child passes for its parent: for the fork guard, for liburcu, and for thread-local data.
 *  4. No child is made only to find out how memory is: the first child of a new pid namespace is
 *     its init.
 *
 * It relies on reaper.h for a reaper that lives as long as the child is on its way.
 */
#include "process/spawn.h"
#include "process/spawn_attributes.h"
#include "process/spawn_clone.h"
#include "process/spawn_forked.h"
#include "process/spawn_signals.h"

#include "base/sys.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

/* ------------------------------------------------------------------------- the child's memory */

/*
 * Not in the caller's frame, because a thread may have 16 KiB of stack in all. One mapping is kept
 * for the next spawn. So a process with one spawning thread maps memory once.
 */
struct child_memory {
    char buffer[PATH_MAX]; /* below the stack, so an overflow hits it first */
    _Alignas(16) char stack[CHILD_STACK];
};

static _Atomic(struct child_memory *) spare_memory;

static struct child_memory *child_memory_alloc(void)
{
    /* Acquire; pairs with child_memory_free(). */
    struct child_memory *memory = exchange_acquire(&spare_memory, NULL);
    if (memory)
        return memory;
    memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void child_memory_free(struct child_memory *memory)
{
    /* Release; pairs with child_memory_alloc(). Acquire; pairs with itself, for the munmap(). */
    memory = exchange_acq_rel(&spare_memory, memory);
    if (memory)
        munmap(memory, sizeof *memory);
}

/* ------------------------------------------------------------------------------ run the child */

static _Atomic bool memory_is_copied; /* seen once, and for good: this runs in an emulator */

static int run_either(struct child *child, char *stack, struct process *process)
{
    if (!load_relaxed(&memory_is_copied)) {
        bool copied = false;
        int result = spawn_cloned(child, stack, process, &copied);
        if (!copied)
            return result;
        store_relaxed(&memory_is_copied, true);
    }
    return spawn_forked(child, stack, process);
}

/* Run the child until exec. Returns 0, or -errno with no child left. */
static int run(struct child *child, struct process *process)
{
    child->report.step = EXITBUS_SPAWN_STEP_PROCESS;
    struct child_memory *memory = child_memory_alloc();
    if (!memory)
        return -ENOMEM;
    child->buffer = memory->buffer;
    int saved = errno;
    uint64_t before = 0;
    int result = spawn_block_signals(&before);
    if (result < 0)
        child->report.step = EXITBUS_SPAWN_STEP_SIGNALS;
    if (result == 0) {
        spawn_choose_mask(child, before);
        spawn_choose_dispositions(child, process);
        result = run_either(child, memory->stack, process);
        spawn_restore_signals(before);
    }
    errno = saved;
    child_memory_free(memory);
    return result;
}

/* ----------------------------------------------------------------------------- the transaction */

/* Returns PATH of an environment, or NULL. */
static const char *path_in(char *const *environment)
{
    for (; *environment; environment++)
        if (strncmp(*environment, "PATH=", 5) == 0)
            return *environment + 5;
    return NULL;
}

/* Returns the PATH along which the program is looked up; NULL: it is not. */
static const char *path_to_search(uint32_t flags, const char *path, char *const *envp)
{
    if (!(flags & EXITBUS_SPAWN_SEARCH_PATH) || path[0] == '\0' || strchr(path, '/'))
        return NULL;
    const char *search = flags & EXITBUS_SPAWN_CHILD_PATH ? path_in(envp) : getenv("PATH");
    return search ? search : "/bin:/usr/bin";
}

/* Give the caller a pidfd of its own. */
static void hand_out_pidfd(const struct exitbus_spawn_options *options, int pidfd)
{
    if (attributes_set(options) & EXITBUS_ATTRIBUTE_PIDFD)
        *options->attributes->pidfd = pidfd < 0 ? pidfd : sys_duplicate(pidfd, LOWEST_FD);
}

/* Run a child for which everything is reserved, and commit or abort. Returns 0 or -errno. */
static int run_reserved(struct child *child, pid_t *pid)
{
    struct process process = {.pidfd = -1};
    int result = run(child, &process);
    if (result < 0) {
        handover_abort(&child->handover);
        return result;
    }
    *pid = process.pid;
    hand_out_pidfd(child->options, process.pidfd);
    handover_commit(&child->handover, process.pidfd);
    return 0;
}

/*
 * Make the arguments of a shell that runs the program as a script: all but the program's own name.
 * Returns their size; 0: there is no memory.
 */
static size_t make_shell(struct child *child)
{
    char *const *argv = child->options->argv;
    size_t count = 1;
    while (argv[count])
        count++;
    size_t size = (count + 2) * sizeof *child->shell;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    child->shell = memory;
    child->shell[0] = "/bin/sh";
    for (size_t i = 1; i <= count; i++) /* with the NULL at the end; [1] is for the program */
        child->shell[i + 1] = argv[i];
    return size;
}

static int run_with_shell(struct child *child, pid_t *pid)
{
    if (!(child->options->flags & EXITBUS_SPAWN_SHELL))
        return run_reserved(child, pid);
    size_t size = make_shell(child);
    if (size == 0) {
        child->report.step = EXITBUS_SPAWN_STEP_PROCESS;
        handover_abort(&child->handover);
        return -ENOMEM;
    }
    int result = run_reserved(child, pid);
    munmap((void *)child->shell, size);
    return result;
}

int spawn(struct exitbus *bus, const struct exitbus_spawn_options *options,
          const struct spawn_results *results, struct exitbus_spawn_report *report)
{
    struct child child = {.options = options,
                          .path = options->path ? options->path : options->argv[0],
                          .envp = options->envp ? options->envp : environ,
                          .parent = getpid(),
                          .gate_fd = -1,
                          .report_fd = -1};
    child.search = path_to_search(options->flags, child.path, child.envp);
    bool direct = options->flags & EXITBUS_SPAWN_DIRECT;
    enum handover_wants wants = results->process ? direct ? HANDOVER_DIRECT : HANDOVER_PROCESS
                                : results->subscription ? HANDOVER_SUBSCRIPTION
                                                        : HANDOVER_NOTHING;
    pid_t pid;
    int result = handover_reserve(&child.handover, bus, wants, &child.report.step);
    if (result == 0)
        result = run_with_shell(&child, &pid);
    if (result == 0) {
        if (results->pid)
            *results->pid = pid;
        if (results->subscription)
            *results->subscription = child.handover.subscription;
        if (results->process)
            *results->process = child.handover.process;
    }
    *report = child.report;
    return result;
}
