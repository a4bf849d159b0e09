/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * exitbus_spawn: start a child whose exit can't be missed.
 *
 * One transaction: reserve what the exit will need (reaper, watch, subscription), run the child,
 * then commit, or abort without a trace.
 *
 * The oldest race of all is the child that has exited before its parent has subscribed. Here the
 * child subscribes for its parent: it is made with CLONE_VM and CLONE_VFORK, so it shares the
 * parent's memory while the calling thread is suspended. When it has done what can fail, it inserts
 * the prepared subscription under its pid (a few atomic instructions, no allocation) and calls
 * execve.
 *
 * Until exec the child has no exit signal. The kernel keeps such a child from waitpid(-1) and
 * waitid(P_ALL), and makes it an ordinary child when exec succeeds. So a child that fails to exec
 * is seen by nobody but this call, no reaper publishes it, and the error is simply returned.
 *
 * The child is the parent as far as the fork guard, liburcu and thread-local storage are concerned.
 *
 * Emulators (valgrind, qemu's user mode) turn such a clone into a fork that copies memory, or
 * refuse it. A child in a copy finds no pid there and gives up; the next one is made by a plain
 * fork, and waits at a pipe until the parent has subscribed. It has an exit signal from the
 * beginning (qemu insists): if it fails to exec, an ALL reaper publishes its exit, besides the
 * error that is returned. No child is made only to find this out: the first child of a new pid
 * namespace is its init.
 */
#include "base/cancel.h"
#include "base/sys.h"
#include "process/reaper.h"
#include "process/spawn_child.h"
#include "process/spawn_clone.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_CLONE ((int)__WCLONE) /* children without an exit signal, and no others */
/* How often a call is made again that fails though it can't: by a filter, it fails for ever. */
#define ATTEMPTS 16
/* Out of the way of the descriptors that a host is likely to use, and never standard ones. */
#define HIGH_FD 200
#define LOWEST_FD 3

#define SPAWN_FLAGS                                                                                \
    (EXITBUS_SPAWN_SEARCH_PATH | EXITBUS_SPAWN_SETSID | EXITBUS_SPAWN_SETPGROUP |                  \
     EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_SIGDEFAULT | EXITBUS_SPAWN_INHERIT_SIGMASK |            \
     EXITBUS_SPAWN_INHERIT_IGNORED)

extern char **environ;

/* ---------------------------------------------------------------------------------- arguments */

static bool action_is_valid(const struct exitbus_spawn_action *action)
{
    if (action->fd < 0)
        return false;
    switch (action->kind) {
    case EXITBUS_SPAWN_OPEN:
        return action->path != NULL;
    case EXITBUS_SPAWN_DUP2:
        return action->source_fd >= 0;
    case EXITBUS_SPAWN_CLOSE:
        return true;
    default:
        return false;
    }
}

static int check_options(const struct exitbus_spawn_options *options,
                         struct exitbus_spawn_report *report)
{
    const uint32_t either_mask = EXITBUS_SPAWN_SIGMASK | EXITBUS_SPAWN_INHERIT_SIGMASK;
    if (!options->argv || !options->argv[0] || (options->flags & ~SPAWN_FLAGS) ||
        (options->action_count > 0 && !options->actions) ||
        (options->flags & either_mask) == either_mask ||
        ((options->flags & EXITBUS_SPAWN_SIGMASK) && !options->signal_mask) ||
        ((options->flags & EXITBUS_SPAWN_SIGDEFAULT) && !options->signal_default))
        return -EINVAL;
    for (size_t i = 0; i < options->action_count; i++)
        if (!action_is_valid(&options->actions[i])) {
            report->step = EXITBUS_SPAWN_STEP_ACTION;
            report->index = i;
            return -EINVAL;
        }
    return 0;
}

/* The caller's PATH if the program is looked up there; NULL if not. */
static const char *path_to_search(uint32_t flags, const char *path)
{
    if (!(flags & EXITBUS_SPAWN_SEARCH_PATH) || path[0] == '\0' || strchr(path, '/'))
        return NULL;
    const char *search = getenv("PATH");
    return search ? search : "/bin:/usr/bin";
}

/* ------------------------------------------------------------------------- the child's memory */

/*
 * The child's stack is not in the caller's frame: a thread may have 16 KiB in all. One mapping
 * stays for the next spawn, so that a process with one spawning thread maps memory once.
 */
struct child_memory {
    char buffer[PATH_MAX]; /* below the stack: what an overflow would meet first */
    _Alignas(16) char stack[CHILD_STACK];
};

static _Atomic(struct child_memory *) spare_memory;

static struct child_memory *child_memory_take(void)
{
    /* Acquire; pairs with child_memory_give(). */
    struct child_memory *memory = exchange_acquire(&spare_memory, NULL);
    if (memory)
        return memory;
    memory = mmap(NULL, sizeof *memory, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static void child_memory_give(struct child_memory *memory)
{
    /* Release; pairs with child_memory_take(). Acquire, for the one that is unmapped. */
    memory = exchange_acq_rel(&spare_memory, memory);
    if (memory)
        munmap(memory, sizeof *memory);
}

/* ---------------------------------------------------------------------------- what became of it */

/* Is there a child of that pid and of the kind that the options stand for? -1: not to be had. */
static int find_child(pid_t pid, int options)
{
    siginfo_t info;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int result = sys_waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | options, NULL);
        if (result >= 0 || result == -ECHILD)
            return result >= 0;
    }
    return -1;
}

/*
 * After a clone without an error: has the child exec'd? Until then, and only then, it is a child
 * without an exit signal, for which __WCLONE stands. But one that has exec'd, and has made us its
 * tracer since (PTRACE_TRACEME), is found under any options: so ask first whether it is an ordinary
 * child. Where waitid() is refused, a child that came as far as exec is taken for one that did.
 */
static bool has_execed(const struct child *child, pid_t pid)
{
    int ordinary = find_child(pid, 0);
    int unborn = ordinary == 0 ? find_child(pid, WAIT_CLONE) : 0;
    if (ordinary < 0 || unborn < 0)
        return child->report.step == EXITBUS_SPAWN_STEP_EXEC;
    return ordinary || !unborn;
}

/* Returns whether it has left by itself. Where waitid() is refused, a zombie stays. */
static bool reap_unborn(pid_t pid, int options)
{
    siginfo_t info;
    int result = -1;
    for (int attempt = 0; attempt < ATTEMPTS && result < 0 && result != -ECHILD; attempt++)
        result = sys_waitid(P_PID, pid, &info, WEXITED | options, NULL);
    return result >= 0 && info.si_code == CLD_EXITED;
}

static void close_pidfd(struct process *process)
{
    if (process->pidfd >= 0)
        sys_close(process->pidfd);
    process->pidfd = -1;
}

/* ----------------------------------------------------------------------- where memory is shared */

/* A clone that names the child can't open its pidfd as well. -ESRCH: somebody has reaped it. */
static int open_pidfd(struct process *process)
{
    int result = process->pidfd;
    for (int attempt = 0; attempt < ATTEMPTS && result < 0 && result != -ESRCH; attempt++)
        result = sys_pidfd_open(process->pid);
    process->pidfd = result;
    return result;
}

/* The kernel takes the lowest number there is for a pidfd. If no other is free it stays there. */
static void move_off_stdio(struct process *process)
{
    if (process->pidfd < 0 || process->pidfd >= LOWEST_FD)
        return;
    int high = fcntl(process->pidfd, F_DUPFD_CLOEXEC, LOWEST_FD);
    if (high < 0)
        return;
    sys_close(process->pidfd);
    process->pidfd = high;
}

/* The child is there: what its parent must have done before it hands it over. */
static int complete(struct child *child, struct process *process)
{
    /* The child could not, if it does not know its pid. Nobody has been told of it yet. */
    if (!child->announced)
        child_announce(child, process->pid);
    int result = open_pidfd(process);
    if (result >= 0 || result == -ESRCH) {
        move_off_stdio(process);
        return 0;
    }
    syscall(SYS_kill, process->pid, SIGKILL);
    reap_unborn(process->pid, (int)__WALL);
    child->report.step = EXITBUS_SPAWN_STEP_PROCESS;
    return result;
}

static _Atomic bool memory_is_copied;

/* Returns 0 or a negative errno, with no child left; *again: memory is copied here. */
static int run_shared(struct child *child, char *stack, struct process *process, bool *again)
{
    int result = spawn_clone(child, stack, process);
    if (result < 0) {
        *again = result == -EINVAL; /* so qemu's user mode says it */
        return result;
    }
    if (!child->report.error && has_execed(child, process->pid))
        return complete(child, process);
    bool left = reap_unborn(process->pid, WAIT_CLONE);
    close_pidfd(process);
    *again = left && !child->began;
    return child->report.error ? -child->report.error : -EINTR; /* killed before it could exec */
}

/* ----------------------------------------------------------------------- where memory is copied */

static bool is_named(const struct exitbus_spawn_options *options, int fd)
{
    for (size_t i = 0; i < options->action_count; i++)
        if (options->actions[i].fd == fd ||
            (options->actions[i].kind == EXITBUS_SPAWN_DUP2 && options->actions[i].source_fd == fd))
            return true;
    return false;
}

/* Each attempt begins behind the last, so there are no more of them than descriptors named. */
static int duplicate_unnamed(const struct exitbus_spawn_options *options, int fd, int from)
{
    int copy;
    while ((copy = fcntl(fd, F_DUPFD_CLOEXEC, from)) >= 0 && is_named(options, copy)) {
        sys_close(copy);
        from = copy + 1;
    }
    return copy;
}

/*
 * A descriptor in the place of this one, which is closed: no standard one and none that an action
 * names, or the child would wait at something else. -EMFILE if there is none.
 */
static int move_away(const struct exitbus_spawn_options *options, int fd)
{
    int copy = duplicate_unnamed(options, fd, HIGH_FD);
    if (copy < 0)
        copy = duplicate_unnamed(options, fd, LOWEST_FD);
    if (copy < 0 && fd >= LOWEST_FD && !is_named(options, fd))
        return fd;
    sys_close(fd);
    return copy >= 0 ? copy : -EMFILE;
}

static void close_pipe(int fds[2])
{
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            sys_close(fds[i]);
        fds[i] = -1;
    }
}

