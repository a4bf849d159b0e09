/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The child of a spawn until exec. It runs in the parent's memory, on a stack of its own, with all
 * signals blocked. So it makes system calls and announces itself, and does nothing else.
 */
#ifndef EXITBUS_SPAWN_CHILD_H
#define EXITBUS_SPAWN_CHILD_H

#include "process/handover.h"

/* A signal set of the kernel. */
#define SIGNALS 64
#define SIGNAL_SET_BYTES (SIGNALS / 8)

/* The child's stack. A program that is bound lazily may look up symbols on it. */
#define CHILD_STACK ((size_t)24 * 1024)

/*
 * Shared by parent and child; where memory is copied, the child has its own. The parent writes it
 * before the child runs. The child writes `handover` and the last two. The parent reads those when
 * the child has exec'd or ended.
 */
struct child {
    const struct exitbus_spawn_options *options; /* checked */
    const char *path;
    char *const *envp;
    const char *search;     /* PATH; NULL: `path` as it is */
    const char **shell;     /* the arguments of a shell, but for the program; NULL: no shell */
    pid_t parent;           /* as the child has it, unless in another pid namespace */
    bool in_cgroup;         /* the clone puts the child there */
    bool enters_cgroup;     /* by itself, since one that is cloned there is killed */
    char *buffer;           /* PATH_MAX bytes for the child */
    uint64_t signal_mask;   /* of the program */
    uint64_t reset_ignored; /* signals whose default action is set even if they are ignored */
    uint64_t ignored;       /* the signals that the parent ignores */
    bool ignored_known;     /* false: `ignored` is not, and the child looks at each signal */
    bool handlers_reset;    /* by the kernel, with the clone */
    bool named;             /* the kernel writes `pid` before the child runs */
    pid_t pid;              /* as the parent has it; 0: not written */
    struct handover handover;
    int gate_fd;                        /* copied memory: the byte that allows exec; else -1 */
    int gate_other_fd;                  /* the parent's end, of which the child has a copy */
    int report_fd;                      /* copied memory: an error is reported here; else -1 */
    bool began;                         /* the child runs, in this memory */
    struct exitbus_spawn_report report; /* the latest step; `error` is positive if it has failed */
};

/* Note a step before it is tried, for the report, and for a child that is killed in it. */
static inline CHILD_CODE void child_begin_step(struct child *child, enum exitbus_spawn_step step,
                                               size_t index)
{
    child->report.step = step;
    child->report.index = index;
}

/* Be the child, for clone(). The argument is a struct child. Does not return. */
int child_main(void *argument);

#endif
