/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * clone for exitbus_spawn: see spawn_clone.h.
 *
 * The child's handlers must be reset before it unblocks its signals: they would run in the parent's
 * memory. To look at each of the 64 signals from user space, as posix_spawn() does, takes 64
 * system calls; clone3() does it by the way (CLONE_CLEAR_SIGHAND, Linux 5.5). It has
 * no wrapper in the libc, and the first instructions of a child on another stack can't be in C.
 *
 * Emulators and older container run-times refuse clone3(), in various ways; then clone() is used,
 * for good. clone() has one argument for two results: the pid that the parent's namespace has for
 * the child (CLONE_PARENT_SETTID), or a pidfd (CLONE_PIDFD). The pid it is, if pidfd_open() can be
 * had for the other; a filter that is older than clone3() may refuse pidfd_open(), too.
 */
#include "process/spawn_clone.h"
#include "base/sys.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * ThreadSanitizer takes every clone() for a fork and from then on ignores what the child does to
 * synchronise. With shared memory that would be this very thread: go past its interceptor.
 */
#ifdef ATOMIC_TSAN
int __clone(int (*)(void *), void *, int, void *, ...);
#define clone __clone
#endif

#if defined(CLONE_CLEAR_SIGHAND) && defined(SYS_clone3)

/* The system call, and in the child main(argument). All registers but the result's survive it. */
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

/* Not a filter's answer, which may be any. */
static bool lacks_something(long result)
{
    return result == -EAGAIN || result == -ENOMEM || result == -EMFILE || result == -ENFILE ||
           result == -EINTR;
}

static int clone_new(struct child *child, char *stack, struct process *made)
{
    static _Atomic bool refused;
    if (load_relaxed(&refused))
        return -ENOSYS;
    const struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND | CLONE_PARENT_SETTID |
                 (made->pidfd_by_clone ? CLONE_PIDFD : 0),
        .pidfd = (uintptr_t)&made->pidfd,
        .parent_tid = (uintptr_t)&child->pid,
        .stack = (uintptr_t)stack,
        .stack_size = CHILD_STACK,
    };
    child->named = child->handlers_reset = true;
    long result = clone3(&args, sizeof args, child_main, child);
    if (result < 0 && !lacks_something(result))
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

/* Of pidfd_open(): the kernel or a filter does not have it. Otherwise it lacks something. */
static bool is_refused(int result)
{
    return result == -ENOSYS || result == -EPERM || result == -EACCES || result == -EINVAL;
}

static int clone_old(struct child *child, char *stack, struct process *made)
{
    /* Tried with a pidfd of this process: once the child runs, it would be too late to fail. */
    int tried = sys_pidfd_open(getpid());
    if (tried < 0 && !is_refused(tried))
        return tried;
    if (tried >= 0)
        sys_close(tried);
    child->named = tried >= 0;
    child->handlers_reset = false;
    child->pid = 0;
    made->pid = clone(child_main, stack + CHILD_STACK,
                      CLONE_VM | CLONE_VFORK | (child->named ? CLONE_PARENT_SETTID : CLONE_PIDFD),
                      child, child->named ? &child->pid : &made->pidfd);
    return made->pid < 0 ? -errno : 0;
}

int spawn_clone(struct child *child, char *stack, struct process *made)
{
    made->pidfd = -1;
    int result = clone_new(child, stack, made);
    /* Also if it lacked something: a filter may say so, too. If not, clone() lacks the same. */
    return result < 0 ? clone_old(child, stack, made) : 0;
}
