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

/*
 * Run body() in a child process, which ends with its result. If the heart of the child stands still
 * for too long, or SIGINT or SIGTERM comes, the child is ended. What it leaves behind is ended,
 * too, but no child that this process had before. Context: has one thread.
 */
struct end supervise(int (*body)(void));

/* The SIGINT or SIGTERM that came; 0: none. */
int supervise_interrupted(void);

/* In the child, every now and then, as soon as it has begun to: it is alive. */
void supervise_beat(void);
/* It will not beat any more, and is well. */
void supervise_rest(void);

#endif
