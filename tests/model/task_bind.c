/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An exec is bound while one thread ends its process, and another one makes the passes. Its exit is
 * told, behind its start.
 */
#include "task_child.h"

static void *binder(void *exec)
{
    assert(exec_started(exec, CHILD, -1) == 0);
    exec_unref(exec);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    begin();
    child = process_new(CHILD);
    struct exitbus_exec *exec = reserve("a");
    task_unref(task);
    pass();
    pthread_create(&threads[0], NULL, binder, exec);
    pthread_create(&threads[1], NULL, ending, NULL);
    reap();
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(strcmp(told, "Aa") == 0);
    check_freed();
    return 0;
}
