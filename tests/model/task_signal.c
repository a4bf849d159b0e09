/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One thread ends a task while another one binds an exec. The process of the exec is signalled
 * once, whichever comes first, and ends by it.
 */
#include "task_child.h"

static int signalled;

/* The process ends. The look at that comes behind the signal, as a pass of its own. */
int sys_pidfd_signal(int pidfd, int signal, bool group)
{
    (void)pidfd;
    assert(signal == 15 && !group);
    signalled++;
    end_process(child);
    return 0;
}

static void *binder(void *exec)
{
    assert(exec_started(exec, CHILD, -1) == 0);
    check_exit(exec, -1); /* and until then there is no other news of the task */
    exec_unref(exec);
    task_unref(task);
    return NULL;
}

static void *ender(void *nothing)
{
    assert(task_end(task, 15, -1) == 0);
    task_unref(task);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    begin();
    child = process_new(CHILD);
    store_relaxed(&child->watch.pidfd, sys_eventfd(false));
    struct exitbus_exec *exec = reserve("a");
    fetch_add_relaxed(&task->handles, 1); /* one for each thread */
    pthread_create(&threads[0], NULL, binder, exec);
    pthread_create(&threads[1], NULL, ender, NULL);
    pass(); /* the first look at both */
    reap();
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(signalled == 1 && strcmp(told, "Aa") == 0);
    check_freed();
    return 0;
}
