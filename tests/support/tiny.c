/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The smallest child: a static program without libc, since starting a dynamic one takes ten times
 * as long. Its first argument says what it does:
 *     N    exit with code N
 *     kN   die of signal N
 *     p    wait for a signal; after ten minutes nobody is going to send one
 *     t    make the parent the tracer (PTRACE_TRACEME), and be stopped by a signal
 *     bN   start N children that exit at once, and exit with code 0 before them or after
 *     rW   read a byte from standard input (or its end), then do W (nothing: exit with code 0)
 *     dW   be killed when the thread that has started it ends, and do W
 *     cN   sleep for a millisecond, write the CLOCK_MONOTONIC time to descriptor N, and exit
 */
#include <linux/time.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static long call(long number, long a, long b, long c)
{
    long result;
#if defined(__x86_64__)
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    result = x0;
#elif defined(__riscv)
    register long a7 __asm__("a7") = number;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
    result = a0;
#else
#error "add the system call instruction of this architecture"
#endif
    return result;
}

static int number(const char *text)
{
    int value = 0;
    while (*text >= '0' && *text <= '9')
        value = value * 10 + (*text++ - '0');
    return value;
}

static void start_children(int how_many)
{
    for (int i = 0; i < how_many; i++)
        if (call(SYS_clone, SIGCHLD, 0, 0) == 0)
            call(SYS_exit_group, 0, 0, 0);
}

/* The last thing that it does, so that whoever waits for it can tell how long that has taken. */
static void tell_time(int descriptor)
{
    const long millisecond[2] = {0, 1000000};
    long now[2];
    call(SYS_nanosleep, (long)&millisecond, 0, 0);
    call(SYS_clock_gettime, CLOCK_MONOTONIC, (long)now, 0);
    call(SYS_write, descriptor, (long)now, sizeof now);
}

__attribute__((used, noreturn)) void tiny_main(const long *stack)
{
    const char *what = stack[0] > 1 ? (const char *)stack[2] : "0";
    const long ten_minutes[2] = {600, 0};
    char byte;
    int code = 0;
    if (what[0] == 'r') {
        call(SYS_read, 0, (long)&byte, 1);
        what++;
    }
    if (what[0] == 'd') {
        call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
        what++;
    }
    switch (what[0]) {
    case 'k':
        call(SYS_kill, call(SYS_getpid, 0, 0, 0), number(what + 1), 0);
        break;
    case 'p':
        call(SYS_ppoll, 0, 0, (long)&ten_minutes);
        code = 99;
        break;
    case 't': /* makes its parent its tracer, as anti-debugging code does, and is stopped */
        call(SYS_ptrace, 0, 0, 0);
        call(SYS_kill, call(SYS_getpid, 0, 0, 0), SIGUSR1, 0);
        break;
    case 'b':
        start_children(number(what + 1));
        break;
    case 'c':
        tell_time(number(what + 1));
        break;
    default:
        code = number(what);
    }
    for (;;)
        call(SYS_exit_group, code, 0, 0);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n mov %rsp,%rdi\n and $-16,%rsp\n call tiny_main\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n mov x0,sp\n bl tiny_main\n");
#elif defined(__riscv)
__asm__(".globl _start\n_start:\n mv a0,sp\n call tiny_main\n");
#endif
