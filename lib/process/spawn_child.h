/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a child that exitbus_spawn() has cloned does until exec. It runs in the parent's memory, on
 * a stack of its own, with all signals blocked: nothing but system calls, and the few atomic
 * instructions that put its subscription in place. Uses: subscription.
 */
#ifndef EXITBUS_SPAWN_CHILD_H
#define EXITBUS_SPAWN_CHILD_H

#include "bus/subscription.h"
#include "process/reaper.h"

/* The kernel's idea of a signal set. */
#define SIGNALS 64
#define SIGNAL_SET_BYTES (SIGNALS / 8)

/* The child's frames lie on another stack and never return: nothing for sanitizers to follow. */
#define CHILD_CODE __attribute__((no_sanitize_address, no_sanitize_thread))

/*
 * Shared by parent and child; where memory is copied, the child has its own. The child writes what
 * is below `began`; the parent reads it when the child has exec'd or ended.
 */
struct child {
    const struct exitbus_spawn_options *options; /* checked */
    const char *path;
    char *const *envp;
    const char *search; /* PATH, or NULL: `path` as it is */
    char *buffer;       /* PATH_MAX bytes for the child */
    uint64_t signal_mask;
    uint64_t reset_ignored;    /* signals whose default action is set even if they are ignored */
    uint64_t ignored;          /* the parent's ignored signals */
    bool ignored_known;        /* … were to be had; else the child looks at each signal */
    bool handlers_reset;       /* by the kernel, as it made the child */
    bool named;                /* the kernel writes `pid` before the child runs */
    pid_t pid;                 /* as the parent has it; 0: not known */
    struct child_watch *watch; /* reserved with the reaper that will collect it */
    struct exitbus_subscription *subscription; /* or NULL */
    /* Where memory is copied: wait for a byte here before exec, and report an error there. */
    int gate_fd;
    int gate_other_fd; /* the parent's end, of which the child has a copy */
    int report_fd;
    bool began;                         /* the child runs, in this memory */
    bool announced;                     /* child_announce() is done */
    struct exitbus_spawn_report report; /* the latest step; a positive errno if it has failed */
};

/* For clone(); the argument is a struct child. Does not return. */
int child_main(void *argument);

/*
 * Make the child's exit visible to its subscription and to the reaper, under the pid that the
 * parent's namespace has for it. Must come before exec. A few atomic instructions.
 * Context: the child; or the parent, where the child can't.
 */
void child_announce(struct child *child, pid_t pid);

#endif