static int open_pipe(const struct exitbus_spawn_options *options, int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) < 0) {
        fds[0] = fds[1] = -1;
        return -errno;
    }
    for (int i = 0; i < 2; i++)
        fds[i] = move_away(options, fds[i]);
    return fds[0] < 0 ? fds[0] : fds[1] < 0 ? fds[1] : 0;
}

/* The child waits: what its parent does in its place, and then lets it go on. */
static int open_gate(struct child *child, struct process *process, int gate)
{
    process->pidfd = sys_pidfd_open(process->pid);
    /* ESRCH: it has given up, and an ALL reaper has collected it; it has reported why. */
    if (process->pidfd < 0 && process->pidfd != -ESRCH)
        return process->pidfd;
    if (!mutant(SPAWN_SUBSCRIBES_LATE))
        child_announce(child, process->pid);
    return write(gate, "", 1) == 1 ? 0 : -errno;
}

/* What the child has reported; its end is closed by exec. False: nothing. */
static bool read_report(int fd, struct exitbus_spawn_report *report)
{
    ssize_t got = -1;
    for (int attempt = 0; attempt < ATTEMPTS && got < 0; attempt++)
        got = read(fd, report, sizeof *report);
    return got == sizeof *report;
}

static int run_forked(struct child *child, char *stack, struct process *process, int gate[2],
                      int pipe_back[2])
{
    child->named = child->handlers_reset = child->began = false;
    child->gate_fd = gate[0];
    child->gate_other_fd = gate[1];
    child->report_fd = pipe_back[1];
    process->pidfd = -1;
    child->report.step = EXITBUS_SPAWN_STEP_PROCESS;
    process->pid = clone(child_main, stack + CHILD_STACK, SIGCHLD, child);
    if (process->pid < 0)
        return -errno;
    int result = open_gate(child, process, gate[1]);
    sys_close(gate[1]);
    sys_close(pipe_back[1]);
    gate[1] = pipe_back[1] = -1;
    struct exitbus_spawn_report report;
    if (read_report(pipe_back[0], &report) && result == 0) {
        child->report = report;
        result = -report.error;
    }
    if (result == 0)
        return 0;
    reap_unborn(process->pid, 0);
    close_pidfd(process);
    return result;
}

