/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An exec is reserved and bound while its process ends. Its exit is told, once, behind its start;
 * and then all is freed.
 */
#include "task_test.h"

static struct exitbus_process *child;

/* In place of the library's: the child is there. */
int process_adopt(struct exitbus *of, pid_t pid, struct exitbus_process **process)
{
    assert(of == bus && pid == CHILD);
    *process = child;
    return 0;
}

static void *binder(void *nothing)
{
    struct exitbus_exec *exec = reserve("a");
    task_unref(task);
    assert(exec_started(exec, CHILD, -1) == 0);
    check_exit(exec, -1);
    exec_unref(exec);
    return nothing;
}

int main(void)
{
    pthread_t thread;
    begin();
    pass(); /* the leader is listed, so that there is something to wait for */
    child = process_new(CHILD);
    pthread_create(&thread, NULL, binder, NULL);
    end_process(child);
    reap();
    pthread_join(thread, NULL);
    assert(strcmp(told, "Aa") == 0);
    check_freed();
    return 0;
}
