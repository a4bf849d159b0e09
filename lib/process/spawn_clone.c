/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child in the caller's memory: see spawn_clone.h.
 *
 * How it works
 *   - clone3() makes the child and resets its signal handlers (CLONE_CLEAR_SIGHAND, Linux 5.5).
 *     The handlers must be reset before the child unblocks signals: they would run in the parent's
 *     memory. To look at each of 64 signals takes as many system calls.
 *   - clone3() has no wrapper in the libc, and the first instructions of a child on another stack
 *     can't be in C.
 *   - Where clone3() is refused, which emulators and older container run-times do in various ways,
 *     clone() is used from then on. It has one argument for two results: the pid as the parent has
 *     it (CLONE_PARENT_SETTID), or a pidfd (CLONE_PIDFD). The pid is asked for, if pidfd_open()
 *     works; a filter older than clone3() may refuse that, too.
 *
 * Why it is right
 *  1. Until exec the child has no exit signal, so no reaper sees it. Only __WCLONE finds it.
 *  2. Whether it has exec'd is asked of the kernel: an ordinary child has.
 *  3. A child in a copy of the memory finds that its pid was not written, and exits at once. It
 *     leaves `began` false.
 *  4. Once the child has exec'd, nothing fails any more: it can't be undone, and its exit will be
 *     published. Where no pidfd is to be had, the reaper tries again, and looks at the child by a
 *     timer meanwhile (child_watch_poll).
 */
#include "process/spawn_clone.h"
#include "base/probe.h"
#include "base/sys.h"
#include "process/spawn_attributes.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* For waitid(): children without an exit signal, and no others. */
#define WAIT_CLONE ((int)__WCLONE)

/*
 * ThreadSanitizer takes every clone() for a fork, and ignores how the child synchronises. A child
 * in shared memory passes for this thread. So its interceptor is avoided.
 */
#ifdef ATOMIC_TSAN
int __clone(int (*)(void *), void *, int, void *, ...);
#define clone __clone
#endif

/* Is it an error of a kernel that has the call, but is short of something? */
static bool lacks_something(long result)
{
    return result == -EAGAIN || result == -ENOMEM || result == -EMFILE || result == -ENFILE ||
           result == -EINTR;
}

#if defined(CLONE_CLEAR_SIGHAND) && defined(SYS_clone3)

/* Make the system call; in the child call main(argument). All registers but one survive it. */
static long clone3(const struct clone_args *args, size_t size, int (*main)(void *), void *argument)
{
    long result;
#if defined(__x86_64__)
    __asm__ volatile("syscall\n\t"
                     "test %%rax,%%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[argument],%%rdi\n\t"
                     "call *%[main]\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone3), "D"(args),
                       "S"(size), [main] "r"(main), [argument] "r"(argument)
                     : "rcx", "r11", "cc", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register size_t x1 __asm__("x1") = size;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0,1f\n\t"
                     "mov x0,%[argument]\n\t"
                     "blr %[main]\n\t"
                     "brk 0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(number), "r"(x1), [main] "r"(main), [argument] "r"(argument)
                     : "cc", "memory");
    result = x0;
#elif defined(__riscv)
    register long number __asm__("a7") = SYS_clone3;
    register long a0 __asm__("a0") = (long)args;
    register size_t a1 __asm__("a1") = size;
    __asm__ volatile("ecall\n\t"
                     "bnez a0,1f\n\t"
                     "mv a0,%[argument]\n\t"
                     "jalr %[main]\n\t"
                     "ebreak\n"
                     "1:"
                     : "+r"(a0)
                     : "r"(number), "r"(a1), [main] "r"(main), [argument] "r"(argument)
                     : "memory");
    result = a0;
#else
    (void)args, (void)size, (void)main, (void)argument;
    result = -ENOSYS;
#endif
    return result;
}

static int clone_new(struct child *child, char *stack, struct process *made)
{
    static _Atomic bool refused;
    if (load_relaxed(&refused))
        return -ENOSYS;
    uint64_t namespaces = attributes_clone_flags(child->options);
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND | CLONE_PARENT_SETTID | namespaces |
                 (made->pidfd_by_clone ? (uint64_t)CLONE_PIDFD : 0),
        .pidfd = (uintptr_t)&made->pidfd,
        .parent_tid = (uintptr_t)&child->pid,
        .stack = (uintptr_t)stack,
        .stack_size = CHILD_STACK,
    };
    child->named = child->handlers_reset = true;
    long result = -EINVAL;
    if ((attributes_set(child->options) & EXITBUS_ATTRIBUTE_CGROUP) && !child->enters_cgroup) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)child->options->attributes->cgroup_fd;
        child->in_cgroup = true;
        result = clone3(&args, sizeof args, child_main, child);
        child->in_cgroup = result >= 0;
        args.flags &= ~(unsigned long long)CLONE_INTO_CGROUP;
        args.cgroup = 0;
    }
    if (result < 0 &&
        !lacks_something(result)) /* the child enters the cgroup itself, or says why */
        result = clone3(&args, sizeof args, child_main, child);
    /* An error that namespaces may have caused says nothing of the call. */
    if (result < 0 && !lacks_something(result) && !namespaces)
        store_relaxed(&refused, true);
    made->pid = (pid_t)result;
    return result < 0 ? (int)result : 0;
}

