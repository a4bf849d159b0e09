/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * One thread binds an exec, another one cancels it, and both give it up. One of the two has its
 * way, and the exec and its task are freed once.
 */
#include "task_child.h"

static struct exitbus_exec *exec;
static int bound, cancelled;

static void *binder(void *nothing)
{
    bound = exec_started(exec, CHILD, -1);
    exec_unref(exec);
    return nothing;
}

static void *canceller(void *nothing)
{
    struct exitbus_event event;
    cancelled = exec_cancel(exec);
    int result = exec_wait(exec, &event, 0);
    assert(result == -EAGAIN || result == 0 || result == -ECANCELED);
    exec_unref(exec);
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    begin();
    child = process_new(CHILD);
    end_process(child);
    exec = reserve("a");
    fetch_add_relaxed(&exec->handles, 1); /* one for each thread */
    pass();
    pthread_create(&threads[0], NULL, binder, NULL);
    pthread_create(&threads[1], NULL, canceller, NULL);
    task_unref(task);
    reap();
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(bound == 0 || bound == -ECANCELED);
    assert(cancelled == 0 || (cancelled == -EBUSY && bound == 0));
    assert(strcmp(told, bound == 0 ? "Aa" : "") == 0);
    if (bound < 0)
        process_unref(child);
    check_freed();
    return 0;
}
