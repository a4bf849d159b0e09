/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * clone for exitbus_spawn: see spawn_clone.h.
 *
 * The child's handlers must be reset before it unblocks its signals: they would run in the parent's
 * memory. To look at each of the 64 signals from user space, as posix_spawn() does, takes 64
 * system calls; clone3() does it by the way (CLONE_CLEAR_SIGHAND, Linux 5.5). It has
 * no wrapper in the libc, and the first instructions of a child on another stack can't be in C.
 *
 * Emulators and older container run-times refuse clone3(), in various ways; then everybody uses
 * clone(), for good.
 */
#include "spawn_clone.h"
#include "platform.h"

#include <errno.h>
#include <linux/sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>

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

pid_t spawn_clone(int (*main)(void *), void *argument, char *stack, size_t stack_bytes, pid_t *pid,
                  int *pidfd)
{
    static _Atomic bool refused;
    if (atomic_load_explicit(&refused, memory_order_relaxed))
        return -ENOSYS;
    const struct clone_args args = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND | CLONE_PARENT_SETTID |
                 (pidfd ? CLONE_PIDFD : 0),
        .pidfd = (uintptr_t)pidfd,
        .parent_tid = (uintptr_t)pid,
        .stack = (uintptr_t)stack,
        .stack_size = stack_bytes,
    };
    long result = clone3(&args, sizeof args, main, argument);
    if (result < 0 && !lacks_something(result)) {
        atomic_store_explicit(&refused, true, memory_order_relaxed);
        return -ENOSYS;
    }
    return (pid_t)result;
}

#else

pid_t spawn_clone(int (*main)(void *), void *argument, char *stack, size_t stack_bytes, pid_t *pid,
                  int *pidfd)
{
    (void)main, (void)argument, (void)stack, (void)stack_bytes, (void)pid, (void)pidfd;
    return -ENOSYS;
}

#endif
