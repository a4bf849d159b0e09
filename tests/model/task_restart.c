/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An exit is held back while the reaper finds it. Either it is on its way, and the call says so; or
 * it is told behind the second start.
 */
#include "task_child.h"

static struct exitbus_exec *exec;

static void *starter(void *held)
{
    int result = exec_restarting(exec);
    assert(result == 0 || result == -ESRCH);
    *(bool *)held = result == 0;
    if (result == 0)
        assert(exec_started(exec, 0, -1) == 0);
    exec_unref(exec);
    return held;
}

int main(void)
{
    pthread_t thread;
    bool held;
    begin();
    child = process_new(CHILD);
    exec = reserve("a");
    task_unref(task);
    assert(exec_started(exec, CHILD, -1) == 0);
    pass();
    pthread_create(&thread, NULL, starter, &held);
    end_process(child);
    reap();
    pthread_join(thread, NULL);
    assert(strcmp(told, held ? "AAa" : "Aa") == 0);
    check_freed();
    return 0;
}
