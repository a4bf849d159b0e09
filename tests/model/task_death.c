/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An exec is reserved while the leader dies. Either it is refused, or the leader's exit waits for
 * the exec's.
 */
#include "task_test.h"

static struct exitbus_process *leader, *child;

int process_adopt(struct exitbus *of, pid_t pid, struct exitbus_process **process)
{
    (void)of;
    *process = pid == LEADER ? leader : child;
    return 0;
}

static void *starter(void *reserved)
{
    struct exitbus_exec *exec;
    int result = exec_reserve(task, "a", &exec);
    task_unref(task);
    assert(result == 0 || result == -EOWNERDEAD);
    *(bool *)reserved = result == 0;
    if (result < 0)
        return reserved;
    assert(exec_started(exec, CHILD, -1) == 0);
    exec_unref(exec);
    return reserved;
}

int main(void)
{
    pthread_t thread;
    bool reserved;
    begin();
    leader = process_new(LEADER);
    child = process_new(CHILD);
    end_process(child);
    struct exitbus_exec *exec = reserve("");
    assert(exec_started(exec, LEADER, -1) == 0);
    exec_unref(exec);
    pass();
    pthread_create(&thread, NULL, starter, &reserved);
    end_process(leader);
    reap();
    pthread_join(thread, NULL);
    if (!reserved)
        process_unref(child);
    if (reserved)
        assert(strlen(told) == 5 && told[4] == 'l' && strchr(told, 'A') < strchr(told, 'a'));
    else
        assert(strcmp(told, "LDl") == 0);
    check_freed();
    return 0;
}
