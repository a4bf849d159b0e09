/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads of the library's own: see thread.h. */
#include "thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

/* What can't be set is left as it is: a thread that is scheduled worse is better than none. */
static void set_scheduling(pthread_attr_t *attributes)
{
    static const struct sched_param other = {0};
    cpu_set_t cpus;
    pthread_attr_setinheritsched(attributes, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(attributes, SCHED_OTHER);
    pthread_attr_setschedparam(attributes, &other);
    if (sched_getaffinity(getpid(), sizeof cpus, &cpus) == 0) /* the first thread's */
        pthread_attr_setaffinity_np(attributes, sizeof cpus, &cpus);
}

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error == 0) {
        set_scheduling(&attributes);
        error = pthread_create(thread, &attributes, run, argument);
        pthread_attr_destroy(&attributes);
    }
    if (error != 0 && error != EAGAIN) /* the kernel refuses what was asked for: without */
        error = pthread_create(thread, NULL, run, argument);
    if (error == 0)
        pthread_setname_np(*thread, name);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}
