/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A run in a process of its own, and what is left of it. The subject may crash, hang, or end the
 * process: the process that watches over it writes the reports all the same.
 */
#ifndef STRESS_SUPERVISE_H
#define STRESS_SUPERVISE_H

/* How a run has come to its end. */
struct end {
    int status; /* its exit status; or -1 */
    int signal; /* that has ended it; or 0 */
};

/* Run body() in a child process, which ends with its result. Context: has one thread. */
struct end supervise(int (*body)(void));

#endif
