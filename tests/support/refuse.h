/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Refuse a system call from now on, as container run-times and sandboxes do, or an old kernel. */
#ifndef REFUSE_H
#define REFUSE_H

#include "threads.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* `flags`: of seccomp(2); 0 is for the calling thread. */
static inline void install_filter(struct sock_filter *code, size_t count, unsigned flags)
{
    struct sock_fprog program = {.len = (unsigned short)count, .filter = code};
    must_equal(syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L), 0);
    must_equal(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program), 0);
}

static inline void refuse_call_under(long number, int error, unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    install_filter(code, sizeof code / sizeof *code, flags);
}

static inline void refuse_call(long number, int error)
{
    refuse_call_under(number, error, 0);
}

/* In every thread of the process. */
static inline void refuse_call_everywhere(long number, int error)
{
    refuse_call_under(number, error, SECCOMP_FILTER_FLAG_TSYNC);
}

/* Children that share memory, as qemu's user mode refuses them. Threads and forks go on. */
static inline void refuse_vfork(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_VFORK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    refuse_call(SYS_clone3, ENOSYS);
    install_filter(code, sizeof code / sizeof *code, 0);
}

#endif