static int run_copied(struct child *child, char *stack, struct process *process)
{
    int gate[2] = {-1, -1}, pipe_back[2] = {-1, -1};
    int result = open_pipe(child->options, gate);
    if (result == 0)
        result = open_pipe(child->options, pipe_back);
    if (result == 0)
        result = run_forked(child, stack, process, gate, pipe_back);
    close_pipe(gate);
    close_pipe(pipe_back);
    return result;
}

/* ---------------------------------------------------------------------------------- run a child */

/* Signals blocked by system call: the libc's function would leave its own two unblocked. */
static int block_signals(uint64_t *before)
{
    const uint64_t all = ~(uint64_t)0;
    return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, before, SIGNAL_SET_BYTES) < 0 ? -errno
                                                                                        : 0;
}

static void restore_signals(uint64_t before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, SIGNAL_SET_BYTES);
}

static int run_either(struct child *child, char *stack, struct process *process)
{
    if (!load_relaxed(&memory_is_copied)) {
        bool again = false;
        int result = run_shared(child, stack, process, &again);
        if (!again)
            return result;
        store_relaxed(&memory_is_copied, true);
    }
    return run_copied(child, stack, process);
}

/* The number behind the line's name; false if it is not there in full. */
static bool parse_ignored(const char *text, uint64_t *ignored)
{
    static const char name[] = "\nSigIgn:\t";
    const char *line = strstr(text, name);
    char *end;
    if (!line)
        return false;
    line += sizeof name - 1;
    errno = 0;
    *ignored = strtoull(line, &end, 16);
    return end - line == SIGNALS / 4 && errno == 0;
}

