/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * News of one exec by two threads: its process ends, and its exit, which was held back, is let go.
 * The reaper looks meanwhile. The exit is told once, and the exec is freed behind the last of the
 * three.
 */
#include "task_child.h"

static struct exitbus_exec *exec;

static void *letting_go(void *nothing)
{
    assert(exec_cancel(exec) == 0);
    exec_unref(exec);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    begin();
    child = process_new(CHILD);
    exec = reserve("a");
    task_unref(task);
    assert(exec_started(exec, CHILD, -1) == 0 && exec_restarting(exec) == 0);
    pass();
    pthread_create(&threads[0], NULL, letting_go, NULL);
    pthread_create(&threads[1], NULL, ending, NULL);
    reap();
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(strcmp(told, "Aa") == 0);
    check_freed();
    return 0;
}
