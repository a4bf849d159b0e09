/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a child that exitbus_spawn() has cloned does until exec. It runs in the parent's memory, on
 * a stack of its own, with all signals blocked: nothing but system calls, and the few atomic
 * instructions that put its subscription in place. Uses: subscription.
 */
#ifndef EXITBUS_SPAWN_CHILD_H
#define EXITBUS_SPAWN_CHILD_H

#include "reaper.h"
#include "subscription.h"

/* The kernel's idea of a signal set. */
#define SIGNALS 64
#define SIGNAL_SET_BYTES (SIGNALS / 8)

struct child {
    const struct exitbus_spawn_options *options; /* checked */
    const char *path;
    char *const *envp;
    const char *search; /* PATH, or NULL: `path` as it is */
    uint64_t signal_mask;
    bool handlers_reset;          /* by the kernel, as it made the child */
    pid_t pid;                    /* as the parent has it; 0: ask */
    struct child_watch *watch; /* reserved with the reaper that will collect it */
    struct exitbus_subscription *subscription; /* or NULL */
    int error;                                 /* positive; set by a child that gives up */
    /* Where memory is copied: wait for a byte here before exec, and report an error there. */
    int gate_fd;
    int gate_other_fd; /* the parent's end, of which the child has a copy */
    int error_fd;
};

/* For clone(); the argument is a struct child. Does not return. */
int child_main(void *argument);

#endif
