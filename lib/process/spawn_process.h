/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The process that a spawn has made, as its parent has it. */
#ifndef EXITBUS_SPAWN_PROCESS_H
#define EXITBUS_SPAWN_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Attempts at a call that fails for the moment; one that a filter refuses fails every time. */
#define SPAWN_ATTEMPTS 16
/* Lower descriptors are standard input, output and error, which belong to the program. */
#define LOWEST_FD 3

struct process {
    bool pidfd_by_clone; /* ask the kernel for a pidfd with the child; else it is opened later */
    pid_t pid;
    int pidfd; /* negative: none yet */
};

/*
 * Is it a child of the kind that the options of waitid() stand for? It is named by its pidfd, if it
 * has one, since a child that was reaped gives its pid to others.
 * Returns 1 if it is, 0 if not, -1 if waitid() is refused.
 */
int process_find(const struct process *process, int options);

/*
 * Wait for a child that was not handed over, and reap it. Where waitid() is refused a zombie stays.
 * Returns whether the child has exited by itself. Context: blocks until it has ended.
 */
bool process_reap(pid_t pid, int options);

/*
 * Open a pidfd of a child. Returns it; -ESRCH: the child was reaped, and its pid may be another
 * process's; or another -errno.
 */
int process_open_pidfd(pid_t pid);

void process_close_pidfd(struct process *process);

#endif
