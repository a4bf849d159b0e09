/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For programs of tasks with one child, which is what is found by whatever pid an exec is bound. */
#ifndef TASK_CHILD_H
#define TASK_CHILD_H

#include "task_test.h"

static struct exitbus_process *child;

int process_adopt(struct exitbus *of, pid_t pid, struct exitbus_process **process)
{
    (void)of, (void)pid;
    *process = child;
    return 0;
}

/* By a thread of its own, as one that waits for it directly. */
static inline void *ending(void *nothing)
{
    end_process(child);
    return nothing;
}

#endif
