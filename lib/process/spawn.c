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
 *  1. The subscription is linked before exec. So a child that exits at once does not exit before
 *     its parent has subscribed.
 *  2. Until exec the child has no exit signal. The kernel keeps such a child from waitpid(-1) and
 *     waitid(P_ALL). So no reaper sees a child that fails to exec, and the error is returned.
 *  3. The child passes for its parent: for the fork guard, for liburcu, and for thread-local data.
 *  4. No child is made only to find out how memory is: the first child of a new pid namespace is
 *     its init.
 *
 * It relies on reaper.h for a reaper that lives as long as the child is on its way.
 */
#include "process/spawn.h"
#include "process/spawn_clone.h"
#include "process/spawn_forked.h"
#include "process/spawn_signals.h"

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
    char buffer[PATH_MAX]; /* below the stack, so an overflow meets it first */
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

static _Atomic bool memory_is_copied; /* an emulator was met; stays so */

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

/* Returns the caller's PATH if the program is looked up there; else NULL. */
static const char *path_to_search(uint32_t flags, const char *path)
{
    if (!(flags & EXITBUS_SPAWN_SEARCH_PATH) || path[0] == '\0' || strchr(path, '/'))
        return NULL;
    const char *search = getenv("PATH");
    return search ? search : "/bin:/usr/bin";
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
    handover_commit(&child->handover, process.pidfd);
    return 0;
}

int spawn(struct exitbus *bus, const struct exitbus_spawn_options *options, pid_t *pid,
          struct exitbus_subscription **subscription, struct exitbus_spawn_report *report)
{
    struct child child = {.options = options,
                          .path = options->path ? options->path : options->argv[0],
                          .envp = options->envp ? options->envp : environ,
                          .gate_fd = -1,
                          .report_fd = -1};
    child.search = path_to_search(options->flags, child.path);
    int result = handover_reserve(&child.handover, bus, subscription != NULL, &child.report.step);
    if (result == 0)
        result = run_reserved(&child, pid);
    if (result == 0 && subscription)
        *subscription = child.handover.subscription;
    *report = child.report;
    return result;
}
