/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Threads of the library's own: see thread.h. */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

void thread_begin(const char *name)
{
    static const struct sched_param normal = {0};
    unsigned long cpus[1024 / sizeof(long)];
    pthread_setname_np(pthread_self(), name);
#ifdef __GLIBC__
    (void)sched_setscheduler(0, SCHED_OTHER, &normal);
#else /* musl's refuses everything */
    (void)syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &normal);
#endif
    /* The process's CPUs are those of its first thread. */
    long size = syscall(SYS_sched_getaffinity, getpid(), sizeof cpus, cpus);
    if (size > 0)
        (void)syscall(SYS_sched_setaffinity, 0, size, cpus);
}

int thread_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    pthread_t detached;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0)
        return -EAGAIN;
    if (!thread)
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread ? thread : &detached, &attributes, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}
