/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Real children, and who collects them: through the subject where it can, otherwise by the engine's
 * own plain reaper, which peeks, publishes, and reaps.
 */
#ifndef STRESS_CHILDREN_H
#define STRESS_CHILDREN_H

#include "world.h"

struct child {
    pid_t pid;
    void *subscription; /* to its exit */
};

/*
 * Start the small program of tests/support/tiny.c with argument `what`, subscribed to before it can
 * exit. `orphans`: how many more exits it brings about. 0 or a negative errno value.
 */
int child_start(struct child *child, const char *what, unsigned orphans);

/* Start a child that exits at once, past the subject, with no subscription to its exit. */
void child_foreign(void);

/* Start so many like that, which exit all at the same time. Returns how many there are. */
unsigned child_foreign_together(unsigned how_many);

/*
 * Start one past the subject, with no subscription to its exit. `deaf`: it is not told of SIGTERM.
 * `gate`, if it is not NULL: it waits until child_let_go() has had that descriptor. 0 or a negative
 * errno value.
 */
int child_past(pid_t *pid, const char *what, bool deaf, int *gate);
void child_let_go(int gate);

/*
 * Have the kernel give out that pid next, if it lets us. By itself none does so within
 * microseconds.
 * Context: in a pid namespace where that concerns nobody else.
 */
void child_wish_pid(pid_t pid);

/* Fork; in the child, run body(argument) and exit with what it returns. The parent, subscribed to
 * the child's exit, gets its pid, or a negative errno value. */
int child_fork(struct child *child, int (*body)(void *), void *argument);

/* Collect every child, orphans included. 0 or a negative errno value. */
int reaper_start(void);
int reaper_stop(void);

/* Visit each child of this process. Returns how many of the visits said true. */
unsigned for_each_child(bool (*visit)(pid_t pid, char state));

/* Children of this process that have exited and were not reaped. */
unsigned count_zombies(void);

#endif
