/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An exec is cancelled, and its task given up, while both are news already. The reaper takes them
 * off meanwhile, and still finds what has become of them: a wait ends, and all is freed.
 */
#include "task_test.h"

static int before_cancel;

static void *giving_up(void *exec)
{
    before_cancel = 1;
    assert(exec_cancel(exec) == 0);
    exec_unref(exec);
    task_unref(task);
    return NULL;
}

static void *waiter(void *exec)
{
    struct exitbus_event event;
    assert(exec_wait(exec, &event, -1) == -ECANCELED && before_cancel == 1);
    assert(exec_started(exec, CHILD, -1) == -ECANCELED);
    exec_unref(exec);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    begin();
    struct exitbus_exec *exec = reserve("a");
    fetch_add_relaxed(&exec->handles, 1); /* one for each thread */
    pthread_create(&threads[0], NULL, giving_up, exec);
    pthread_create(&threads[1], NULL, waiter, exec);
    pass(); /* the first look at both */
    reap();
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    assert(strcmp(told, "") == 0);
    check_freed();
    return 0;
}