/*
 * Which signals this process ignores, by three system calls; the kernel has no call that says it of
 * more than one signal. False where /proc does not tell: it is not mounted, not ours, there is no
 * descriptor to spare, or the list of groups before it fills the buffer. Not done by the child: its
 * own part of /proc would have to be made first, which takes longer than the rest.
 */
static bool read_ignored(char buffer[PATH_MAX], uint64_t *ignored, bool *stdio_open)
{
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0L);
    if (fd < 0)
        return false;
    *stdio_open = fd >= LOWEST_FD; /* it is the lowest that was free */
    long size = syscall(SYS_read, (int)fd, buffer, (long)PATH_MAX - 1);
    sys_close((int)fd);
    buffer[size > 0 ? size : 0] = '\0';
    return size > 0 && parse_ignored(buffer, ignored);
}

static bool stdio_is_open(void)
{
    for (int fd = 0; fd < LOWEST_FD; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return false;
    return true;
}

static void choose_mask(struct child *child, uint64_t callers_mask)
{
    const struct exitbus_spawn_options *options = child->options;
    if ((options->flags & EXITBUS_SPAWN_INHERIT_SIGMASK) || mutant(SPAWN_MASK_INHERITED))
        child->signal_mask = callers_mask;
    if (options->flags & EXITBUS_SPAWN_SIGMASK)
        memcpy(&child->signal_mask, options->signal_mask, sizeof child->signal_mask);
}

/*
 * Also finds out, by the way, whether a pidfd may be made by the clone. CLONE_PIDFD takes the
 * lowest number that is free. If that is a standard one, the host may put its own there while the
 * child is on its way to exec; then the pidfd is opened afterwards, and moved.
 */
static void choose_dispositions(struct child *child, struct process *process)
{
    const struct exitbus_spawn_options *options = child->options;
    bool stdio_open = false;
    child->reset_ignored = options->flags & EXITBUS_SPAWN_INHERIT_IGNORED ? 0 : ~(uint64_t)0;
    if (child->reset_ignored == 0 && (options->flags & EXITBUS_SPAWN_SIGDEFAULT))
        memcpy(&child->reset_ignored, options->signal_default, sizeof child->reset_ignored);
    if (child->reset_ignored != 0)
        child->ignored_known = read_ignored(child->buffer, &child->ignored, &stdio_open);
    process->pidfd_by_clone = stdio_open || stdio_is_open();
}

static int run(struct child *child, struct process *process)
{
    child->report.step = EXITBUS_SPAWN_STEP_PROCESS;
    struct child_memory *memory = child_memory_take();
    if (!memory)
        return -ENOMEM;
    child->buffer = memory->buffer;
    int saved = errno;
    uint64_t before = 0;
    int result = block_signals(&before);
    if (result < 0)
        child->report.step = EXITBUS_SPAWN_STEP_SIGNALS;
    if (result == 0) {
        choose_mask(child, before);
        choose_dispositions(child, process);
        result = run_either(child, memory->stack, process);
        restore_signals(before);
    }
    errno = saved;
    child_memory_give(memory);
    return result;
}

/* ------------------------------------------------------------------------------ the transaction */

struct spawn {
    struct exitbus *bus;
    struct process process;
    struct child child;
};

/* A subscription whose pid the child will fill in. */
static int prepare_subscription(struct exitbus *bus, struct exitbus_subscription **subscription)
{
    struct exitbus_topic topic = exitbus_topic_pid(1);
    reclaim_enter();
    int result = subscription_create(&bus->core, &topic, EXITBUS_SUBSCRIBE_ONE_SHOT, subscription);
    reclaim_leave();
    if (result == 0)
        subscription_prepare(*subscription);
    return result;
}

/* All that can fail for want of something of the bus. */
static int spawn_reserve(struct spawn *spawn, bool subscribe)
{
    spawn->child.report.step = EXITBUS_SPAWN_STEP_REAPER;
    int result = reaper_spawn_begin(spawn->bus, &spawn->child.watch);
    if (result < 0 || !subscribe)
        return result;
    spawn->child.report.step = EXITBUS_SPAWN_STEP_SUBSCRIPTION;
    result = prepare_subscription(spawn->bus, &spawn->child.subscription);
    if (result < 0)
        reaper_spawn_abort(spawn->bus, spawn->child.watch);
    return result;
}

static void spawn_abort(struct spawn *spawn)
{
    if (spawn->child.subscription)
        subscription_abort(spawn->child.subscription);
    reaper_spawn_abort(spawn->bus, spawn->child.watch);
}

/* The child runs its program. */
static void spawn_commit(struct spawn *spawn)
{
    if (spawn->child.subscription)
        subscription_commit(spawn->child.subscription);
    reaper_spawn_commit(spawn->bus, spawn->child.watch, spawn->process.pidfd);
}

static int spawn_checked(struct spawn *spawn, bool subscribe)
{
    int result = spawn_reserve(spawn, subscribe);
    if (result < 0)
        return result;
    result = run(&spawn->child, &spawn->process);
    if (result == 0)
        spawn_commit(spawn);
    else
        spawn_abort(spawn);
    return result;
}

static int check_usable(struct exitbus *bus)
{
    if (bus_stale(bus))
        return -ESTALE;
    return bus_closed(bus) ? -ESHUTDOWN : 0;
}

static void fill_report(const struct exitbus_spawn_options *options,
                        const struct exitbus_spawn_report *failed, int result)
{
    if (!options->report)
        return;
    *options->report = (struct exitbus_spawn_report){0};
    if (result == 0)
        return;
    *options->report = *failed;
    options->report->error = result;
    if (failed->step != EXITBUS_SPAWN_STEP_ACTION)
        options->report->index = 0;
}

int exitbus_spawn(struct exitbus *bus, const struct exitbus_spawn_options *options, pid_t *pid,
                  struct exitbus_subscription **subscription)
{
    if (!bus || !options || !pid)
        return -EINVAL;
    struct spawn spawn = {.bus = bus,
                          .process = {.pidfd = -1},
                          .child = {.options = options,
                                    .path = options->path,
                                    .envp = options->envp ? options->envp : environ,
                                    .gate_fd = -1,
                                    .report_fd = -1}};
    struct child *child = &spawn.child;
    child->report.step = EXITBUS_SPAWN_STEP_ARGUMENTS;
    int result = check_options(options, &child->report);
    if (result == 0)
        result = check_usable(bus);
    if (result == 0) {
        if (!child->path)
            child->path = options->argv[0];
        child->search = path_to_search(options->flags, child->path);
        int cancelling = cancel_disable();
        result = spawn_checked(&spawn, subscription != NULL);
        cancel_restore(cancelling);
    }
    fill_report(options, &child->report, result);
    if (result < 0)
        return result;
    *pid = spawn.process.pid;
    if (subscription)
        *subscription = child->subscription;
    return 0;
}