#else

static int clone_new(struct child *child, char *stack, struct process *made)
{
    (void)child, (void)stack, (void)made;
    return -ENOSYS;
}

#endif

/* Is it an error of pidfd_open() because the kernel or a filter refuses the call? */
static bool is_refused(int result)
{
    return result == -ENOSYS || result == -EPERM || result == -EACCES || result == -EINVAL;
}

static int clone_old(struct child *child, char *stack, struct process *made)
{
    /* Try it with this process: when the child runs, it is too late to fail. */
    int tried = sys_pidfd_open(getpid());
    if (tried < 0 && !is_refused(tried))
        return tried;
    if (tried >= 0)
        sys_close(tried);
    child->named = tried >= 0;
    child->handlers_reset = false;
    child->pid = 0;
    made->pid = clone(child_main, stack + CHILD_STACK,
                      CLONE_VM | CLONE_VFORK | (int)attributes_clone_flags(child->options) |
                          (child->named ? CLONE_PARENT_SETTID : CLONE_PIDFD),
                      child, child->named ? &child->pid : &made->pidfd);
    return made->pid < 0 ? -errno : 0;
}

/*
 * Run child_main(child). Sets child->pid, where the clone can name it, and child->handlers_reset,
 * before the child runs. Returns 0 or -errno.
 */
static int make_child(struct child *child, char *stack, struct process *made)
{
    made->pidfd = -1;
    int result = clone_new(child, stack, made);
    /* No descriptor for the pidfd: it is better not to start a child whose pidfd may find none. */
    if (result == -EMFILE || result == -ENFILE)
        return result;
    /* Tried after any other error, since a filter may give any. */
    return result < 0 ? clone_old(child, stack, made) : 0;
}

/* ------------------------------------------------------------------------ when it has returned */

/*
 * Has the child exec'd? Until exec, and only until then, it is a child without an exit signal.
 * A child that has exec'd, and has made us its tracer since (PTRACE_TRACEME), is found under any
 * options. So the first question is whether it is an ordinary child.
 * Where waitid() is refused, a child that has noted the exec step is taken to have exec'd.
 */
static bool has_execed(const struct child *child, const struct process *process)
{
    int ordinary = process_find(process, 0);
    int unborn = ordinary == 0 ? process_find(process, WAIT_CLONE) : 0;
    if (ordinary < 0 || unborn < 0)
        return child->report.step == EXITBUS_SPAWN_STEP_EXEC;
    return ordinary || !unborn;
}

/* Open the pidfd, unless the clone has, or the child was reaped (-ESRCH), or there is none to be
 * had: then the pidfd is negative. */
static void open_pidfd(struct process *process)
{
    int result = process->pidfd;
    for (int attempt = 0; attempt < SPAWN_ATTEMPTS && result < 0 && result != -ESRCH; attempt++)
        result = process_open_pidfd(process->pid);
    process->pidfd = result;
}

/* Move the pidfd, for which the kernel takes the lowest number. If no other is free it stays. */
static void move_off_stdio(struct process *process)
{
    if (process->pidfd < 0 || process->pidfd >= LOWEST_FD)
        return;
    int high = sys_duplicate(process->pidfd, LOWEST_FD);
    if (high < 0)
        return;
    sys_close(process->pidfd);
    process->pidfd = high;
}

/* Complete what a hand-over needs: point 4. */
static void complete(struct child *child, struct process *process)
{
    /* A child without its pid has not announced itself. */
    if (!child->handover.announced)
        handover_announce(&child->handover, process->pid);
    open_pidfd(process);
    move_off_stdio(process);
}

int spawn_cloned(struct child *child, char *stack, struct process *process, bool *copied)
{
    int result = make_child(child, stack, process);
    if (result < 0) {
        bool namespaces = attributes_clone_flags(child->options) != 0;
        if (namespaces && !lacks_something(result))
            child->report.step = EXITBUS_SPAWN_STEP_NAMESPACES;
        *copied = result == -EINVAL && !namespaces; /* the error that qemu's user mode gives */
        return result;
    }
    probe(PROBE_SPAWN_CLONED);
    if (!child->report.error && has_execed(child, process)) {
        complete(child, process);
        return 0;
    }
    bool exited = process_reap(process->pid, WAIT_CLONE);
    process_close_pidfd(process);
    /* Once a cgroup was killed (cgroup.kill), kernels that count kills end whatever is cloned into
     * it, for good. Seen with Linux 6.18. */
    if (!exited && !child->began && child->in_cgroup) {
        child->in_cgroup = false;
        child->enters_cgroup = true;
        return spawn_cloned(child, stack, process, copied);
    }
    *copied = exited && !child->began;
    return child->report.error ? -child->report.error : -EINTR; /* killed before it could exec */
}
